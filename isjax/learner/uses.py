"""Which algorithm and which settings count: those that it declares, unless another setting switches them off."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from isjax.errors import FieldError
from isjax.learner.algorithms.base import PARTICULAR, PRIORITY, REPLAY, Algorithm, OwnObjective, algorithms
from isjax.learner.config import Config, Hyper
from isjax.learner.defaults import defaults
from isjax.networks import heads, memories, torsos
from isjax.types import Objective


def get_algorithm(config: Config, objective: Objective | Algorithm | None = None) -> Algorithm:
    """The algorithm that `config.algorithm` names, or a user's own in its place.

    Raises:
      ValueError: there is none of that name, or its settings do not go together.
    """
    if objective is None:
        algorithm = algorithms.get(config.algorithm)(config)
    elif isinstance(objective, Algorithm):
        algorithm = objective
    else:
        algorithm = OwnObjective(config, objective)
    _check(config, algorithm)
    refuse_unused(config, algorithm.uses)
    return algorithm


def check_settings(config: Config, hyper: Hyper) -> None:
    """Raises `ValueError` for a setting that is out of range, or that was given and has no say. For the host."""
    hyper.check()
    refuse_unused(config, get_algorithm(config).uses, hyper)


def settings_in_use(settings: Sequence[tuple[Config, Hyper]]) -> list[tuple[Config, Hyper]]:
    """Settings of a sweep, each with what has no say in it as it is by default.

    Raises:
      ValueError: one of them has no say anywhere.
    """
    uses = [algorithms.get(config.algorithm)(config).uses for config, _ in settings]
    refuse_used_nowhere(settings, uses)
    return [without_unused(config, each, hyper) for (config, hyper), each in zip(settings, uses, strict=True)]


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
    found |= dict.fromkeys(heads.get(config.heads).unused, f"where heads is {config.heads}")
    if not config.replay_mask:
        found.setdefault("replay_max_kl", "where replay_mask is off")
    if not config.replay_priority:
        found = dict.fromkeys(PRIORITY[1:], "where replay_priority is off") | found
    if not config.replay_fraction:
        found |= {name: "where replay_fraction is 0" for name in (*REPLAY[1:], *PRIORITY) if name not in found}
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
        shown = ("on" if value else "off") if isinstance(value, bool) else value
        raise FieldError(name, f"left alone {phrase}", shown)


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


def _check(config: Config, algorithm: Algorithm) -> None:
    """Raises `ValueError` for settings that this algorithm has no use for, or cannot do with."""
    has_prepared = algorithm.prepare is not None
    if config.normalize_advantages and not has_prepared:
        rule = f"off for {config.algorithm}, whose advantages change with every gradient step"
        raise FieldError("normalize_advantages", rule, "on")
    if config.replay_fraction and has_prepared:
        rule = f"0 for {config.algorithm}, whose advantages are settled before the first gradient step"
        raise FieldError("replay_fraction", rule, config.replay_fraction)
    if (config.burn_in or config.replay_mask) and not config.replay_fraction:
        name = "burn_in" if config.burn_in else "replay_mask"
        raise FieldError(name, "left alone where {replay_fraction} is 0", getattr(config, name))
    if heads.get(config.heads).is_distributional and not algorithm.has_action_values:
        rule = f"one of policies for {config.algorithm}, which has no action values"
        raise FieldError("heads", rule, config.heads)
    if config.replay_priority and algorithm.error is None:
        raise FieldError("replay_priority", f"off for {config.algorithm}, which tells no errors to draw by", "on")
    in_any_order = has_prepared and config.memory == "none"
    columns = config.num_envs * config.unroll_length if in_any_order else config.batch_envs
    if columns % config.minibatches:
        what = (
            "{num_envs} · {unroll_length}"
            if in_any_order
            else "{num_envs}" + " with replay" * (config.replay_fraction > 0)
        )
        raise FieldError("minibatches", f"a divisor of {what}, which is {columns}", config.minibatches)
