"""How fast importance weights degenerate as two policies part: in closed form, measured, and in training.

Two normal policies a gap δ apart, against exp(−δ²); then the policies of learners on CartPole, with episodes recorded
by the policy of an earlier update. `page.html` shows the first part under the fingers.

    python -m experiments.variance_bomb.run [--quick | --redraw]
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, band, exact, legend, panels, title
from experiments.experiment import Experiment, mean, run, summary
from experiments.variance_bomb import gaussians, page, training

HERE = Path(__file__).parent
GAUSSIAN_SEED, TRAINING_SEED, RECORDING_SEED = 0, 1, 2
GAPS = tuple(float(x) for x in np.arange(0.0, 3.01, 0.25))
SIZES, SIZE_OF_ERRORS, SIZE_OF_HISTOGRAM = (100, 1000, 10_000), 1000, 100_000
SHOWN_GAPS = (0.5, 1.0, 2.0, 3.0)
BINS = tuple(float(x) for x in np.linspace(-7.0, 3.0, 51))
BEHAVIORS, LATER = (0, 100), (1, 2, 4, 8, 16, 32, 64, 128, 256)
LOOKS = {100: ORANGE, 1000: BLUE, 10_000: GREEN}


def degenerate(runs: int) -> dict:
    """Effective shares by gap and number of samples, and the errors of both estimates."""
    keys = jax.random.split(jax.random.key(GAUSSIAN_SEED), runs)
    found: dict = {"runs": runs, "gaps": list(GAPS), "exact_ess": gaussians.exact_ess(np.array(GAPS)).tolist()}
    for n in SIZES:
        each = [gaussians.sampled(keys, jnp.float32(gap), n=n) for gap in GAPS]
        found[f"ess_{n}"] = summary(np.stack([x["ess"] for x in each], 1))
        if n != SIZE_OF_ERRORS:
            continue
        for name in ("ordinary", "weighted"):
            squares = np.stack([np.square(np.asarray(x[name]) - gaussians.TRUE_VALUE) for x in each], 1)
            found[name] = {end: np.sqrt(x).tolist() for end, x in summary(squares, mean).items()}
    found["exact_error"] = [gaussians.exact_error(gap, SIZE_OF_ERRORS) for gap in GAPS]
    return found


def histograms(n: int) -> dict:
    """Of log10 ρ, and the share of all weight that each bin holds."""
    found: dict = {"samples": n, "bins": list(BINS), "rows": []}
    for gap in SHOWN_GAPS:
        log_rho = np.asarray(gaussians.play(jax.random.key(GAUSSIAN_SEED), jnp.float32(gap), n)[0], np.float64)
        counts = np.histogram(log_rho / np.log(10), BINS)[0] / n
        weight = np.histogram(log_rho / np.log(10), BINS, weights=np.exp(log_rho))[0] / np.exp(log_rho).sum()
        found["rows"].append({"gap": gap, "samples": counts.tolist(), "weight": weight.tolist()})
    return found


def drift(learners: int, episodes: int, behaviors: tuple[int, ...], later: tuple[int, ...]) -> dict:
    """Effective shares of old episodes for the policies of later updates."""
    updates = sorted({b + k for b in behaviors for k in (0, *later)})
    states = dict(zip(updates, training.trained(learners, TRAINING_SEED, updates), strict=True))
    found: dict = {"environment": training.CONFIG.env, "learners": learners, "episodes": episodes, "later": list(later)}
    found["rows"] = []
    judge, key = training.make_judge(episodes), jax.random.key(RECORDING_SEED)
    for first in behaviors:
        each = [judge(states[first], states[first + k], key) for k in later]
        x = {name: np.stack([np.asarray(shares[name]) for shares in each], 1) for name in each[0]}
        row = {"behavior_update": first, "mean_length": float(x["length"].mean())}
        found["rows"].append(row | {name: summary(x[name]) for name in ("one_step", "product")})
    return found


def measure(quick: bool) -> dict:
    return {
        "seeds": {"gaussians": GAUSSIAN_SEED, "training": TRAINING_SEED, "recording": RECORDING_SEED},
        "true_value": gaussians.TRUE_VALUE,
        "gaussians": degenerate(20 if quick else 1000),
        "histograms": histograms(1000 if quick else SIZE_OF_HISTOGRAM),
        "training": drift(2, 8, (0, 2), LATER[:2]) if quick else drift(32, 256, BEHAVIORS, LATER),
        "page": page.reference(),
    }


def answer(result: dict) -> str:
    found = result["gaussians"]
    one, three = GAPS.index(1.0), GAPS.index(3.0)
    return (
        f"As exp(−δ²): at a gap of one width {found['ess_10000']['value'][one]:.3f} of 10,000 samples are effective "
        f"(exact: {found['exact_ess'][one]:.3f}), and at three widths {found['exact_ess'][three]:.4f} are, where "
        f"the samples themselves claim {found['ess_10000']['value'][three]:.4f}."
    )


def details(result: dict) -> str:
    found, rows, later = result["gaussians"], result["training"]["rows"], result["training"]["later"]
    three, episodes = GAPS.index(3.0), result["training"]["episodes"]
    lost = "; ".join(
        f"update {row['behavior_update']} (episodes of {row['mean_length']:.0f} steps): one-step ratios "
        f"{row['one_step']['value'][0]:.2f} to {row['one_step']['value'][-1]:.2f}, products "
        f"{row['product']['value'][0]:.2f} to {row['product']['value'][-1]:.3f}"
        for row in rows
    )
    return (
        f"Of 1,000 samples at δ = 3 the measured share is {found['ess_1000']['value'][three]:.4f}: too high, because "
        f"the weights that count were never drawn. On CartPole, 1 to {later[-1]} updates after the policy that acted, "
        f"IQM shares of its {episodes} episodes (at least {1 / episodes:.3f}): {lost}."
    )


def draw(result: dict) -> Figure:
    drawing, axes = panels(2, 2, (11, 8.2))
    draw_ess(axes[0, 0], result["gaussians"])
    draw_errors(axes[0, 1], result["gaussians"])
    draw_histograms(axes[1, 0], result["histograms"])
    draw_training(axes[1, 1], result["training"])
    return drawing


def draw_ess(panel: Axes, found: dict) -> None:
    exact(panel, found["gaps"], found["exact_ess"], "exp(−δ²)")
    for n, color in LOOKS.items():
        band(panel, found["gaps"], found[f"ess_{n}"], color=color, label=f"{n:,} samples")
    panel.set(yscale="log", ylim=(1e-4, 1.5), xlabel="gap δ between the policies", ylabel="ESS / N (IQM)")
    title(panel, "Effective share of the samples")
    legend(panel, loc="lower left")


def draw_errors(panel: Axes, found: dict) -> None:
    exact(panel, found["gaps"], found["exact_error"], "ordinary, in closed form")
    for name, color in (("ordinary", RED), ("weighted", BLUE)):
        band(panel, found["gaps"], found[name], color=color, label=name)
    panel.set(yscale="log", xlabel="gap δ between the policies", ylabel="root mean squared error")
    title(panel, f"Error of the estimates of ½, N = {SIZE_OF_ERRORS:,}")
    legend(panel, loc="upper left")


def draw_histograms(panel: Axes, found: dict) -> None:
    centers = (np.array(found["bins"][1:]) + np.array(found["bins"][:-1])) / 2
    for row, color in zip(found["rows"], (BLUE, GREEN, ORANGE, RED), strict=True):
        panel.plot(centers, row["samples"], color=color, label=f"δ = {row['gap']:g}")
        panel.fill_between(centers, row["weight"], color=color, alpha=0.25, linewidth=0)
    panel.set(ylim=(0, 0.4), xlabel="log₁₀ of the weight ρ", ylabel="share of all, a bin of 0.2")
    title(panel, "Weights: number (lines) and what they weigh (areas)")
    legend(panel, loc="upper left")


def draw_training(panel: Axes, found: dict) -> None:
    for row, color in zip(found["rows"], (PURPLE, BLACK), strict=True):
        for name, label, line in (("one_step", "one-step ratios", "solid"), ("product", "products", "dashed")):
            text = f"{label}, acted at update {row['behavior_update']}"
            band(panel, found["later"], row[name], color=color, linestyle=line, label=text)
    panel.axhline(1 / found["episodes"], color=BLACK, linewidth=0.8, linestyle="dotted")
    panel.text(found["later"][-1], 1.1 / found["episodes"], "a single episode", fontsize=8, ha="right")
    panel.set(xscale="log", yscale="log", xlabel="updates between the two policies", ylabel="ESS / N (IQM)")
    panel.set_xticks(found["later"], [str(x) for x in found["later"]])
    panel.set_xticks([], minor=True)
    title(panel, f"CartPole, {found['learners']} learners")
    legend(panel, loc="lower left", bbox_to_anchor=(0.0, 0.04))


EXPERIMENT = Experiment(
    HERE,
    "How fast do importance weights degenerate as two policies part?",
    measure,
    answer,
    details,
    draw,
    page.write,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
