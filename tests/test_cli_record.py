"""`isjax record` from outside, and that what it logs is what was played."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from isjax import ope
from isjax.cli import main
from isjax.commands.record import Behavior, parse_behavior
from isjax.learner import Config, make_learner
from isjax.learner.learner import make_agent
from isjax.learner.recording import record
from tests.learner.probes import Probe

TRAIN = "train --env Catch-bsuite --steps 640 --num-envs 4 --unroll-length 8 --torso 8 --learners 2 --quiet"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main([*TRAIN.split(), "--devices", "1", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def recorded(run):
    out = run.parent / "log.parquet"
    assert main(f"record {run} --episodes 300 --behavior mixture:0.5 --truth-episodes 500 --out {out}".split()) == 0
    return out


def test_the_log_is_whole_and_says_what_it_is(recorded):
    log, about = pd.read_parquet(recorded), json.loads((recorded.parent / "log.parquet.json").read_text())
    assert list(log) == ["episode", "step", "reward", "log_pi", "log_mu"]
    assert log["episode"].nunique() == about["episodes"] == 300
    assert (log.groupby("episode").size() == 9).all()  # Catch takes nine steps, and pays at the last
    assert (log["reward"][log["step"] < 8] == 0).all()
    assert about["rows"] == len(log)
    assert about["discount"] == 0.99
    assert about["true_value"]["episodes"] == 500
    assert np.abs(np.exp(log["log_mu"]) - 0.5 * (np.exp(log["log_pi"]) + 1 / 3)).max() < 1e-5


def test_the_loop_closes(recorded, capsys):
    """What the log says of the policy agrees with what the policy did itself."""
    about = json.loads((recorded.parent / "log.parquet.json").read_text())
    place = recorded.parent / "estimates.json"
    assert main(["evaluate", str(recorded), "--discount", "0.99", "--json", str(place)]) == 0
    of, truth = json.loads(place.read_text())["estimates"]["per_decision_is"], about["true_value"]
    error = np.hypot(of["standard_error"], truth["standard_error"])
    assert abs(of["value"] - truth["mean"]) < 4 * error


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_every_format_holds_the_same_rows(run, recorded, kind):
    out = run.parent / f"log.{kind}"
    assert main(f"record {run} --episodes 300 --behaviour mixture:0.5 --truth-episodes 0 --out {out}".split()) == 0
    for x, y in zip(ope.read_log(out), ope.read_log(recorded), strict=True):
        if x is not None:
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    assert "true_value" not in json.loads((run.parent / f"log.{kind}.json").read_text())


def test_another_learner_may_act(run):
    out = run.parent / "other.npz"
    assert (
        main(f"record {run} --episodes 20 --learner 0 --behavior learner:1 --truth-episodes 0 --out {out}".split()) == 0
    )
    columns = np.load(out)
    assert np.abs(columns["log_pi"] - columns["log_mu"]).max() > 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("RUN --out x.txt", "--out must end in .parquet, .csv, .npz, but it is 'x.txt'."),
        ("RUN --out /nowhere/x.csv", "--out must be a file in a folder that is there, but it is '/nowhere/x.csv'."),
        ("RUN --out x.csv --episodes 0", "--episodes must be at least 1, but it is 0."),
        ("RUN --out x.csv --behavior mixture:2", "--behavior must be policy, uniform, mixture:SHARE with a share in"),
        ("RUN --out x.csv --behavior greedy", "--behavior must be policy, uniform, mixture:SHARE with a share in"),
        ("RUN --out x.csv --learner 7", "--learner must be from 0 to 1, but it is 7."),
        ("RUN --out x.csv --learner worst", "--learner must be best or an index, but it is 'worst'."),
        ("/nowhere --out x.csv", "/nowhere must be the folder of a run, but it holds no config.json."),
        ("RUN", "--out is missing."),
    ],
)
def test_bad_arguments_are_one_line(run, tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    assert main(["record", *argv.replace("RUN", str(run)).split()]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"isjax record: error: {message}")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_behaviors_are_read():
    assert parse_behavior("policy") == Behavior()
    assert parse_behavior("uniform") == Behavior(uniform_share=1.0)
    assert parse_behavior("learner:3") == Behavior(learner=3)


def test_a_mixture_with_uniform_squashed_actions_has_the_density_that_its_samples_show():
    """ρ = π/μ averages to 1 over μ's actions, and so does μ's density over a grid of actions."""
    config = Config(env="Pendulum-v1", num_envs=2, unroll_length=4, torso=(8,))
    state = make_learner(config).init(jax.random.key(0))
    recording = record(make_agent(config), state, jax.random.key(1), episodes=512, uniform_share=0.3)
    ratio = np.exp(recording.log_pi_tm1 - recording.log_mu_tm1)
    assert ratio.max() <= 1 / 0.7 + 1e-4
    assert abs(ratio.mean() - 1.0) < 5 * ratio.std() / np.sqrt(ratio.size)
    # Uniform over the torque's range [−2, 2]: its density is a quarter.
    np.testing.assert_allclose(
        np.exp(recording.log_mu_tm1), 0.7 * np.exp(recording.log_pi_tm1) + 0.3 / 4.0, rtol=1e-3, atol=1e-5
    )


def test_uniform_actions_are_refused_where_they_have_no_density():
    config = Config(env="Pendulum-v1", box_actions="clip", torso=(8,))
    state = make_learner(config).init(jax.random.key(0))
    with pytest.raises(ValueError, match="uniform_share must be 0 where actions are unbounded or clipped"):
        record(make_agent(config), state, jax.random.key(1), episodes=2, uniform_share=0.5)


def test_rows_beyond_an_episode_are_no_rows():
    config = Config(num_envs=2, unroll_length=4, torso=(8,))
    agent = make_agent(config, environment=Probe(3))
    state = make_learner(config, environment=Probe(3)).init(jax.random.key(0))
    recording = record(agent, state, jax.random.key(1), episodes=5)
    assert recording.as_log().is_valid_t.sum() == 15
    columns = recording.as_columns()
    np.testing.assert_array_equal(columns["step"], [0, 1, 2] * 5)
    np.testing.assert_array_equal(columns["episode"], np.repeat(np.arange(5), 3))
    assert jnp.all(recording.log_pi_tm1 == recording.log_mu_tm1)
