"""Ordinary against weighted importance sampling where Sutton & Barto compare them, and what finer weights gain.

Figure 5.3: errors over the number of episodes, from one state of blackjack, against the exact variance. Figure 5.4:
a one-state problem where the variance is infinite. Then a chain of five states, by horizon and discount.

    python -m experiments.blackjack.run [--quick | --redraw]
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.blackjack import chain, game
from experiments.drawing import BLACK, BLUE, BROWN, GREEN, ORANGE, PURPLE, RED, band, exact, legend, panels, title
from experiments.experiment import Experiment, mean, run, summary
from isjax import ope

HERE = Path(__file__).parent
BLACKJACK_SEED, ENDLESS_SEED, CHAIN_SEED = 0, 1, 2
BOOK_RUNS = 100
HORIZONS, DISCOUNTS = (1, 2, 4, 8, 16, 32), (0.5, 0.9, 1.0)
ENDLESS_VALUE, GOES_BACK = 1.0, 0.9
BLACKJACK = {"ordinary": ope.ordinary_is, "weighted": ope.weighted_is}
COLORS = dict(zip(chain.ESTIMATORS, (RED, PURPLE, ORANGE, BLUE, GREEN, BROWN), strict=True))


def running(estimator, log_rho: jax.Array, returns: jax.Array, counts: np.ndarray) -> jax.Array:
    """`[len(counts)]`, the estimate from the first 1, 2, … of `[N]` episodes."""

    def of_first(count):
        is_counted = jnp.arange(returns.size) < count
        return estimator(log_rho[None], returns[None], 1.0, is_counted[None]).value

    return jax.lax.map(of_first, jnp.asarray(counts))


def counts_to(episodes: int) -> np.ndarray:
    """Some 5 numbers of episodes a decade, powers of ten among them."""
    return np.unique(np.round(10 ** np.arange(0, np.log10(episodes) + 0.01, 0.2)).astype(int))


def figure_5_3(runs: int, episodes: int) -> dict:
    counts = counts_to(episodes)
    true = game.exact()

    def one(key):
        log_rho, returns = game.play(key, episodes)
        return {name: running(estimator, log_rho, returns, counts) for name, estimator in BLACKJACK.items()}

    keys = jax.random.split(jax.random.key(BLACKJACK_SEED), runs)
    estimates = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    found = {"runs": runs, "book_runs": min(BOOK_RUNS, runs), "episodes": counts.tolist(), "exact": true._asdict()}
    for name, x in estimates.items():
        squared = (np.asarray(x, np.float64) - true.value) ** 2
        found[name] = summary(squared, mean) | {"of_book_runs": squared[:BOOK_RUNS].mean(0).tolist()}
    return found


def figure_5_4(runs: int, episodes: int) -> dict:
    """Left goes back with 0.9 and else ends with a reward of 1, right ends with 0; the target is always left."""
    counts = counts_to(episodes)
    continues = 0.5 * GOES_BACK

    def one(key):
        length_key, end_key = jax.random.split(key)
        # Two numbers in one: long episodes are rarer than what a single uniform number resolves, 2^-23.
        coarse, fine = jax.random.uniform(length_key, (2, episodes), minval=1e-7)
        length = 1 + jnp.floor(jnp.log(coarse + 2.0**-23 * fine) / np.log(continues))
        is_left = jax.random.bernoulli(end_key, 0.5 * (1 - GOES_BACK) / (1 - continues), (episodes,))
        log_rho, returns = jnp.where(is_left, length * jnp.log(2.0), -jnp.inf), is_left.astype(jnp.float32)
        return {name: running(estimator, log_rho, returns, counts) for name, estimator in BLACKJACK.items()}

    keys = jax.random.split(jax.random.key(ENDLESS_SEED), runs)
    estimates = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    return {"runs": runs, "episodes": counts.tolist(), "value": ENDLESS_VALUE} | {
        name: np.asarray(x, np.float64).tolist() for name, x in estimates.items()
    }


def by_horizon(runs: int, episodes: int, horizons: tuple[int, ...]) -> dict:
    found: dict = {"runs": runs, "episodes": episodes, "horizons": list(horizons), "rows": []}
    for discount in DISCOUNTS:
        each = [chain.errors(horizon, discount, episodes, runs, CHAIN_SEED) for horizon in horizons]
        row = {name: root(summary(np.stack([x[name] ** 2 for x in each], 1), mean)) for name in chain.ESTIMATORS}
        found["rows"].append({"discount": discount, "true": [chain.true_value(h, discount) for h in horizons]} | row)
    return found


def root(squares: dict) -> dict:
    """Root mean squares from mean squares, interval included."""
    return {name: np.sqrt(np.asarray(x)).tolist() for name, x in squares.items()}


def measure(quick: bool) -> dict:
    return {
        "seeds": {"blackjack": BLACKJACK_SEED, "infinite_variance": ENDLESS_SEED, "chain": CHAIN_SEED},
        "blackjack": figure_5_3(20, 100) if quick else figure_5_3(1000, 10_000),
        "infinite_variance": figure_5_4(3, 1000) if quick else figure_5_4(10, 1_000_000),
        "chain": by_horizon(20, 50, HORIZONS[1:2]) if quick else by_horizon(1000, 100, HORIZONS),
    }


def at(found: dict, name: str, count: int, of: str = "value") -> float:
    """The mean squared error of blackjack after so many episodes."""
    return found[name][of][found["episodes"].index(count)]


def answer(result: dict) -> str:
    found, row = result["blackjack"], result["chain"]["rows"][1]
    n = 10 if 10 in found["episodes"] else found["episodes"][-1]
    relative = {name: row[name]["value"][-1] for name in chain.ESTIMATORS}
    return (
        f"Weighted, most of all from few episodes: after {n} of them its mean squared error "
        f"in blackjack is {at(found, 'weighted', n):.2g} against {at(found, 'ordinary', n):.2g}; and over "
        f"{result['chain']['horizons'][-1]} steps weights for each step take the relative error of ordinary ones from "
        f"{relative['ordinary']:.2g} to {relative['per-decision']:.2g} (γ = {row['discount']:g})."
    )


def details(result: dict) -> str:
    found, endless, rows = result["blackjack"], result["infinite_variance"], result["chain"]["rows"]
    n, horizon, spread = found["episodes"], result["chain"]["horizons"][-1], [x[-1] for x in endless["ordinary"]]
    errors = "; ".join(
        f"n = {count:,}: {at(found, 'ordinary', count):.3g} and {at(found, 'weighted', count):.3g}"
        for count in (1, 10, 100, 10_000)
        if count in n
    )
    chain_errors = "; ".join(
        f"γ = {row['discount']:g}: " + ", ".join(f"{name} {row[name]['value'][-1]:.2g}" for name in chain.ESTIMATORS)
        for row in rows[:2]
    )
    return (
        f"Mean squared errors in blackjack, ordinary (exact: {found['exact']['variance']:.3f}/n) and weighted (exact "
        f"for n = 1: {found['exact']['weighted_error_of_one']:.3f}): {errors}. With infinite variance, ordinary "
        f"estimates of 1 lie between {min(spread):.2f} and {max(spread):.2f} after {endless['episodes'][-1]:,} "
        f"episodes, weighted ones are 1. Relative errors over {horizon} steps, {chain_errors}: weights for each step "
        "gain most; those aware of the discount gain where it is short, and normalized at γ = 0.9 they lose to plain "
        "weighted."
    )


def draw(result: dict) -> Figure:
    drawing, axes = panels(2, 3, (12.5, 7.6))
    draw_blackjack(axes[0, 0], result["blackjack"])
    for panel, name in zip(axes[0, 1:], BLACKJACK, strict=True):
        draw_infinite_variance(panel, result["infinite_variance"], name)
    for panel, row in zip(axes[1], result["chain"]["rows"], strict=True):
        draw_chain(panel, result["chain"]["horizons"], row)
    axes[1, 0].set(ylabel="relative root mean squared error")
    low = min(panel.get_ylim()[0] for panel in axes[1])
    high = max(panel.get_ylim()[1] for panel in axes[1])
    for panel in axes[1]:
        panel.set_ylim(low, high)
    handles, labels = axes[1, 0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return drawing


def draw_blackjack(panel: Axes, found: dict) -> None:
    n = found["episodes"]
    for name, color in (("ordinary", RED), ("weighted", BLUE)):
        panel.plot(n, found[name]["of_book_runs"], color=color, linewidth=0.8, alpha=0.6)
        band(panel, n, found[name], color=color, label=f"{name}, {found['runs']:,} runs")
    exact(panel, n, found["exact"]["variance"] / np.asarray(n), f"exact, {found['exact']['variance']:.3f}/n")
    panel.set(xscale="log", yscale="log", xlabel="episodes", ylabel="mean squared error")
    title(panel, "Blackjack (Figure 5.3)")
    legend(panel, loc="lower left", title=f"thin: the first {found['book_runs']} runs", title_fontsize=8)


def draw_infinite_variance(panel: Axes, found: dict, name: str) -> None:
    for estimates in found[name]:
        panel.plot(found["episodes"], estimates, color=RED if name == "ordinary" else BLUE, linewidth=1.0, alpha=0.7)
    panel.axhline(found["value"], color=BLACK, linewidth=1.0, linestyle="dashed")
    if name == "weighted":
        panel.text(found["episodes"][-1], found["value"] + 0.05, "true value", fontsize=9, color=BLACK, ha="right")
    panel.set(xscale="log", ylim=(-0.1, 3.2), xlabel="episodes", ylabel="estimate, each run")
    title(panel, f"Infinite variance (Figure 5.4), {name}")


def draw_chain(panel: Axes, horizons: list[int], row: dict) -> None:
    for name, color in COLORS.items():
        look = {"linestyle": "solid" if name.startswith("weighted") else "dashdot"}
        band(panel, horizons, row[name], color=color, label=name, **look)
    panel.set(xscale="log", yscale="log", xlabel="steps an episode")
    panel.set_xticks(horizons, [str(x) for x in horizons])
    panel.set_xticks([], minor=True)
    title(panel, f"Chain of five states, γ = {row['discount']:g}")
    if row["discount"] == 1.0:
        note = "discounting-aware\nis the same as plain here"
        panel.text(0.03, 0.97, note, transform=panel.transAxes, fontsize=8, va="top")


EXPERIMENT = Experiment(
    HERE,
    "Ordinary or weighted importance sampling, and what do finer weights gain?",
    measure,
    answer,
    details,
    draw,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
