"""`isjax record`: a learner of a finished run plays, and a log and its policy's true value are kept."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from isjax.commands.output import check_own
from isjax.commands.running import run_checked
from isjax.errors import MUST, FieldError
from isjax.run.files import replacing, write_json

PER_CALL = 1024
"""Episodes that are played side by side, at most."""
ROWS_PER_CALL = PER_CALL * 10_000
"""Rows that there is room for meanwhile, at most: fewer episodes at once where they may be longer."""
ROW_BYTES = 24
"""Of a step in a log, and no episode has fewer than one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordFlags:
    """Log episodes of a trained learner, for isjax evaluate to read.

    The learner's policy, its actions sampled, is the one to evaluate; another one acts. What its policy is truly
    worth is measured too, in episodes of its own, and kept in a JSON file beside the log.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder."""
    out: Annotated[str, tyro.conf.arg(metavar="LOG")]
    """Where to write the log: a .parquet, .csv or .npz file."""
    episodes: int = 1000
    """Episodes to log."""
    behavior: Annotated[str, tyro.conf.arg(metavar="POLICY", aliases=("--behaviour",))] = "mixture:0.1"
    """Who acts: policy, uniform, mixture:SHARE (the policy with that share of uniform actions), training (as the
    learner acted at the end of its training), or learner:INDEX (another learner of the run)."""
    learner: Annotated[str, tyro.conf.arg(metavar="{best,INDEX}")] = "best"
    """The learner to evaluate: that with the best final evaluation, or by its index."""
    truth_episodes: int = 4096
    """Episodes that measure the true value; 0 leaves it out."""
    seed: int = 0
    """Everything random follows from it."""


class Played(NamedTuple):
    """Episodes of a policy."""

    columns: dict[str, np.ndarray]
    """A row a step."""
    given_up: int
    """Episodes that no end was seen of; their rows are those up to there."""


@dataclasses.dataclass(frozen=True)
class Behavior:
    """Who acts."""

    uniform_share: float = 0.0
    learner: int | None = None
    explores: bool = False


def main(argv: list[str]) -> int:
    """Runs `isjax record`."""
    return run_checked(record, RecordFlags, argv, prog="isjax record")


def record(flags: RecordFlags) -> None:
    """Plays, writes the log and the JSON beside it, and says what to do with them.

    Raises:
      ValueError: an argument or the run is not what it has to be; nothing was written.
    """
    out = Path(flags.out)
    _check(flags, out)
    behavior = parse_behavior(flags.behavior)
    index = None if flags.learner == "best" else _whole("learner", flags.learner, "best or an index")
    from isjax.learner.learner import make_agent
    from isjax.randomness import Domain, stream
    from isjax.run.memory import check_bytes
    from isjax.run.programs import free_bytes
    from isjax.run.restore import open_run
    from isjax.run.scores import mean_and_error

    trained = open_run(Path(flags.run))
    index, update, state = trained.pick(index)
    acting = None if behavior.learner is None else trained.pick(behavior.learner).state
    agent = make_agent(trained.plan.config)
    for name in ("episodes", "truth_episodes"):
        check_bytes(name, getattr(flags, name), getattr(flags, name) * ROW_BYTES, free_bytes(jax.devices()[0], 1))
    seed = jax.random.key(flags.seed)
    log_key, truth_key = stream(seed, Domain.RECORDING), stream(seed, Domain.TRUE_VALUE)
    columns, given_up = play_many(
        agent, state, log_key, flags.episodes, behavior.uniform_share, acting, explores=behavior.explores
    )
    discount = round(float(state.hyper.discount), 6)  # float32 holds no more digits
    found: dict[str, Any] = {
        "run": flags.run,
        "update": update,
        "learner": index,
        "environment": trained.plan.config.env,
        "behavior": flags.behavior,
        "episodes": flags.episodes,
        "rows": len(columns["episode"]),
        "seed": flags.seed,
        "discount": discount,
        "behavior_return": mean_and_error(discounted_returns(columns, discount, flags.episodes)),
    }
    found |= {"given_up": given_up} if given_up else {}
    if flags.truth_episodes:
        own, given_up = play_many(agent, state, truth_key, flags.truth_episodes, 0.0, None)
        returns = discounted_returns(own, discount, flags.truth_episodes)
        found["true_value"] = mean_and_error(returns) | {"episodes": flags.truth_episodes}
        found["true_value"] |= {"given_up": given_up} if given_up else {}
    with replacing(out) as file:
        WRITERS[out.suffix.lower()](file, columns)
    write_json(_beside(out), found)
    _say(flags, found, has_densities=not hasattr(agent.adapter.actions, "num_actions"))


