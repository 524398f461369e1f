"""What a sampler that is not the learner costs a language model, and which correction makes up for it.

A recurrent network of characters, taught a little, learns by reinforcement to sort six digits; the reward is the share
of places that are right. What writes the answers is not what learns: it computes in bfloat16, with the parameters of
so many updates ago. The learner computes in float32 and takes one step of Adam a batch of 8 prompts with 4 answers
each, whose advantages are rewards less their group's mean. All losses have the same step size and the same seeds.

    python -m experiments.sampler_mismatch.run [--quick | --redraw]
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments.drawing import BLACK, BLUE, BROWN, GRAY, GREEN, ORANGE, PURPLE, RED, band, legend, panels, title
from experiments.experiment import Experiment, mean, run, summary
from experiments.sampler_mismatch import model
from isjax import losses, ops

HERE = Path(__file__).parent
LOSSES = {
    "no correction": (lambda pi, mu, advantage: losses.policy_gradient_loss(pi, advantage), GRAY),
    "token TIS": (losses.truncated_is_loss, BLUE),
    "sequence TIS": (partial(losses.truncated_is_loss, level="sequence", truncation=3.0), GREEN),
    "token mask": (partial(losses.masked_is_loss, low=0.5, high=5.0), ORANGE),
    "sequence mask": (partial(losses.masked_is_loss, mask_level="geometric", low=0.5, high=2.0), RED),
    "GSPO": (partial(losses.gspo_loss, clip_low=0.2, clip_high=0.28), PURPLE),
    "TOPR": (losses.topr_loss, BROWN),
    "VESPO": (losses.vespo_loss, BLACK),
}
"""Of `(log π, log μ, advantage)`, `[T, B]` each."""
STALENESS = (0, 4, 16, 64)
SEEDS, UPDATES, EVERY = 10, 400, 40
LESSONS, GROUPS, ANSWERS, LEARNING_RATE, TESTS = 60, 8, 4, 2e-3, 128
SLOTS = max(STALENESS) + 1


def slope(which: jax.Array, log_pi: jax.Array, log_mu: jax.Array, advantage: jax.Array) -> jax.Array:
    """`[T, B]`, the gradient of one of the losses by the log-probabilities: learners differ in nothing else."""
    each = [jax.grad(loss)(log_pi, log_mu, advantage) for loss, _ in LOSSES.values()]
    return jnp.stack(each)[which]


def one_update(which, lag, optimizer, state, key):
    """The state after one batch of the stale sampler, and what was seen of it."""
    params, moments, history, count = state
    to_prompt, to_write = jax.random.split(key)
    slots = len(jax.tree.leaves(history)[0])
    history = jax.tree.map(lambda past, now: past.at[count % slots].set(now), history, params)
    stale = jax.tree.map(lambda past: past[jnp.maximum(count - lag, 0) % slots], history)
    prompt = jnp.repeat(model.prompts(to_prompt, GROUPS), ANSWERS, axis=1)
    text = model.write(to_write, stale, prompt, jnp.bfloat16)
    reward = model.reward(prompt, text.token).reshape(GROUPS, ANSWERS)
    advantage = jnp.broadcast_to(ops.group_advantages(reward, baseline="dr-grpo").ravel(), text.token.shape)

    def of_params(params):
        odds = model.score(params, prompt, text.token)
        log_pi = model.of_tokens(odds, text.token)
        weight = slope(which, jax.lax.stop_gradient(log_pi), text.log_mu, advantage)
        return jnp.sum(weight * log_pi), (log_pi, odds)

    gradient, (log_pi, odds) = jax.grad(of_params, has_aux=True)(params)
    updates, moments = optimizer.update(gradient, moments)
    log_rho = log_pi - text.log_mu
    sequences = ops.ratio_levels(log_rho, level="sequence")[0]
    seen = {
        "kl": jnp.mean(ops.kl_estimates(log_rho).k3),
        "ess": ops.effective_sample_size(sequences) / len(sequences),
        "entropy": -jnp.mean(jnp.sum(jnp.exp(odds) * odds, -1)),
    }
    return (optax.apply_updates(params, updates), moments, history, count + 1), seen


def course(
    updates: int, every: int, lessons: int, which: jax.Array, lag: jax.Array, key: jax.Array
) -> dict[str, jax.Array]:
    """One learner from its first lesson on: rewards of its own answers in float32, and means since the last look."""
    to_lessons, to_course = jax.random.split(key)
    optimizer = optax.adam(LEARNING_RATE)
    params = model.taught(to_lessons, lessons)
    history = jax.tree.map(lambda x: jnp.zeros((SLOTS, *x.shape), x.dtype), params)

    def test(params, key):
        prompt = model.prompts(key, TESTS)
        return jnp.mean(model.reward(prompt, model.write(jax.random.fold_in(key, 1), params, prompt).token))

    def stretch(state, key):
        keys = jax.random.split(key, every + 1)
        state, seen = jax.lax.scan(partial(one_update, which, lag, optimizer), state, keys[1:])
        return state, {name: jnp.mean(x) for name, x in seen.items()} | {"reward": test(state[0], keys[0])}

    state = params, optimizer.init(params), history, 0
    first = test(params, jax.random.fold_in(to_course, 0))
    _, seen = jax.lax.scan(stretch, state, jax.random.split(to_course, updates // every))
    return seen | {"first_reward": first}


def measure(quick: bool) -> dict:
    staleness, seeds, updates, lessons = ((0, 16), 2, 4, 2) if quick else (STALENESS, SEEDS, UPDATES, LESSONS)
    every = 2 if quick else EVERY
    shape = len(LOSSES), len(staleness), seeds
    which, lag, seed = (x.ravel() for x in jnp.indices(shape))
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(seed)
    run_all = jax.jit(jax.vmap(partial(course, updates, every, lessons)))
    seen = {what: np.asarray(x, float) for what, x in run_all(which, jnp.array(staleness)[lag], keys).items()}
    seen = {what: x.reshape(*shape, *x.shape[1:]) for what, x in seen.items()}
    found = {name: {what: rounded(x[i]) for what, x in seen.items()} for i, name in enumerate(LOSSES)}
    return {
        "staleness": list(staleness),
        "seeds": seeds,
        "updates": updates,
        "every": every,
        "lessons": lessons,
        "learning_rate": LEARNING_RATE,
        "losses": found,
    }


def rounded(x: np.ndarray) -> list:
    """Lists of numbers with four digits."""
    return [float(f"{number:.4g}") for number in x] if x.ndim == 1 else [rounded(each) for each in x]


def last(result: dict, name: str, what: str = "reward") -> np.ndarray:
    """`[staleness, seeds]`, the mean of the last quarter of a run."""
    x = np.array(result["losses"][name][what])
    return x[..., -max(1, x.shape[-1] // 4) :].mean(-1)


def answer(result: dict) -> str:
    lag = result["staleness"][-1]
    means = {name: last(result, name)[-1].mean() for name in result["losses"]}
    best = max(means, key=means.__getitem__)
    fresh = last(result, "no correction")[0].mean()
    rest = ", ".join(f"{name} {means[name]:.2f}" for name in means if name not in (best, "no correction"))
    return (
        f"At {lag} updates {best} keeps the most, {means[best]:.2f} of the places right, where no correction has "
        f"{means['no correction']:.2f} (and {fresh:.2f} with a fresh sampler); the others: {rest}."
    )


def details(result: dict) -> str:
    first = np.mean([x["first_reward"] for x in result["losses"].values()])
    lags = result["staleness"]
    rows = []
    for name in result["losses"]:
        rewards = ", ".join(f"{x:.2f}" for x in last(result, name).mean(1))
        kl = ", ".join(f"{x:.3g}" for x in last(result, name, "kl").mean(1))
        rows.append(f"{name}: {rewards} (KL {kl})")
    return (
        f"All begin at {first:.2f}. Share of places right by the learner's own answers, and KL(μ‖π) a token in nats, "
        f"over the last quarter of {result['updates']} updates, means of {result['seeds']} seeds, at a staleness of "
        f"{', '.join(map(str, lags))}: {'; '.join(rows)}. Even with fresh parameters the sampler differs by rounding."
    )


def draw(result: dict) -> Figure:
    """Reward, divergence and effective sequences over staleness, and the course at the largest."""
    drawing, axes = panels(2, 2, (9.5, 7))
    places = np.arange(len(result["staleness"]))
    for name in result["losses"]:
        color = LOSSES[name][1]
        for panel, what in zip(axes.flat[:3], ("reward", "kl", "ess"), strict=True):
            band(panel, places, summary(last(result, name, what).T, mean), color=color, label=name)
        curve = np.array(result["losses"][name]["reward"])[-1]
        first = np.array(result["losses"][name]["first_reward"])[-1]
        x = result["every"] * np.arange(curve.shape[1] + 1)
        curves = np.concatenate([first[:, None], curve], 1)
        band(axes[1, 1], x, summary(curves, mean), color=color, markersize=0)
    title(axes[0, 0], "Share of places right, at the end")
    title(axes[0, 1], "KL(μ‖π) a token")
    title(axes[1, 0], "Effective share of a batch's sequences")
    title(axes[1, 1], f"Share of places right, staleness {result['staleness'][-1]}")
    for panel in axes.flat[:3]:
        panel.set_xticks(places, [str(x) for x in result["staleness"]])
        panel.set_xlabel("updates that the sampler is behind")
    axes[0, 1].set_yscale("log")
    axes[0, 1].set_ylabel("nats")
    axes[1, 1].set_xlabel("update")
    legend(axes[0, 0], loc="lower left", ncols=2)
    return drawing


EXPERIMENT = Experiment(
    HERE,
    "Which correction makes up for a sampler that is not the language model that learns?",
    measure,
    answer,
    details,
    draw,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
