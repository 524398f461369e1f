"""Every loss of action values with arguments to call it with, for what holds of all of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isjax import losses

ACTIONS, ATOMS = 3, 4
GRID = np.linspace(-2.0, 2.0, ATOMS, dtype=np.float32)
EDGES = np.linspace(-2.0, 2.0, ATOMS + 1, dtype=np.float32)


def draw(seed: int, *shape: int) -> dict[str, Any]:
    """Every argument by name, `[T, *B]` and more, in float32; `learned` names none of them."""
    rng = np.random.default_rng(seed)
    normal = lambda *more: rng.normal(size=(*shape, *more)).astype(np.float32)  # noqa: E731
    log_pi = np.log(rng.dirichlet(np.ones(ACTIONS), size=(*shape,))).astype(np.float32)
    return {
        "q_tm1": normal(ACTIONS),
        "q_t": normal(ACTIONS),
        "selector_t": normal(ACTIONS),
        "theta_tm1": normal(ACTIONS, ATOMS),
        "theta_t": normal(ACTIONS, ATOMS),
        "one_theta_tm1": normal(ATOMS),
        "samples_tm1": normal(5),
        "probs_tm1": rng.dirichlet(np.ones(ATOMS), size=(*shape,)).astype(np.float32),
        "target_tm1": normal(),
        "r_t": normal(),
        "discount_t": np.where(rng.random(shape) < 0.2, 0.0, 0.9).astype(np.float32),
        "log_pi_t": log_pi,
        "log_pi_tm1": -rng.exponential(size=shape).astype(np.float32),
        "log_mu_tm1": -rng.exponential(size=shape).astype(np.float32),
        "a_tm1": rng.integers(0, ACTIONS, shape),
        "a_t": rng.integers(0, ACTIONS, shape),
    }


class Case(NamedTuple):
    """A loss: the names of its arguments, the first of which learns, and options."""

    loss: Any
    names: tuple[str, ...]
    options: Mapping[str, Any] = MappingProxyType({})
    between: tuple[Any, ...] = ()
    """What it takes between these and `is_valid_t`."""

    def __call__(self, x: dict[str, Any], valid: Any = None, **more: Any) -> jax.Array:
        return self.loss(*(x[name] for name in self.names), *self.between, valid, **self.options, **more)


ONE_STEP = ("q_tm1", "a_tm1", "q_t")
CASES = {
    "regression": Case(losses.action_value_loss, ("q_tm1", "a_tm1", "target_tm1")),
    "regression, Huber": Case(losses.action_value_loss, ("q_tm1", "a_tm1", "target_tm1"), {"huber": 0.5}),
    "q-learning": Case(losses.q_learning_loss, (*ONE_STEP, "r_t", "discount_t")),
    "double q-learning": Case(losses.double_q_learning_loss, (*ONE_STEP, "selector_t", "r_t", "discount_t")),
    "sarsa": Case(losses.sarsa_loss, (*ONE_STEP, "a_t", "r_t", "discount_t")),
    "expected sarsa": Case(losses.expected_sarsa_loss, (*ONE_STEP, "log_pi_t", "r_t", "discount_t")),
    "q(σ)": Case(
        losses.q_sigma_loss,
        (*ONE_STEP, "log_pi_t", "r_t", "discount_t", "log_pi_tm1", "log_mu_tm1"),
        {"sigma": 0.5},
        (None,),
    ),
    "quantiles": Case(losses.quantile_regression_loss, ("one_theta_tm1", "samples_tm1")),
    "quantile q-learning": Case(
        losses.quantile_q_learning_loss, ("theta_tm1", "a_tm1", "theta_t", "r_t", "discount_t")
    ),
    "categories": Case(losses.categorical_loss, ("one_theta_tm1", "probs_tm1")),
    "HL-Gauss": Case(losses.hl_gauss_loss, ("one_theta_tm1", "target_tm1"), {}, (EDGES,)),
    "categorical q-learning": Case(
        losses.categorical_q_learning_loss, ("theta_tm1", "a_tm1", "theta_t", "r_t", "discount_t"), {}, (GRID,)
    ),
}


def is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)
