"""`isjax best`: one learner alone, with its settings, a fresh evaluation and a picture of it at work."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from isjax.commands.running import run_checked
from isjax.errors import FieldError


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestFlags:
    """Save one learner of a run or sweep alone: its parameters and settings.

    It is evaluated again on fresh keys, since the evaluation that chose it flatters it, and an episode is drawn
    where its environment can.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of a run or sweep."""
    learner: Annotated[str, tyro.conf.arg(metavar="{best,INDEX}")] = "best"
    """The best one alive by its last evaluation, or one by its index in the run."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: RUN/best)")] = ""
    """Where to put it."""
    episodes: int = 128
    """Episodes of the evaluation."""
    seed: int = 0
    """Of the evaluation and of the episode that is drawn."""
    draw: tyro.conf.FlagCreatePairsOff[bool] = False
    """Draw an episode, as an animated GIF where its environment has nothing better."""


def main(argv: list[str]) -> int:
    """Runs `isjax best`."""
    return run_checked(best, BestFlags, argv, prog="isjax best")


def best(flags: BestFlags) -> None:
    """Saves the learner, evaluates it, draws it, and says so.

    Raises:
      ValueError: an argument or the run is not what it has to be; nothing was written.
    """
    from isjax.randomness import Domain, stream
    from isjax.run.policy import PARAMS, SETTINGS, draw, load, save
    from isjax.run.restore import open_run
    from isjax.run.sweep import best_group

    index = _check(flags)
    folder = best_group(Path(flags.run))
    trained = open_run(folder)
    picked = trained.pick(index)
    seed = jax.random.key(flags.seed)
    fresh: dict[str, Any] = {"episodes": flags.episodes, "seed": flags.seed}
    fresh |= _evaluated(trained.plan, picked.state, flags.episodes, stream(seed, Domain.FRESH_EVALUATION))
    chosen = trained.results.last_scores[picked.learner]
    fresh["chosen_by"] = float(chosen) if np.isfinite(chosen) else None
    out = Path(flags.out) if flags.out else Path(flags.run) / "best"
    run = {"run": str(folder), "learner": picked.learner, "update": picked.update, "evaluation": fresh}
    save(out, trained.plan.config, picked.state, run)
    print(f"Learner {picked.learner} of {folder}, update {picked.update:,}: {out / PARAMS}, {out / SETTINGS}")
    was = "" if fresh["chosen_by"] is None else f"; the evaluation that chose it said {fresh['chosen_by']:.4g}"
    print(f"Return of {flags.episodes} fresh episodes: {fresh['mean']:.4g} ± {fresh['standard_error']:.2g}{was}")
    if "given_up" in fresh:
        print(f"Given up: {fresh['given_up']:,} of them, which came to no end; they count as far as they came.")
    if flags.draw:
        print(draw(load(out), stream(seed, Domain.PICTURE), out))


def _check(flags: BestFlags) -> int | None:
    """The index of the learner, `None` for the best; raises `FieldError` for flags that cannot be."""
    if flags.episodes < 1:
        raise FieldError("episodes", "at least 1", flags.episodes)
    if not 0 <= flags.seed < 2**32:
        raise FieldError("seed", "at least 0 and less than 2^32", flags.seed)
    if flags.learner != "best" and not (flags.learner.isascii() and flags.learner.isdigit()):
        raise FieldError("learner", "best or an index", repr(flags.learner))
    return None if flags.learner == "best" else int(flags.learner)


def _evaluated(plan: Any, state: Any, episodes: int, key: jax.Array) -> dict[str, Any]:
    """What so many fresh episodes of a learner came to."""
    from isjax.learner import make_learner
    from isjax.run.memory import check_memory
    from isjax.run.scores import mean_and_error

    config = dataclasses.replace(plan.config, evaluation_episodes=episodes)
    names = {"evaluation_episodes": "episodes"}
    check_memory(dataclasses.replace(plan, config=config), jax.devices()[0], names=names)
    evaluation = jax.jit(make_learner(config).evaluate)(state, key)
    given_up = int(np.sum(~np.asarray(evaluation.finished)))
    found = mean_and_error(np.asarray(evaluation.episode_return, np.float64))
    return found | ({"given_up": given_up} if given_up else {})
