"""How the variance of an off-policy policy gradient grows with the horizon, by the weights that it uses.

T independent choices between two actions, of which the second pays 1. μ takes them with equal odds, π with odds e;
the gradient is that of π's one logit, with exact advantages, from batches of 256 episodes of μ. The variance with
plain products of ratios is known in closed form and drawn as a line.

    python -m experiments.gradient_variance.run [--quick]
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from isjax.losses import per_step_ratio_loss, product_of_ratios_loss
from isjax.run.store import versions, write_json

HERE = Path(__file__).parent
LOGIT = 1.0
HORIZONS = (1, 2, 4, 8, 16, 32, 64)
EPISODES, TRUNCATION, SEED = 256, 2.0, 0
ANSWER = (
    "With products of ratios exponentially, with per-step ratios linearly; from T = 8 on self-normalized and truncated "
    "products lie between, at the price of a bias. Per-step ratios have none here, where no state follows from an "
    "action."
)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few batches and short horizons, and nothing written")
    quick = parser.parse_args().quick
    batches, horizons = (50, HORIZONS[:3]) if quick else (4000, HORIZONS)
    began = time.monotonic()
    p = 1.0 / (1.0 + np.exp(-LOGIT))
    rows = []
    for horizon in horizons:
        true = horizon * p * (1.0 - p)
        row = {"horizon": horizon, "true_gradient": true, "exact_variance_of_product": exact_variance(horizon)}
        for name, loss in losses().items():
            found = gradients(loss, horizon, batches, jax.random.fold_in(jax.random.key(SEED), horizon))
            row[name] = {"mean": float(found.mean()), "variance": float(found.var(ddof=1))}
        rows.append(row)
        print(horizon, {name: x["variance"] for name, x in row.items() if isinstance(x, dict)}, flush=True)
    if quick:
        return
    result = {
        "question": "How does the variance of an off-policy policy gradient grow with the horizon?",
        "answer": ANSWER,
        "logit": LOGIT,
        "second_moment_of_a_ratio": float(2 * (p**2 + (1 - p) ** 2)),
        "episodes_per_batch": EPISODES,
        "batches": batches,
        "truncation": TRUNCATION,
        "seed": SEED,
        "rows": rows,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "versions": versions(),
    }
    write_json(HERE / "result.json", result)
    for kind in ("png", "svg"):
        figure(rows).savefig(HERE / f"figure.{kind}", dpi=150, metadata={"Date": None} if kind == "svg" else None)


def figure(rows: list[dict]) -> Figure:
    """Variance and bias over the horizon."""
    drawing = Figure(figsize=(9, 3.8), layout="constrained")
    variance, bias = drawing.subplots(1, 2)
    horizon = [row["horizon"] for row in rows]
    exact = [row["exact_variance_of_product"] for row in rows]
    variance.plot(horizon, exact, color="black", linewidth=0.8, linestyle="dashed", label="product, exact")
    for name in losses():
        variance.plot(horizon, [row[name]["variance"] for row in rows], marker="o", label=name)
        bias.plot(horizon, [row[name]["mean"] / row["true_gradient"] for row in rows], marker="o")
    bias.axhline(1.0, color="black", linewidth=0.8, linestyle="dashed")
    variance.set(xscale="log", yscale="log", xlabel="horizon T", ylabel="variance of the gradient")
    variance.set_xticks(horizon, [str(x) for x in horizon])
    bias.set(xscale="log", xlabel="horizon T", ylabel="mean gradient over the true one")
    bias.set_xticks(horizon, [str(x) for x in horizon])
    variance.legend(fontsize=8)
    return drawing


if __name__ == "__main__":
    main()
