import dataclasses

import pytest

from isjax.learner.defaults import defaults, with_unroll_length


@pytest.mark.parametrize(
    ("env", "length", "resets"),
    [
        ("CartPole-v1", 16, 2),
        ("CartPole-v1", 8, 1),
        ("CartPole-v1", 256, 32),
        ("CartPole-v1", 17, 3),
        ("Breakout-MinAtar", 16, 1),
        ("Breakout-MinAtar", 128, 8),
        ("Acrobot-v1", 256, 0),
    ],
)
def test_resets_of_an_unroll_follow_its_length(env, length, resets):
    config = defaults(env)[0]
    expected = dataclasses.replace(config, unroll_length=length, resets_per_unroll=resets)
    assert with_unroll_length(config, length) == expected
