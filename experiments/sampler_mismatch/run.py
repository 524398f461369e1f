"""What corrections are worth where texts come from a sampler that is not the policy that learns.

A character-level model learns to sort digits from rewards alone, after a little imitation. Its sampler computes in
bfloat16, with the parameters of so many updates ago; its learner computes in float32, and takes one gradient step on
each batch. Group-relative advantages, the same settings for all, nothing tuned for a correction.

    python -m experiments.sampler_mismatch.run [--quick | --redraw]
"""

import functools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments.drawing import BLACK, BLUE, BROWN, GRAY, GREEN, ORANGE, PURPLE, RED, legend, panels, title
from experiments.experiment import Experiment, run, summary
from experiments.sampler_mismatch import model
from isjax import losses, ops
from isjax.types import Tree

HERE = Path(__file__).parent
STALENESS = (0, 1, 4, 16, 64)
"""Updates by which the sampler's parameters are behind."""
LEARNERS, SEED = 10, 0
UPDATES, IMITATION = 400, 80
QUESTIONS, ANSWERS = 8, 8
"""Of a batch, and of each question."""
TESTS, EVERY = 128, 20
"""Questions of a test, and updates between tests."""
RATE, IMITATION_RATE = 3e-3, 5e-3
MOST = max(STALENESS) + 1


def uncorrected(log_pi, log_mu, advantage):
    return losses.truncated_is_loss(log_pi, jax.lax.stop_gradient(log_pi), advantage)


CORRECTIONS: dict[str, tuple[Callable[..., jax.Array], str]] = {
    "none": (uncorrected, GRAY),
    "token, truncated": (partial(losses.truncated_is_loss, truncation=2.0), BLUE),
    "sequence, truncated": (partial(losses.truncated_is_loss, level="sequence", truncation=3.0), GREEN),
    "token, masked": (partial(losses.masked_is_loss, low=0.5, high=5.0), ORANGE),
    "sequence, masked": (
        partial(losses.masked_is_loss, level="step", mask_level="geometric", low=0.5, high=2.0),
        RED,
    ),
    "GSPO": (losses.gspo_loss, PURPLE),
    "TOPR": (losses.topr_loss, BROWN),
}
"""By name, with the defaults of the trainers that have them (`isjax.ops.sampler`, `isjax.losses`)."""


def imitated(key: jax.Array, steps: int) -> Tree:
    """Parameters after a little imitation: enough that some answers are right."""
    optimizer = optax.adam(IMITATION_RATE)

    def step(carry, key):
        params, state = carry
        prompt = model.prompts(key, QUESTIONS * ANSWERS)
        gradient = jax.grad(lambda p: -jnp.mean(model.log_probabilities(p, prompt, model.solution(prompt))))(params)
        change, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, change), state), None

    params = model.init(key)
    return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, steps))[0][0]


def update(loss: Callable[..., jax.Array], staleness: jax.Array, carry: tuple, row: tuple) -> tuple:
    """One gradient step on a batch of the sampler's, and what it saw."""
    (params, optimizer, earlier), (u, key) = carry, row
    optimize = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(RATE))
    earlier = jax.tree.map(lambda ring, x: ring.at[u % MOST].set(x), earlier, params)
    slot = jnp.maximum(u - staleness, 0) % MOST
    sampler = jax.tree.map(lambda ring: ring[slot].astype(jnp.bfloat16), earlier)
    asked, written = jax.random.split(key)
    prompt = jnp.repeat(model.prompts(asked, QUESTIONS), ANSWERS, axis=1)
    answer, log_mu = model.write(sampler, prompt, written)
    rewards = model.reward(prompt, answer).reshape(QUESTIONS, ANSWERS)
    advantage = ops.group_advantages(rewards, baseline="rloo").reshape(1, -1)

    def objective(params):
        log_pi = model.log_probabilities(params, prompt, answer)
        return loss(log_pi, log_mu, jnp.broadcast_to(advantage, log_pi.shape)), log_pi

    gradient, log_pi = jax.grad(objective, has_aux=True)(params)
    log_ratio = log_pi - log_mu
    seen = {
        "kl": jnp.mean(jnp.sum(ops.kl_estimates(log_ratio).k3, 0)),
        "ess": ops.effective_sample_size(jnp.sum(log_ratio, 0)) / log_ratio.shape[1],
    }
    change, optimizer = optimize.update(gradient, optimizer)
    return (optax.apply_updates(params, change), optimizer, earlier), seen


