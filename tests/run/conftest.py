"""One small run that many tests look at."""

from pathlib import Path

import pytest

from isjax.learner import Config, Hyper
from isjax.report import write_report
from isjax.run.options import Options
from isjax.run.plan import Plan
from isjax.run.train import Run


@pytest.fixture(scope="session")
def plan() -> Plan:
    """Everything that a state can hold is in this one."""
    config = Config(
        env="Catch-bsuite",
        steps=400,
        num_envs=2,
        unroll_length=4,
        actor_lag=2,
        torso=(8,),
        normalize_observations=True,
        normalize_rewards=True,
        evaluation_episodes=2,
    )
    return Plan(config=config, hyper=Hyper(), learners=3, seed=1, log_every=4)


@pytest.fixture(scope="session")
def options() -> Options:
    return Options(quiet=True, devices=1, checkpoint_every=0.0)


@pytest.fixture(scope="session")
def finished(plan, options, tmp_path_factory) -> Path:
    """The folder of a run that nothing interrupted; not to be written to."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    Run(plan, folder, options=options, write_page=write_report).train()
    return folder
