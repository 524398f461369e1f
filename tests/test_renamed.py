import dataclasses
import json
import signal

import jax
import jax.numpy as jnp
import pyarrow.parquet as pq
import pytest

from isjax.cli import main
from isjax.commands import train
from isjax.learner import Config, Hyper
from isjax.networks import ActorCritic
from isjax.run import plan as plan_module
from isjax.run.files import sealed
from isjax.run.options import Options
from isjax.run.plan import Plan
from isjax.run.settings import read_vary
from isjax.run.sweep import read_sweep
from isjax.run.train import Run
from isjax.run.training import Training


def former(plan: dict) -> dict:
    """A plan in JSON as the version before wrote it."""
    config = dict(plan["config"])
    shares = config.pop("share_torso")
    return plan | {"config": config | {"towers": "shared" if shares else "separate"}}


@pytest.mark.parametrize(("value", "shares"), [("shared", True), ("separate", False)])
def test_a_setting_is_taken_and_read_by_its_former_name_with_a_warning(value, shares):
    with pytest.warns(DeprecationWarning, match="towers is share_torso now"):
        config = Config(towers=value)
    assert config == Config(share_torso=shares)
    with pytest.warns(DeprecationWarning, match="towers is share_torso now"):
        assert dataclasses.replace(Config(share_torso=not shares), towers=value) == config
    with pytest.warns(DeprecationWarning, match="towers is share_torso now"):
        assert config.towers == value


def test_a_former_setting_takes_its_former_values_alone():
    with (
        pytest.warns(DeprecationWarning, match="towers"),
        pytest.raises(ValueError, match="towers must be one of shared, separate, but it is 'both'"),
    ):
        Config(towers="both")


def test_a_network_is_made_by_the_former_name_too():
    with pytest.warns(DeprecationWarning, match="towers is share_torso now"):
        network = ActorCritic(num_params=2, torso=(3,), towers="separate")
    params = network.init(jax.random.key(0), jnp.zeros((1, 2)))["params"]
    assert {"torso", "value_torso"} <= params.keys()


@pytest.mark.parametrize("flags", [["--towers", "separate"], ["--towers=separate"]])
def test_a_flag_is_taken_by_its_former_name_and_the_line_says_what_it_is_now(flags, monkeypatch, capsys):
    monkeypatch.setattr(train, "run_job", lambda name, given, prepare: int(given.program.share_torso))
    assert main(["train", "--env", "Catch-bsuite", *flags]) == 0
    assert "--towers is --no-share-torso now." in capsys.readouterr().err


def test_a_former_flag_with_a_value_that_it_never_took_is_refused_in_one_line(tmp_path, capsys):
    assert main(["train", "--towers", "both", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "isjax train: error: --towers must be one of shared, separate, but it is 'both'.\n"
    )


def test_a_sweep_and_its_file_take_former_names(tmp_path):
    from isjax.commands.settings_file import read_file
    from isjax.commands.sweep import SweepFlags

    assert read_vary(["towers=shared,separate"]) == {"share_torso": (True, False)}
    path = tmp_path / "sweep.toml"
    path.write_text('towers = "separate"\n[vary]\ntowers = ["separate", "shared"]\n')
    file = read_file(str(path), SweepFlags)
    assert file.flags == {"share_torso": False}
    assert file.vary == {"share_torso": (False, True)}


def test_a_saved_sweep_is_read_by_present_names(tmp_path):
    plan = Plan(config=Config(share_torso=False), hyper=Hyper(), learners=2, replicas=2)
    group = {"settings": [0], "plan": former(plan.as_json())}
    content = sealed({"settings": [{"towers": "separate"}], "groups": [group]})
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    settings, groups = read_sweep(tmp_path)
    assert settings == [{"share_torso": "false"}]
    assert groups[0].plan.config == plan.config


def test_a_run_that_the_version_before_began_goes_on_to_the_same_table(tmp_path, monkeypatch):
    config = Config(env="Catch-bsuite", steps=32, num_envs=1, unroll_length=4, torso=(4,), share_torso=False)
    plan, same = (Plan(config=config, hyper=Hyper(), learners=2, log_every=1) for _ in range(2))
    options = Options(quiet=True, devices=1, checkpoint_every=0.0)
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    Run(plan, whole, options=options).train()
    digest, record, count = plan_module._digest, Training._record, []

    def interrupted(*args):
        record(*args)
        count.append(None)
        if len(count) == 4:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as before:
        before.setattr(plan_module, "_digest", lambda saved: digest(former(saved)))
        before.setattr(Training, "_record", interrupted)
        assert Run(same, begun, options=options).train()["status"] == "interrupted"
    saved = json.loads((begun / "config.json").read_text())
    content = {name: x for name, x in saved.items() if name in (*plan.as_json(), "grouping")}
    (begun / "config.json").write_text(json.dumps(saved | sealed(former(content))))
    assert Run(plan, begun, resume=True, options=options).train()["status"] == "finished"
    assert pq.read_table(whole / "metrics.parquet").equals(pq.read_table(begun / "metrics.parquet"))
