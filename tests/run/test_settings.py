import dataclasses

import pytest

from isjax.commands.train import starting_point
from isjax.learner.config import Config
from isjax.learner.defaults import defaults
from isjax.run.settings import as_flags, group


@pytest.mark.parametrize(
    ("argv", "resets"),
    [
        ([], 2),
        (["--unroll-length", "256"], 32),
        (["--unroll-length=256"], 32),
        (["--unroll-length", "8"], 1),
        (["--unroll-length", "x"], 2),
        (["--unroll-length", "256", "--algorithm", "ppo"], 0),
        (["--unroll-length", "128", "--env", "Breakout-MinAtar"], 8),
    ],
)
def test_default_resets_follow_the_unroll_length_that_is_asked_for(argv, resets):
    assert starting_point(argv).program.resets_per_unroll == resets


def test_settings_of_a_sweep_have_the_resets_of_their_unroll_length():
    def base(env, algorithm, unroll_length):
        start = starting_point([], env, algorithm, unroll_length)
        return start.program, defaults(env, algorithm)[1]

    settings = [{"unroll_length": 16}, {"unroll_length": 64}, {"unroll_length": 64, "resets_per_unroll": 2}]
    numbers = {"learners": 1, "seed": 0, "log_every": 0}
    found = [group.plan.config for group in group(settings, base, Config(), numbers)]
    assert [(x.unroll_length, x.resets_per_unroll) for x in found] == [(16, 2), (64, 8), (64, 2)]


@pytest.mark.parametrize(("resets", "flags"), [(8, []), (2, ["--resets-per-unroll", "2"])])
def test_the_command_that_repeats_a_setting_comes_to_the_same_resets(resets, flags):
    start, hyper = defaults("CartPole-v1")
    config = dataclasses.replace(start, unroll_length=64, resets_per_unroll=resets)
    command = as_flags(config, hyper, (start, hyper))
    assert command == ["--env", "CartPole-v1", "--unroll-length", "64", *flags]
