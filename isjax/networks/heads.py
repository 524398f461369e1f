"""Heads: from features to the policy's parameters and a value."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer, normal, zeros

from isjax.errors import FieldError
from isjax.registry import Registry

_POLICY_SCALE = 0.01


class Heads(nn.Module):
    """What all heads derive from.

    `num_params` is P, the number of actions or, where `is_gaussian`, twice the dimension of a Box action: means, then
    log standard deviations.

    >>> linear = heads.get("linear")(num_params=3, is_gaussian=False)
    >>> (policy, value), params = linear.init_with_output(jax.random.key(0), jnp.zeros((5, 8)))
    >>> policy.shape, value.shape
    ((5, 3), (5,))
    """

    unused: ClassVar[tuple[str, ...]] = ("value_min", "value_max", "value_bins")
    """Settings that have no say here, and are refused where they are given."""
    is_distributional: ClassVar[bool] = False
    """Whether what is returned as value are logits `[..., A, K]`: of histograms between `bin_edges`, whose means are
    the values of actions."""

    num_params: int
    is_gaussian: bool
    has_value: bool = True
    """False where values are those of actions, of the network's output or of critics: what is returned as value is then
    not used."""
    value_min: float = -100.0
    value_max: float = 100.0
    value_bins: int = 101

    def __call__(self, x: jax.Array, x_value: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """`(policy [..., P], value [...])` of features `[..., W]`; `x_value` has the value's own, if it has its own."""
        raise NotImplementedError


heads = Registry("heads", Heads)


@heads.register("linear")
class Linear(Heads):
    """A linear layer each. For Box actions log standard deviations are parameters, the same in every state."""

    is_std_free: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: jax.Array, x_value: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `Heads`."""
        has_free_std = self.is_gaussian and self.is_std_free
        outputs = self.num_params // 2 if has_free_std else self.num_params
        if not self.has_value:
            name = "policy" if self.is_gaussian else "action_values"
            policy = nn.Dense(outputs, kernel_init=_scaled_normal(_POLICY_SCALE), name=name)(x)
            value = jnp.max(policy, axis=-1)
        elif x_value is None:
            # Both heads in one product: policy columns first, the value last.
            joint = nn.Dense(outputs + 1, kernel_init=_joint_init, name="heads")(x)
            policy, value = joint[..., :-1], joint[..., -1]
        else:
            policy = nn.Dense(outputs, kernel_init=_scaled_normal(_POLICY_SCALE), name="policy")(x)
            value = nn.Dense(1, kernel_init=_scaled_normal(1.0), name="value")(x_value)[..., 0]
        if has_free_std:
            log_std = self.param("log_std", zeros, (outputs,), jnp.float32)
            policy = jnp.concatenate([policy, jnp.broadcast_to(log_std, policy.shape)], axis=-1)
        return policy, value


@heads.register("state-std")
class StateStd(Linear):
    """The same, with log standard deviations of Box actions from the features, as their means are."""

    is_std_free: ClassVar[bool] = False


@heads.register("dueling")
class Dueling(Heads):
    """Of each action how much it is better than the others, and what they have in common (Wang et al. 2016, eq. 9).

    Without action values that is an actor-critic whose logits and value are these two.
    """

    @nn.compact
    def __call__(self, x: jax.Array, x_value: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `Heads`."""
        if self.is_gaussian:
            raise FieldError("heads", "for Box actions as well where actions are a Box", "dueling")
        advantage = nn.Dense(self.num_params, kernel_init=_scaled_normal(_POLICY_SCALE), name="advantage")(x)
        value = nn.Dense(1, kernel_init=_scaled_normal(_POLICY_SCALE), name="value")(x if x_value is None else x_value)
        return value + advantage - jnp.mean(advantage, axis=-1, keepdims=True), value[..., 0]


@heads.register("hl-gauss")
class HLGauss(Heads):
    """A histogram of each action's value, to be learned as one classifies (Farebrother et al. 2024)."""

    unused: ClassVar[tuple[str, ...]] = ()
    is_distributional: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: jax.Array, x_value: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `Heads`: the means of the histograms, and their logits."""
        logits = nn.Dense(self.num_params * self.value_bins, kernel_init=_scaled_normal(_POLICY_SCALE), name="bins")(x)
        logits = logits.reshape(*x.shape[:-1], self.num_params, self.value_bins)
        edges = bin_edges(self.value_min, self.value_max, self.value_bins)
        return jax.nn.softmax(logits) @ ((edges[1:] + edges[:-1]) / 2), logits


def bin_edges(value_min: float, value_max: float, value_bins: int) -> jax.Array:
    """`[K + 1]`, the ends of `value_bins` bins of equal width."""
    return jnp.linspace(value_min, value_max, value_bins + 1, dtype=jnp.float32)


def make_heads(name: str, num_params: int, is_gaussian: bool, has_value: bool = True, **bins: Any) -> Heads:
    """The module of that name; `bins` are the settings of its histograms, if it has any."""
    return heads.get(name)(num_params, is_gaussian, has_value, **bins, name="heads")


def _joint_init(key: jax.Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
    """Columns of unit norm, the policy's scaled down: the first policy is close to uniform."""
    scale = jnp.full((shape[1],), _POLICY_SCALE, dtype).at[-1].set(1.0)
    return _scaled_normal(1.0)(key, shape, dtype, out_sharding) * scale[None, :]


def _scaled_normal(scale: float) -> Initializer:
    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding
        return normal(scale * shape[0] ** -0.5)(key, shape, dtype)

    return init
