"""Which settings have a say: those that an algorithm declares, unless another setting switches them off."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from isjax.errors import FieldError
from isjax.learner.config import Config, Hyper
from isjax.learner.defaults import defaults
from isjax.networks import memories, torsos

COSTS = ("value_cost", "entropy_cost")
"""What an algorithm uses whose loss is that of a policy, a value and an entropy."""
TARGETS = ("lambda_", "clip_rho", "clip_c")
"""What an algorithm uses whose targets are V-trace's."""
REPLAY = ("replay_fraction", "replay_size", "replay_mask", "replay_max_kl", "burn_in")
"""What an algorithm uses that can learn from earlier unrolls."""
PARTICULAR = (
    *("correction", "products", "normalize_advantages", "clip_values"),
    *("clip_pg_rho", "clip_epsilon", "max_kl", "kl_cost", "temperature", "max_weight"),
    *COSTS,
    *TARGETS,
    *REPLAY,
)
"""The settings that not every algorithm uses."""


def silent(config: Config, uses: Sequence[str] | None) -> dict[str, str]:
    """Names of the settings that have no say, and a phrase for where that is so.

    Args:
      config: the settings.
      uses: what the algorithm declares of `PARTICULAR`; `None` if it may use anything.
    """
    particular = () if uses is None else (name for name in PARTICULAR if name not in uses)
    found = dict.fromkeys(particular, f"for {config.algorithm}, which does not use it")
    found |= dict.fromkeys(torsos.get(config.network).unused, f"where network is {config.network}")
    without = ("memory_window",) if config.memory == "none" else memories.get(config.memory).unused
    found |= dict.fromkeys(without, f"where memory is {config.memory}")
    if not config.replay_mask:
        found.setdefault("replay_max_kl", "where replay_mask is off")
    if not config.replay_fraction:
        found |= {name: "where replay_fraction is 0" for name in REPLAY[1:] if name not in found}
    return found


def refuse_unused(config: Config, uses: Sequence[str] | None, hyper: Hyper | None = None) -> None:
    """Raises `ValueError` for a setting that was given and has no say.

    What is as by default, in general or for that environment and algorithm, counts as not given.
    """
    for name, phrase in silent(config, uses).items():
        _refuse(name, phrase, _first_given(name, config, hyper))


def refuse_used_nowhere(settings: Sequence[tuple[Config, Hyper]], uses: Sequence[Sequence[str] | None]) -> None:
    """Raises `ValueError` for a setting that was given in some of these, and has a say in none."""
    found = [silent(config, each) for (config, _), each in zip(settings, uses, strict=True)]
    for name in [name for name in found[0] if all(name in each for each in found)]:
        for (config, hyper), each in zip(settings, found, strict=True):
            _refuse(name, each[name], _first_given(name, config, hyper))


def without_unused(config: Config, uses: Sequence[str] | None, hyper: Hyper) -> tuple[Config, Hyper]:
    """The same with what has no say as it is by default."""
    names = silent(config, uses)
    own_config, own_hyper = defaults(config.env, config.algorithm)
    return (
        dataclasses.replace(config, **{name: getattr(own_config, name) for name in names if hasattr(config, name)}),
        dataclasses.replace(hyper, **{name: getattr(own_hyper, name) for name in names if hasattr(hyper, name)}),
    )


def _refuse(name: str, phrase: str, value: object | None) -> None:
    if value is not None:
        raise FieldError(name, f"left alone {phrase}", value)


def _first_given(name: str, config: Config, hyper: Hyper | None) -> object | None:
    """The value, or the first one of an array, that is not the default; `None` if there is none."""
    own_config, own_hyper = defaults(config.env, config.algorithm)
    if hasattr(config, name):
        value = getattr(config, name)
        return None if value in (getattr(Config, name), getattr(own_config, name)) else value
    if hyper is None:
        return None
    general, own = (np.float32(getattr(each, name)) for each in (Hyper(), own_hyper))
    values = np.ravel(np.asarray(getattr(hyper, name)))
    return next((x for x in values.tolist() if np.float32(x) not in (general, own)), None)
