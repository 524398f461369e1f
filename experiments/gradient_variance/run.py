"""How the variance of an off-policy policy gradient grows with the horizon, by the weights that it uses.

T independent choices between two actions, of which the second pays 1. μ takes them with equal odds, π with odds e;
the gradient is that of π's one logit, with exact advantages, from batches of 256 episodes of μ. The variance with
plain products of ratios is known in closed form and drawn as a line.

    python -m experiments.gradient_variance.run [--quick]
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import exact, legend, panels, title
from experiments.experiment import Experiment, run
from isjax.losses import per_step_ratio_loss, product_of_ratios_loss

HERE = Path(__file__).parent
LOGIT = 1.0
HORIZONS = (1, 2, 4, 8, 16, 32, 64)
EPISODES, TRUNCATION, SEED = 256, 2.0, 0


def losses():
    """Losses of `(log_pi, log_mu, advantage)` by name, the plain product first."""
    return {
        "product of ratios": product_of_ratios_loss,
        "self-normalized product": lambda *rows: product_of_ratios_loss(*rows, self_normalized=True),
        f"product truncated at {TRUNCATION:g}": lambda *rows: product_of_ratios_loss(*rows, truncation=TRUNCATION),
        "per-step ratio": per_step_ratio_loss,
    }


def gradients(loss, horizon: int, batches: int, key: jax.Array) -> np.ndarray:
    """`[batches]`, the gradient of the undiscounted return as each batch estimates it."""

    def one(key):
        action = jax.random.bernoulli(key, 0.5, (horizon, EPISODES))
        advantage = action - jax.nn.sigmoid(LOGIT)

        def surrogate(logit):
            log_pi = jnp.where(action, jax.nn.log_sigmoid(logit), jax.nn.log_sigmoid(-logit))
            return -horizon * loss(log_pi, jnp.full(action.shape, jnp.log(0.5)), advantage)

        return jax.grad(surrogate)(LOGIT)

    return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(key, batches)), np.float64)


def exact_variance(horizon: int) -> float:
    """Of the plain product: `Var(Σ_t ρ_{0:t} g_t) / N` with `g = A ∇ log π`, from the moments of one step."""
    p = 1.0 / (1.0 + np.exp(-LOGIT))
    pi, action = np.array([1 - p, p]), np.array([0.0, 1.0])
    rho, g = pi / 0.5, (action - p) ** 2
    second, second_g, second_gg = (0.5 * np.sum(rho**2 * x) for x in (1.0, g, g**2))
    mean = float(pi @ g)
    moment = 0.0
    for t in range(horizon):
        later = horizon - 1 - t
        moment += second**t * (second_gg + 2.0 * later * second_g * mean)
    return float(moment - (horizon * mean) ** 2) / EPISODES


def measure(quick: bool) -> dict:
    batches, horizons = (50, HORIZONS[:3]) if quick else (4000, HORIZONS)
    p = 1.0 / (1.0 + np.exp(-LOGIT))
    rows = []
    for horizon in horizons:
        true = horizon * p * (1.0 - p)
        row = {"horizon": horizon, "true_gradient": true, "exact_variance_of_product": exact_variance(horizon)}
        for name, loss in losses().items():
            found = gradients(loss, horizon, batches, jax.random.fold_in(jax.random.key(SEED), horizon))
            row[name] = {"mean": float(found.mean()), "variance": float(found.var(ddof=1))}
        rows.append(row)
    return {
        "logit": LOGIT,
        "second_moment_of_a_ratio": float(2 * (p**2 + (1 - p) ** 2)),
        "episodes_per_batch": EPISODES,
        "batches": batches,
        "truncation": TRUNCATION,
        "seed": SEED,
        "rows": rows,
    }


def answer(result: dict) -> str:
    last = result["rows"][-1]
    return (
        f"With products of ratios exponentially, with per-step ratios linearly: at T = {last['horizon']} it is "
        f"{last['exact_variance_of_product']:,.4g} against {last['per-step ratio']['variance']:.2g}."
    )


def details(result: dict) -> str:
    return (
        f"The variance of products is the one in closed form; {result['batches']:,} batches are too few to see it and "
        f"show {result['rows'][-1]['product of ratios']['variance']:,.3g}. From T = 8 on self-normalized and truncated "
        "products lie between, at the price of a bias; per-step ratios have none here, where no state follows from an "
        "action."
    )


def draw(result: dict) -> Figure:
    """Variance and bias over the horizon."""
    rows = result["rows"]
    drawing, ((variance, bias),) = panels(1, 2, (9, 3.8))
    horizon = [row["horizon"] for row in rows]
    exact(variance, horizon, [row["exact_variance_of_product"] for row in rows], "product, in closed form")
    for name in losses():
        variance.plot(horizon, [row[name]["variance"] for row in rows], marker="o", label=name)
        bias.plot(horizon, [row[name]["mean"] / row["true_gradient"] for row in rows], marker="o")
    bias.axhline(1.0, color="black", linewidth=0.8, linestyle="dashed")
    title(variance, "Variance of the gradient")
    title(bias, "Mean gradient over the true one")
    variance.set(xscale="log", yscale="log", xlabel="horizon T", ylabel="variance")
    bias.set(xscale="log", xlabel="horizon T", ylabel="ratio of the gradients")
    for axes in (variance, bias):
        axes.set_xticks(horizon, [str(x) for x in horizon], minor=False)
        axes.set_xticks([], minor=True)
    legend(variance)
    return drawing


EXPERIMENT = Experiment(
    HERE,
    "How does the variance of an off-policy policy gradient grow with the horizon?",
    measure,
    answer,
    details,
    draw,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