def play_many(
    agent: Any,
    state: Any,
    key: jax.Array,
    episodes: int,
    uniform_share: float,
    acting: Any,
    *,
    explores: bool = False,
) -> Played:
    """So many episodes, played in batches of one compiled program.

    Raises:
      ValueError: there is no room for the rows that an episode may have.
    """
    from isjax.learner.evaluation import longest
    from isjax.learner.recording import record as play

    if longest(agent.adapter) > ROWS_PER_CALL:
        raise ValueError(
            f"env_params: max_steps_in_episode must be at most {ROWS_PER_CALL:,} for its episodes to be recorded, but "
            f"it is {longest(agent.adapter):,}."
        )
    batch = min(episodes, PER_CALL, ROWS_PER_CALL // longest(agent.adapter))
    is_mixed = uniform_share > 0

    @jax.jit
    def one_batch(state, acting, key, share):
        share = share if is_mixed else 0.0
        return play(agent, state, key, episodes=batch, uniform_share=share, behavior=acting, explores=explores)

    parts: list[dict[str, np.ndarray]] = []
    given_up = 0
    for i in range(-(-episodes // batch)):
        recording = jax.device_get(one_batch(state, acting, jax.random.fold_in(key, i), jnp.float32(uniform_share)))
        columns = recording.as_columns()
        columns["episode"] += i * batch
        given_up += int(np.sum(~recording.finished[: episodes - i * batch]))
        parts.append({name: x[columns["episode"] < episodes] for name, x in columns.items()})
    return Played({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, given_up)


def discounted_returns(columns: dict[str, np.ndarray], discount: float, episodes: int) -> np.ndarray:
    """`[N]`, of each episode of a log."""
    rewards = columns["reward"] * discount ** columns["step"].astype(float)
    return np.bincount(columns["episode"], weights=rewards, minlength=episodes)


def parse_behavior(text: str) -> Behavior:
    """`policy`, `uniform`, `mixture:SHARE`, `training` or `learner:INDEX`.

    Raises:
      ValueError: it is none of these.

    >>> parse_behavior("mixture:0.25")
    Behavior(uniform_share=0.25, learner=None, explores=False)
    """
    kind, _, value = text.partition(":")
    if text in ("policy", "uniform"):
        return Behavior(uniform_share=float(text == "uniform"))
    if text == "training":
        return Behavior(explores=True)
    if kind == "learner":
        return Behavior(learner=_whole("behavior", value, "learner:INDEX with an index"))
    try:
        share = float(value) if kind == "mixture" else math.nan
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        rule = "policy, uniform, mixture:SHARE with a share in [0, 1], training, or learner:INDEX"
        raise FieldError("behavior", rule, repr(text))
    return Behavior(uniform_share=share)


def _check(flags: RecordFlags, out: Path) -> None:
    for name, low in (("episodes", 1), ("truth_episodes", 0), ("seed", 0)):
        if getattr(flags, name) < low:
            raise FieldError(name, f"at least {low}", getattr(flags, name))
    if flags.seed >= 2**32:
        raise FieldError("seed", "less than 2^32", flags.seed)
    if out.suffix.lower() not in WRITERS:
        raise FieldError("out", f"end in {', '.join(WRITERS)}", repr(flags.out), MUST)
    check_own("out", out, Path(flags.run))
    if out.is_dir() or not out.parent.is_dir():
        raise FieldError("out", "a file in a folder that is there", repr(flags.out))


def _whole(name: str, text: str, rule: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise FieldError(name, rule, repr(text)) from None


def _beside(out: Path) -> Path:
    return out.with_name(out.name + ".json")


def _say(flags: RecordFlags, found: dict[str, Any], *, has_densities: bool) -> None:
    def worth(returns: dict[str, float]) -> str:
        return f"{returns['mean']:.4g} ± {returns['standard_error']:.2g} (standard error)"

    print(f"{flags.out}: {found['episodes']:,} episodes, {found['rows']:,} steps of {found['environment']}.")
    print(f"Who acted ({flags.behavior}): {worth(found['behavior_return'])} at γ = {found['discount']:g}.")
    if "true_value" in found:
        print(f"The policy of learner {found['learner']}: {worth(found['true_value'])}, its true value.")
    given_up = found.get("given_up", 0) + found.get("true_value", {}).get("given_up", 0)
    if given_up:
        print(f"Given up: {given_up:,} of these episodes, which came to no end; they count as far as they came.")
    densities = " --densities" if has_densities else ""
    print(
        f"To estimate that from the log alone: isjax evaluate {flags.out} --discount {found['discount']:g}{densities}"
    )


def _to_parquet(file: IO[bytes], columns: dict[str, np.ndarray]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), file)


def _to_csv(file: IO[bytes], columns: dict[str, np.ndarray]) -> None:
    import pyarrow as pa
    from pyarrow import csv

    csv.write_csv(pa.table(columns), file)


WRITERS: dict[str, Callable[[IO[bytes], dict[str, np.ndarray]], None]] = {
    ".parquet": _to_parquet,
    ".csv": _to_csv,
    ".npz": lambda file, columns: np.savez_compressed(file, **columns),  # type: ignore[arg-type]
}
