"""`isjax sweep` and `isjax best` from outside."""

import json
import random
import shlex
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isjax.cli import main
from isjax.run.policy import load
from tests.test_cli import environment, finish, said_about, start, wait_for_checkpoint  # noqa: F401

SMALL = """
    --env Catch-bsuite --learners 2 --steps 3200 --num-envs 2 --unroll-length 4 --evaluation-episodes 2
    --log-every 20 --checkpoint-every 0 --devices 1 --draws 2
""".split()  # noqa: SIM905
VARY = ["--vary", "learning_rate=1e-3,3e-2", "--vary", "torso=8,8x4", "--draw", "entropy_cost=log:1e-3:1e-1"]


@pytest.fixture(scope="module")
def whole(environment, tmp_path_factory) -> tuple[Path, str]:  # noqa: F811
    """A sweep that nothing interrupted, and what it said."""
    folder = tmp_path_factory.mktemp("sweeps") / "whole"
    code, out, err = finish(start(environment, "sweep", *SMALL, *VARY, "--out", str(folder)))
    assert code == 0, err
    assert "8 settings of 2 learners, 2 to compile." in err
    assert max(len(line) for line in out.splitlines() if line[:1] in "┏┃┡│└") <= 80
    return folder, out


def test_every_learner_of_every_setting_has_a_row(whole):
    table = pd.read_parquet(whole[0] / "learners.parquet")
    assert len(table) == 16
    assert table["setting"].tolist() == [i for i in range(8) for _ in range(2)]
    assert table["stream"].tolist() == [0, 1] * 8
    assert sorted(set(table["learning_rate"])) == [1e-3, 3e-2]
    assert sorted(set(table["torso"])) == ["8", "8x4"]
    assert table["entropy_cost"].between(1e-3, 1e-1).all()
    assert table["entropy_cost"].nunique() == 2
    assert (table["env_steps"] == 3200).all()
    assert table["return"].between(-1, 1).all()


def test_settings_are_ranked_and_all_of_them_are_there(whole):
    summary = json.loads((whole[0] / "summary.json").read_text())
    ranked = summary["settings"]
    assert summary["learners"] == summary["alive"] == 16
    assert [row["rank"] for row in ranked] == list(range(1, 9))
    assert sorted(row["setting"] for row in ranked) == list(range(8))
    scores = [row["iqm"] for row in ranked]
    assert scores == sorted(scores, reverse=True)


def test_the_line_of_a_setting_repeats_its_learners(whole, environment, tmp_path):  # noqa: F811
    folder, out = whole
    first = json.loads((folder / "summary.json").read_text())["settings"][0]
    assert f"The first one again: {first['train']}" in out
    again = [*shlex.split(first["train"])[1:], "--devices", "1", "--out", str(tmp_path / "again")]
    code, _, err = finish(start(environment, *again))
    assert code == 0, err
    table = pd.read_parquet(folder / "learners.parquet")
    returns = table[table["setting"] == first["setting"]]["return"].tolist()
    assert json.loads((tmp_path / "again" / "summary.json").read_text())["final_return"]["per_learner"] == returns


def test_a_sweep_that_is_killed_again_and_again_ends_with_the_same_table(whole, environment, tmp_path):  # noqa: F811
    folder, dice = tmp_path / "killed", random.Random(0)
    for _ in range(4):
        again = ["--resume"] if (folder / "sweep.json").exists() else []
        process = start(environment, "sweep", *SMALL, *VARY, "--out", str(folder), *again)
        if not again:
            wait_for_checkpoint(folder, process)
        time.sleep(dice.uniform(0.0, 6.0))
        process.kill()
        assert finish(process)[0] in (-signal.SIGKILL, 0)
    code, _, err = finish(start(environment, "sweep", "--resume", "--out", str(folder), "--devices", "1"))
    assert code == 0, err
    for name in ("learners.parquet", "group-0/metrics.parquet", "group-1/metrics.parquet"):
        assert pd.read_parquet(folder / name).equals(pd.read_parquet(whole[0] / name))


def test_what_is_finished_is_not_trained_again(whole, capsys):
    assert main(["sweep", "--resume", "--out", str(whole[0])]) == 0
    assert "is finished: there is nothing to resume" in capsys.readouterr().out
    assert (whole[0] / "report.html").exists()
    assert main(["sweep", *SMALL, *VARY, "--resume", "--out", str(whole[0])]) == 0
    assert "is finished" in capsys.readouterr().out
    for other in (["--learners", "3"], [*SMALL, *VARY, "--discount", "0.5"], ["--vary", "torso=8"]):
        said = said_about(capsys, "sweep", "--resume", "--out", str(whole[0]), *other)
        assert f"--resume must come with the settings of the sweep in {whole[0]}, or with none." in said
    assert "part of a sweep" in said_about(capsys, "train", "--resume", "--out", str(whole[0] / "group-0"))
    assert "--out must not hold another run or sweep" in said_about(capsys, "sweep", *SMALL, "--out", str(whole[0]))


def test_the_best_learner_is_saved_alone_evaluated_and_drawn(whole, capsys, tmp_path):
    assert main(["best", str(whole[0]), "--out", str(tmp_path), "--episodes", "8", "--draw"]) == 0
    said = capsys.readouterr().out
    assert "Return of 8 fresh episodes" in said
    assert (tmp_path / "episode.gif").read_bytes().startswith(b"GIF8")
    settings = json.loads((tmp_path / "settings.json").read_text())
    best = json.loads((whole[0] / "summary.json").read_text())["settings"][0]
    assert settings["hyper"]["learning_rate"] == pytest.approx(float(best["values"]["learning_rate"]))
    policy = load(tmp_path)
    observation = np.zeros((3, *policy.agent.adapter.reset(_key())[0].shape), np.float32)
    action, _ = policy.act(observation)
    assert action.shape == (3,)
    sampled, _ = policy.act(observation, key=_key())
    assert set(np.asarray(sampled)) <= {0, 1, 2}


