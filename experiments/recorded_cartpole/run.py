"""Whether the interval of an off-policy estimate holds the true value, and its verdict says when not to believe it.

A learner is trained halfway on CartPole-v1. Its policy π is then estimated from episodes of mixtures of π with
uniform actions, 100 logs a mixture, by the weighted per-decision estimator with a 95 % bootstrap interval.

    python -m experiments.recorded_cartpole.run [--quick]
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import BLUE, GREEN, ORANGE, RED, exact, legend, panels, title
from experiments.experiment import Experiment, run
from isjax.learner.config import Config, Hyper
from isjax.learner.learner import make_agent, make_learner
from isjax.learner.recording import record
from isjax.ope.evaluation import evaluate_log

HERE = Path(__file__).parent
ESTIMATOR = "weighted_per_decision_is"
SHARES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
CONFIG = Config(torso=(64,), resets_per_unroll=2, steps=40_000)
HYPER = Hyper(learning_rate=5e-3, discount=0.98)
TRAINING_SEED, TRUTH_SEED, LOG_SEED, BOOTSTRAP_SEED = 0, 1, 2, 3


def measure(quick: bool) -> dict:
    repetitions, episodes, truth_episodes, shares = (2, 50, 256, SHARES[1::3]) if quick else (100, 400, 65_536, SHARES)
    agent, learner = make_agent(CONFIG), make_learner(CONFIG)
    discount = float(HYPER.discount)

    @jax.jit
    def trained(key):
        return jax.lax.fori_loop(0, CONFIG.updates // 2, lambda _, s: learner.update(s)[0], learner.init(key, HYPER))

    state = trained(jax.random.key(TRAINING_SEED))
    batch = min(truth_episodes, 2048)
    own = jax.jit(lambda key: record(agent, state, key, episodes=batch))
    returns = np.concatenate(
        [discounted(own(jax.random.key(TRUTH_SEED * 10_000 + i)), discount) for i in range(truth_episodes // batch)]
    )
    truth = {"value": float(returns.mean()), "standard_error": float(returns.std(ddof=1) / np.sqrt(returns.size))}
    log_of = jax.jit(lambda key, share: record(agent, state, key, episodes=episodes, uniform_share=share).as_log())
    rows = []
    for share in shares:
        judged = []
        for i in range(repetitions):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(LOG_SEED), i), round(100 * share))
            bootstrap = jax.random.fold_in(jax.random.key(BOOTSTRAP_SEED), i)
            log = log_of(key, jnp.float32(share))
            judged.append(evaluate_log(log, discount, key=bootstrap, estimators=(ESTIMATOR,)).estimates[ESTIMATOR])
        rows.append(summary(share, judged, truth["value"]))
    return {
        "environment": CONFIG.env,
        "estimator": ESTIMATOR,
        "discount": discount,
        "repetitions": repetitions,
        "episodes_per_log": episodes,
        "seeds": {"training": TRAINING_SEED, "truth": TRUTH_SEED, "logs": LOG_SEED, "bootstrap": BOOTSTRAP_SEED},
        "true_value": truth | {"episodes": truth_episodes},
        "rows": rows,
    }


def answer(result: dict) -> str:
    rows = {row["uniform_share"]: row for row in result["rows"]}
    trusted = [share for share, row in rows.items() if usual(row) == "yes"]
    low, high = (f(rows[share]["covered"] for share in trusted) for f in (min, max)) if trusted else (0, 0)
    last = result["rows"][-1]
    return (
        f"Where the verdict is to trust them, {low} to {high} of {result['repetitions']} intervals hold it, and "
        f"from a log of uniform actions alone, where {last['covered']} of them would, it is *{usual(last)}*."
    )


def usual(row: dict) -> str:
    """The most frequent answer to *trust?* at one mixture."""
    return max(row["trust"], key=row["trust"].get)


def details(result: dict) -> str:
    each = "; ".join(f"{row['uniform_share']:g}: {row['covered']}, *{usual(row)}*" for row in result["rows"])
    return (
        f"Of {result['repetitions']} intervals so many hold the true value, with the usual answer to *trust?*, by the "
        f"share of uniform actions in the log: {each}."
    )


def discounted(recording, discount: float) -> np.ndarray:
    """`[E]`, the discounted return of each episode."""
    powers = discount ** jnp.arange(recording.r_t.shape[0])
    return np.asarray(jnp.sum(recording.r_t * powers[:, None], axis=0), np.float64)


def summary(share: float, judged: list, truth: float) -> dict:
    """One mixture: how often its interval held the truth, and what the verdicts said."""
    low, high, value = (np.array([getattr(each, name) for each in judged]) for name in ("low", "high", "value"))
    trust = [each.trust for each in judged]
    return {
        "uniform_share": share,
        "covered": int(np.sum((low <= truth) & (truth <= high))),
        "of": len(judged),
        "median_ess": float(np.median([each.effective_sample_size for each in judged])),
        "root_mean_square_error": float(np.sqrt(np.mean((value - truth) ** 2))),
        "mean_width": float(np.mean(high - low)),
        "trust": {word: trust.count(word) for word in ("yes", "with care", "no")},
        "verdict": judged[0].verdict,
    }


def draw(result: dict) -> Figure:
    """Coverage and verdicts, over the share of uniform actions."""
    drawing, ((coverage, verdicts),) = panels(1, 2, (9, 3.6))
    rows = result["rows"]
    share = [str(row["uniform_share"]) for row in rows]
    coverage.plot(share, [row["covered"] / row["of"] for row in rows], marker="o", color=BLUE)
    exact(coverage, share, [0.95] * len(share), "as promised: 0.95")
    coverage.set(ylim=(0, 1.03), xlabel="share of uniform actions in the log", ylabel="share of the intervals")
    title(coverage, "Intervals that hold the true value")
    legend(coverage, loc="lower left")
    bottom = np.zeros(len(rows))
    for word, color in (("yes", GREEN), ("with care", ORANGE), ("no", RED)):
        height = np.array([row["trust"][word] / row["of"] for row in rows])
        verdicts.bar(share, height, bottom=bottom, color=color, label=word)
        bottom += height
    verdicts.set(xlabel="share of uniform actions in the log", ylabel="share of the verdicts")
    title(verdicts, "Verdicts: trust it?")
    legend(verdicts, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawing


EXPERIMENT = Experiment(
    HERE,
    "Does the interval of an off-policy estimate hold the true value, and does its verdict say when not to believe it?",
    measure,
    answer,
    details,
    draw,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
