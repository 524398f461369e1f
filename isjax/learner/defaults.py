"""Defaults by environment, with those that an algorithm has in their place (see `Algorithm.defaults`)."""

import dataclasses
from typing import Any

from isjax._renamed import SETTINGS
from isjax.learner.algorithms import algorithms
from isjax.learner.config import Config, Hyper

_FAMILIES: dict[str, tuple[str, ...]] = {
    "CartPole": ("CartPole-v1",),
    "control": (
        "Acrobot-v1",
        "MountainCar-v0",
        "MountainCarContinuous-v0",
        "Pendulum-v1",
        "PointRobot-misc",
        "Reacher-misc",
        "Swimmer-misc",
    ),
    "memory": ("MemoryChain-bsuite",),
    "MinAtar": (
        "Asterix-MinAtar",
        "Breakout-MinAtar",
        "Freeway-MinAtar",
        "Seaquest-MinAtar",
        "SpaceInvaders-MinAtar",
    ),
}

# Observations and rewards of very different sizes; episodes are cut after 1,000 steps.
_LOCOMOTION: dict[str, Any] = dict(
    steps=1_000_000,
    normalize_observations=True,
    normalize_rewards=True,
    entropy_cost=0.0,
    num_envs=16,
    unroll_length=32,
    learning_rate=3e-3,
    discount=0.995,
    reset_pool=16,
    reset_interval=32,
)

_SETTINGS: dict[str, dict[str, Any]] = {
    # No third episode of CartPole ends within 16 steps (the shortest takes 8), so that two draws are exact.
    "CartPole": dict(torso=(64,), learning_rate=5e-3, discount=0.98, resets_per_unroll=2),
    # Observations and rewards of very different sizes; a bonus for entropy would drown what little is rewarded.
    "control": dict(steps=1_000_000, normalize_observations=True, normalize_rewards=True, entropy_cost=0.0),
    # Unrolls hold whole episodes of a chain of length 10 or more.
    "memory": dict(steps=1_000_000, memory="gru", torso=(32,), num_envs=16, unroll_length=32),
    # With less entropy every learner settles on the first rally that pays.
    "MinAtar": dict(steps=10_000_000, entropy_cost=0.03, resets_per_unroll=1),
    # A world takes as long to make as 27 steps, and episodes of a random policy last about 200.
    "craftax": dict(steps=10_000_000, reset_pool=16, reset_interval=128, torso=(256,), num_envs=16),
    "brax": _LOCOMOTION,
    "playground": _LOCOMOTION,
    "suite": dict(steps=1_000_000, reset_pool=32, reset_interval=16),
}


def defaults(env: str, algorithm: str = "impala") -> tuple[Config, Hyper]:
    """The settings that a run of `algorithm` on `env` starts from.

    Args:
      env: environment id; one that has no entry gets the general defaults.
      algorithm: name of a registered algorithm, or MODULE:NAME.

    Returns:
      `(Config, Hyper)`.

    Raises:
      ValueError: there is no such algorithm.

    >>> defaults("CartPole-v1")[0].steps
    500000
    """
    family = family_of(env)
    kind = algorithms.get(algorithm)
    settings = (_SETTINGS[family] if family else {}) | dict(kind.defaults)
    settings |= kind.family_defaults.get(family, {}) if family else {}
    static = {field.name for field in dataclasses.fields(Config)} | SETTINGS.keys()
    config = Config(env=env, algorithm=algorithm, **{k: v for k, v in settings.items() if k in static})
    return config, Hyper(**{k: v for k, v in settings.items() if k not in static})


def family_of(env: str) -> str | None:
    """The family whose settings an environment starts from; `None` where these are the general ones.

    >>> family_of("CartPole-v1"), family_of("brax/ant"), family_of("jumanji/Snake-v1")
    ('CartPole', 'brax', 'suite')
    """
    suite, slash, _ = env.partition("/")
    if slash and ":" not in suite:
        return suite if suite in _SETTINGS else "suite"
    return next((name for name, members in _FAMILIES.items() if env in members), None)


def settings_of(env: str) -> str:
    """How settled the settings are that an environment starts from: "tuned" for it or its like, its "suite" or
    "general".
    """
    family = family_of(env)
    return "general" if family is None else "tuned" if family in _FAMILIES else "suite"


def with_unroll_length(config: Config, unroll_length: int) -> Config:
    """The settings with unrolls of another length, and resets for as many steps each as before.

    How many resets an unroll needs follows from how many steps it has: to change the one and keep the other would make
    several episodes of an unroll start in one state.

    >>> with_unroll_length(defaults("CartPole-v1")[0], 256).resets_per_unroll
    32
    """
    resets = -(-config.resets_per_unroll * unroll_length // config.unroll_length)
    return dataclasses.replace(config, unroll_length=unroll_length, resets_per_unroll=resets)
