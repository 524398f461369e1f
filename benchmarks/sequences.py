"""Losses on sequences against the plain policy gradient, value and gradient, of 1,000 texts of 8,192 tokens.

`python -m benchmarks.sequences` takes two or three minutes on two cores and 2 GB, writes `results/sequences.json` and
renews the table in docs/language-models.md; `--quick` measures a small batch and writes nowhere. Losses take turns in
one process, on the same arrays `[T, B]` with a third of the tokens padding; a call is one of a compiled program, its
result waited for. The gradient is that of log-probabilities: what a language model costs comes on top, for all alike.
"""

import argparse
import functools
import inspect

import jax
import jax.numpy as jnp

from benchmarks.harness import RESULTS as FOLDER
from benchmarks.harness import compiled, in_turn, provenance, publish, ratio, spread
from benchmarks.readme import README, rows
from isjax import losses

RESULTS, PAGE = FOLDER / "sequences.json", README.parent / "docs" / "language-models.md"
SHAPE, QUICK_SHAPE = (8192, 1000), (16, 8)
TURNS = 15
OPTIONS = {
    "clip_cov_loss": {"key": jax.random.key(0), "low": 0.1},
    "dr_grpo_loss": {"max_length": SHAPE[0]},
    "dro_loss": {"beta": 0.5},
    "masked_is_loss": {"low": 0.5, "high": 2.0},
}
"""What some losses have no defaults for."""


def rivals() -> dict:
    """Name → function of `log_pi, log_mu, advantage, is_valid`."""
    takes = {name: inspect.signature(getattr(losses, name)).parameters for name in losses.__all__}
    family = [name for name, parameters in takes.items() if {"aggregation", "advantage_tm1"} <= set(parameters)]
    found = {"plain": lambda log_pi, log_mu, *others: losses.policy_gradient_loss(log_pi, *others)}
    return found | {name: functools.partial(getattr(losses, name), **OPTIONS.get(name, {})) for name in sorted(family)}


def arrays(length: int, width: int) -> tuple[jax.Array, ...]:
    """`log_pi, log_mu, advantage, is_valid`."""
    keys = jax.random.split(jax.random.key(0), 4)
    log_pi = -jax.random.exponential(keys[0], (length, width))
    log_mu = log_pi + 0.1 * jax.random.normal(keys[1], log_pi.shape)
    advantage = jnp.zeros_like(log_pi) + jax.random.normal(keys[2], (width,))[None]
    lengths = jax.random.randint(keys[3], (width,), length // 3, length + 1)
    return log_pi, log_mu, advantage, jnp.arange(length)[:, None] < lengths[None]


def measure(length: int, width: int, turns: int) -> list[dict]:
    """A record of each loss."""
    given = arrays(length, width)
    programs = {name: compiled(jax.value_and_grad(loss), *given)[0] for name, loss in rivals().items()}
    taken = in_turn({name: (lambda program=each: program(*given)) for name, each in programs.items()}, turns)
    return [
        {
            "loss": name,
            "T": length,
            "B": width,
            "ms": spread([1e3 * s for s in taken[name]]),
            "times_plain": ratio(taken[name], taken["plain"]),
            "bytes": programs[name].cost_analysis()["bytes accessed"],
        }
        for name in programs
    ]


def table(result: dict) -> str:
    """What a call of each takes, as the page shows it."""
    lines = [
        [
            "the plain policy gradient" if x["loss"] == "plain" else f"`{x['loss']}`",
            f"{x['ms']['median']:.0f} ms",
            f"{x['times_plain']['median']:.2f} ({x['times_plain']['p10']:.2f} to {x['times_plain']['p90']:.2f})",
            f"{x['bytes'] / 1e9:.2f} GB",
        ]
        for x in sorted(result["records"], key=lambda x: x["times_plain"]["median"])
    ]
    header = ["loss", "value and gradient", "times the plain one", "memory passed over"]
    return f"{rows(header, lines)}\n{result['device']}; jax {result['versions']['jax']}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small batch, nothing is written")
    quick = parser.parse_args().quick
    shape, turns = (QUICK_SHAPE, 3) if quick else (SHAPE, TURNS)
    result = provenance(jax.devices()[:1]) | {"turns": turns, "records": measure(*shape, turns)}
    print(table(result))
    if not quick:
        publish(RESULTS, result, {PAGE: table(result)})


if __name__ == "__main__":
    main()