def test_any_learner_of_a_run_can_be_taken(whole, capsys, tmp_path):
    group = str(whole[0] / "group-1")
    assert main(["best", group, "--learner", "3", "--out", str(tmp_path), "--episodes", "2"]) == 0
    assert "Learner 3 of" in capsys.readouterr().out
    assert "--learner must be from 0 to 7" in said_about(capsys, "best", group, "--learner", "8")
    assert "must be best or an index" in said_about(capsys, "best", group, "--learner", "x")
    assert "must be the folder of a run" in said_about(capsys, "best", str(tmp_path))


def test_a_file_says_the_same_as_flags(tmp_path, capsys, monkeypatch):
    file = tmp_path / "sweep.toml"
    file.write_text(
        'learners = 2\nenv = "Catch-bsuite"\nsteps = 64\nnum_envs = 2\nunroll_length = 4\nhalvings = 1\n'
        "[vary]\ntorso = [[8], [8, 4]]\nlearning_rate = [1e-3, 1e-2]\n"
        '[draw]\nentropy_cost = {scale = "log", low = 1e-3, high = 1e-1}\n'
    )
    seen = {}

    class Nothing:
        def __init__(self, settings, groups, folder, **_):
            seen.update(settings=settings, groups=groups)

        def train(self):
            return {"status": "interrupted"}

    monkeypatch.setattr("isjax.run.sweep.Sweep", Nothing)
    out = ["--out", str(tmp_path / "x"), "--quiet"]
    assert main(["sweep", "--file", str(file), *out]) == 130
    from_file = seen["settings"], [group.plan.as_json() for group in seen["groups"]]
    flags = """--learners 2 --env Catch-bsuite --steps 64 --num-envs 2 --unroll-length 4 --halvings 1
        --vary torso=8,8x4 --vary learning_rate=1e-3,1e-2 --draw entropy_cost=log:1e-3:1e-1"""
    assert main(["sweep", *flags.split(), *out]) == 130
    assert from_file == (seen["settings"], [group.plan.as_json() for group in seen["groups"]])
    assert main(["sweep", "--file", str(file), "--learners", "5", *out]) == 130
    assert seen["groups"][0].plan.per_setting == 5
    capsys.readouterr()


def test_settings_of_several_environments_start_from_their_own_defaults(tmp_path, capsys, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "isjax.run.sweep.Sweep",
        type(
            "Nothing",
            (),
            {
                "__init__": lambda self, s, groups, f, **_: seen.update(g=groups),
                "train": lambda self: {"status": "interrupted"},
            },
        ),
    )
    main(["sweep", "--vary", "env=CartPole-v1,Catch-bsuite", "--seed", "3", "--out", str(tmp_path / "x"), "--quiet"])
    plans = [group.plan for group in seen["g"]]
    assert [(plan.config.env, plan.config.torso, plan.seed) for plan in plans] == [
        ("CartPole-v1", (64,), 3),
        ("Catch-bsuite", (64, 64), 3),
    ]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--vary seed=1,2", "--vary cannot take seed: every setting has the same learners"),
        ("--vary lerning_rate=1,2", "--vary must name a field of Config or Hyper, but it is 'lerning_rate'; did you"),
        ("--vary learning_rate", "--vary must be NAME=VALUE,VALUE,…, but it is 'learning_rate'."),
        ("--vary learning_rate=x", "--learning-rate must be a number, but it is 'x'."),
        ("--vary learning_rate=1,1", "--vary must give --learning-rate different values"),
        ("--vary learning_rate=-1", "--learning-rate must be at least 0, but it is -1.0."),
        ("--vary num_envs=2,x", "--num-envs must be a whole number, but it is 'x'."),
        ("--vary num_envs=0", "--num-envs must be at least 1, but it is 0."),
        (
            "--vary network=mlp,foo",
            "--network must be one of mlp, residual, conv, patches, nature, nature-patches, impala, impala-patches, "
            "but it is 'foo'.",
        ),
        ("--vary torso=8 --vary torso=4", "--vary must name each field once, but torso is there twice."),
        ("--draw num_envs=log:1:9", "--draw cannot take --num-envs: every value of it is a program of its own"),
        ("--draw discount=log:0:1", "--draw must be NAME=uniform:LOW:HIGH, or NAME=log:LOW:HIGH with LOW above 0"),
        ("--file /nowhere.toml", "--file cannot be read"),
        ("--draws 0", "--draws must be at least 1, but it is 0."),
        ("--halvings -1", "--halvings must be at least 0, but it is -1."),
    ],
)
def test_bad_arguments_are_one_line_that_says_what_to_do(argv, message, capsys, tmp_path):
    said = said_about(capsys, "sweep", *argv.split(), "--quiet", "--out", str(tmp_path / "x"))
    assert said.startswith(f"isjax sweep: error: {message}")


def test_resuming_where_there_is_no_sweep_starts_none(capsys, tmp_path):
    assert "must be the folder of a sweep" in said_about(capsys, "sweep", "--resume", "--out", str(tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()


def _key():
    import jax

    return jax.random.key(0)
