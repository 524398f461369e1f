"""The off-policy policy gradient with the true, an estimated, the product's and no state ratio, and the exact one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.state_ratios.processes import Process, padded
from isjax import losses, ope

EPISODES = 200


def exact_gradient(process: Process) -> np.ndarray:
    """`[S, A]`, of the undiscounted value with respect to the logits of π."""
    v, q = process.values()
    weight = process.distributions(process.pi)[..., None] * process.pi[None]
    return np.sum(weight * (q - v[:-1, :, None]), 0)


@jax.jit
def gradients(log: dict, log_exact: jax.Array, pi: jax.Array, mu: jax.Array) -> dict[str, jax.Array]:
    """From one log, `[S, A]` for each way to weigh states."""
    state, action, valid = log["state"], log["action"], log["is_valid"]
    row = jnp.arange(len(state))[:, None]
    estimated = ope.state_ratios(log["log_rho"], state, valid, num_states=len(pi)).log_ratio_tm1
    log_mu = jnp.log(mu)[state, action]
    steps = jnp.sum(jnp.any(valid, 1))

    def slope(loss: Callable[..., jax.Array]) -> jax.Array:
        def total(logits: jax.Array) -> jax.Array:
            return -steps * loss(jax.nn.log_softmax(logits)[state, action], log_mu, log["advantage"])

        return jax.grad(total)(jnp.log(pi))

    return {
        "true": slope(lambda *x: losses.state_ratio_loss(*x, log_exact[row, state], valid)),
        "estimated": slope(lambda *x: losses.state_ratio_loss(*x, estimated, valid)),
        "product": slope(lambda *x: losses.product_of_ratios_loss(*x, is_valid_t=valid)),
        "none": slope(lambda *x: losses.per_step_ratio_loss(*x, valid)),
    }


def errors(process: Process, batches: int, *, seed: int, rows: int) -> dict:
    """Bias and variance of each over batches of `EPISODES`, relative to the exact gradient's norm (squared)."""
    d_pi, d_mu = process.distributions(process.pi), process.distributions(process.mu)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_exact = padded(np.where(d_mu > 0, np.log(d_pi) - np.log(d_mu), 0.0), rows)
    rng, true = np.random.default_rng(seed), exact_gradient(process)
    v, q = process.values()
    found: dict[str, list] = {}
    for _ in range(batches):
        log = process.sample(rng, EPISODES)
        place = np.arange(process.horizon)[:, None], log["state"]
        log["advantage"] = q[(*place, log["action"])] - v[place]
        log = {key: padded(log[key], rows) for key in ("state", "action", "log_rho", "advantage", "is_valid")}
        for name, x in gradients(log, log_exact, process.pi, process.mu).items():
            found.setdefault(name, []).append(np.asarray(x, np.float64))
    size = float(np.linalg.norm(true))
    return {"norm": size, "batches": batches, "episodes": EPISODES} | {
        name: {
            "bias": float(np.linalg.norm(np.mean(x, 0) - true) / size),
            "variance": float(np.sum(np.var(x, 0, ddof=1)) / size**2),
        }
        for name, x in found.items()
    }
