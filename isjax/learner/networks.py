"""The default network: one torso, a policy head and a value head on it."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import normal, variance_scaling, zeros

# No orthogonal initializer here: its QR, batched over many learners, can starve a two-thread pool for good.
_torso_init = variance_scaling(2.0, "fan_in", "truncated_normal")
_POLICY_SCALE = 0.01


class ActorCritic(nn.Module):
    """`[N, ...]` observations → policy `[N, P]`, value `[N]`.

    For Box actions the log standard deviations are parameters of their own, the same in every state.
    """

    num_params: int
    is_gaussian: bool = False
    network: Literal["mlp", "conv"] = "mlp"
    torso: tuple[int, ...] = (64,)
    channels: int = 16
    activation: Literal["relu", "tanh"] = "relu"

    @nn.compact
    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        activate = {"relu": nn.relu, "tanh": nn.tanh}[self.activation]
        x = observation
        if self.network == "conv":
            x = activate(nn.Conv(self.channels, (3, 3), padding="VALID", kernel_init=_torso_init, name="conv")(x))
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.torso):
            x = activate(nn.Dense(width, kernel_init=_torso_init, name=f"torso_{i}")(x))
        outputs = self.num_params // 2 if self.is_gaussian else self.num_params
        # Both heads in one product: policy columns first, the value last.
        heads = nn.Dense(outputs + 1, kernel_init=_heads_init, name="heads")(x)
        policy, value = heads[:, :-1], heads[:, -1]
        if self.is_gaussian:
            log_std = self.param("log_std", zeros, (outputs,))
            policy = jnp.concatenate([policy, jnp.broadcast_to(log_std, policy.shape)], axis=-1)
        return policy, value


def _heads_init(key: jax.Array, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    """Columns of unit norm, the policy's scaled down: the first policy is close to uniform."""
    scale = jnp.full((shape[1],), _POLICY_SCALE, dtype).at[-1].set(1.0)
    return normal(shape[0] ** -0.5)(key, shape, dtype) * scale[None, :]