@functools.partial(jax.jit, static_argnames=("loss", "updates", "imitation"))
def learn(loss: Callable[..., jax.Array], staleness: jax.Array, seed: jax.Array, updates: int, imitation: int):
    """Learners `[S, L]` for staleness `[S]` and seeds `[L]`: rewards of tests, divergence and effective samples."""

    def learner(staleness, seed):
        start, trained, tested = (jax.random.fold_in(jax.random.key(SEED), 3 * seed + i) for i in range(3))
        params = imitated(start, imitation)
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(RATE)).init(params)
        earlier = jax.tree.map(lambda x: jnp.repeat(x[None], MOST, 0), params)

        def test(params, key):
            prompt = model.prompts(key, TESTS)
            return jnp.mean(model.reward(prompt, model.write(params, prompt, key)[0]))

        def block(carry, row):
            numbers, key = row
            keys = jax.vmap(lambda u: jax.random.fold_in(trained, u))(numbers)
            carry, seen = jax.lax.scan(partial(update, loss, staleness), carry, (numbers, keys))
            return carry, jax.tree.map(jnp.mean, seen) | {"reward": test(carry[0], key)}

        first = test(params, tested)
        numbers = jnp.arange(updates).reshape(-1, min(EVERY, updates))
        keys = jax.random.split(tested, len(numbers))
        _, seen = jax.lax.scan(block, (params, optimizer, earlier), (numbers, keys))
        return seen | {"reward": jnp.concatenate([first[None], seen["reward"]])}

    return jax.vmap(lambda s: jax.vmap(lambda i: learner(s, i))(seed))(staleness)


def measure(quick: bool) -> dict[str, Any]:
    staleness, count = ((0, 4), 2) if quick else (STALENESS, LEARNERS)
    names = list(CORRECTIONS)[:2] if quick else list(CORRECTIONS)
    updates, imitation = (4, 4) if quick else (UPDATES, IMITATION)
    found = {}
    for name in names:
        seen = learn(CORRECTIONS[name][0], jnp.array(staleness), jnp.arange(count), updates, imitation)
        last = {key: np.asarray(x[..., -5:].mean(-1)).T for key, x in seen.items()}
        found[name] = {key: summary(x) for key, x in last.items()}
        found[name]["curve"] = summary(np.moveaxis(np.asarray(seen["reward"]), 1, 0))
        found[name]["rewards"] = last["reward"].T.tolist()
        print(name, np.round(found[name]["reward"]["value"], 3), np.round(found[name]["kl"]["value"], 3), flush=True)
    return {
        "seed": SEED,
        "learners": count,
        "updates": updates,
        "staleness": list(staleness),
        "corrections": found,
    }


def interval(summary: dict[str, Any], place: int) -> str:
    value, low, high = (summary[name][place] for name in ("value", "low", "high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def answer(result: dict[str, Any]) -> str:
    found, oldest = result["corrections"], result["staleness"][-1]
    ranked = sorted(found, key=lambda name: -found[name]["reward"]["value"][-1])
    parts = [f"{name} {interval(found[name]['reward'], -1)}" for name in ranked]
    fresh = interval(found["none"]["reward"], 0)
    return (
        f"With a sampler {oldest} updates old, the share of right answers (IQM of {result['learners']}) is "
        f"{', '.join(parts)}; with a fresh sampler in bfloat16 and no correction it is {fresh}."
    )


def details(result: dict[str, Any]) -> str:
    header = ["correction", *(f"{age} updates old" for age in result["staleness"])]
    lines = [
        [name, *(interval(found["reward"], place) for place in range(len(result["staleness"])))]
        for name, found in result["corrections"].items()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])


def draw(result: dict[str, Any]) -> Figure:
    drawing, ((reward, kl, curve),) = panels(1, 3, (12.5, 4.0))
    ages, last = result["staleness"], len(result["staleness"]) - 1
    for i, (name, found) in enumerate(result["corrections"].items()):
        look = {"color": CORRECTIONS[name][1], "label": name}
        places = np.arange(len(ages)) + 0.06 * (i - 3)
        for panel, key in ((reward, "reward"), (kl, "kl")):
            value, low, high = (np.array(found[key][part]) for part in ("value", "low", "high"))
            errors = [np.maximum(value - low, 0), np.maximum(high - value, 0)]
            panel.errorbar(places, value, errors, marker="o", markersize=4, capsize=2, **look)
        tested = np.linspace(0, result["updates"], len(found["curve"]["value"][last]))
        curve.plot(tested, found["curve"]["value"][last], **look)
        curve.fill_between(
            tested, found["curve"]["low"][last], found["curve"]["high"][last], color=look["color"], alpha=0.15
        )
    for panel in (reward, kl):
        panel.set_xticks(range(len(ages)), [str(age) for age in ages])
        panel.set_xlabel("age of the sampler, in updates")
    reward.set_ylabel("share of right answers (IQM)")
    kl.set(ylabel="KL(sampler ‖ policy), nats an answer", yscale="log")
    curve.set(xlabel="updates", ylabel="share of right answers (IQM)")
    curve.set_ylim(-0.03, 1.25)
    curve.axhline(1.0, color=BLACK, linewidth=0.5)
    title(reward, f"after {result['updates']} updates")
    title(kl, "how far sampler and policy are apart")
    title(curve, f"with a sampler {ages[-1]} updates old")
    legend(curve, loc="upper left")
    return drawing


EXPERIMENT = Experiment(
    HERE,
    "Which correction holds when texts come from a sampler of lower precision, with older parameters?",
    measure,
    answer,
    details,
    draw,
)

if __name__ == "__main__":
    run(EXPERIMENT, __doc__)
