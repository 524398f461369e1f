"""The default networks: torso, memory if there is one, and a policy head and a value head."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer, normal, variance_scaling, zeros

from isjax.types import Tree

# No orthogonal initializer here: its QR, batched over many learners, can starve a two-thread pool for good.
_torso_init = variance_scaling(2.0, "fan_in", "truncated_normal")
_cell_init = variance_scaling(1.0, "fan_in", "truncated_normal")
_POLICY_SCALE = 0.01


class Torso(nn.Module):
    """`[N, ...]` observations → features `[N, W]`: a convolution if asked for, then dense layers."""

    network: Literal["mlp", "conv"]
    widths: tuple[int, ...]
    channels: int
    activation: Literal["relu", "tanh"]

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        activate = {"relu": nn.relu, "tanh": nn.tanh}[self.activation]
        x = observation
        if self.network == "conv":
            x = activate(nn.Conv(self.channels, (3, 3), padding="VALID", kernel_init=_torso_init, name="conv")(x))
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.widths):
            x = activate(nn.Dense(width, kernel_init=_torso_init, name=f"dense_{i}")(x))
        return x


class Heads(nn.Module):
    """Features → policy `[N, P]`, value `[N]`.

    For Box actions the log standard deviations are parameters of their own, the same in every state.
    """

    num_params: int
    is_gaussian: bool

    @nn.compact
    def __call__(self, x: jax.Array, x_value: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        outputs = self.num_params // 2 if self.is_gaussian else self.num_params
        if x_value is None:
            # Both heads in one product: policy columns first, the value last.
            heads = nn.Dense(outputs + 1, kernel_init=_heads_init, name="heads")(x)
            policy, value = heads[..., :-1], heads[..., -1]
        else:
            policy = nn.Dense(outputs, kernel_init=_scaled_normal(_POLICY_SCALE), name="policy")(x)
            value = nn.Dense(1, kernel_init=_scaled_normal(1.0), name="value")(x_value)[..., 0]
        if self.is_gaussian:
            log_std = self.param("log_std", zeros, (outputs,), jnp.float32)
            policy = jnp.concatenate([policy, jnp.broadcast_to(log_std, policy.shape)], axis=-1)
        return policy, value


class ActorCritic(nn.Module):
    """`[N, ...]` observations → policy `[N, P]`, value `[N]`, from one torso or from two."""

    num_params: int
    is_gaussian: bool = False
    network: Literal["mlp", "conv"] = "mlp"
    towers: Literal["shared", "separate"] = "shared"
    torso: tuple[int, ...] = (64,)
    channels: int = 16
    activation: Literal["relu", "tanh"] = "tanh"

    @nn.compact
    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        settings = (self.network, self.torso, self.channels, self.activation)
        x = Torso(*settings, name="torso")(observation)
        x_value = Torso(*settings, name="value_torso")(observation) if self.towers == "separate" else None
        return Heads(self.num_params, self.is_gaussian, name="heads")(x, x_value)


class RecurrentActorCritic(nn.Module):
    """The same with a GRU or LSTM between torso and heads (see `types.RecurrentNetwork`)."""

    num_params: int
    is_gaussian: bool = False
    network: Literal["mlp", "conv"] = "mlp"
    memory: Literal["gru", "lstm"] = "gru"
    torso: tuple[int, ...] = (64,)
    channels: int = 16
    activation: Literal["relu", "tanh"] = "tanh"

    def start(self, batch: int) -> Tree:
        """An empty memory: zeros."""
        empty = jnp.zeros((batch, self.torso[-1]), jnp.float32)
        return (empty, empty) if self.memory == "lstm" else empty

    @nn.compact
    def __call__(self, observation: jax.Array, carry: Tree, is_first: jax.Array) -> tuple[jax.Array, jax.Array, Tree]:
        rows, batch = is_first.shape
        torso = Torso(self.network, self.torso, self.channels, self.activation, name="torso")
        features = torso(observation.reshape(rows * batch, *observation.shape[2:])).reshape(rows, batch, -1)
        kind: Any = nn.GRUCell if self.memory == "gru" else nn.OptimizedLSTMCell
        cell = kind(self.torso[-1], kernel_init=_cell_init, recurrent_kernel_init=_cell_init, name="cell")

        def step(cell, carry, row):
            x, is_first = row
            carry = jax.tree.map(lambda kept: jnp.where(is_first[:, None], 0.0, kept), carry)
            carry, y = cell(carry, x)
            return carry, (y, carry)

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        _, (y, carries) = scan(cell, carry, (features, is_first))
        policy, value = Heads(self.num_params, self.is_gaussian, name="heads")(y)
        return policy, value, carries


def _heads_init(key: jax.Array, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    """Columns of unit norm, the policy's scaled down: the first policy is close to uniform."""
    scale = jnp.full((shape[1],), _POLICY_SCALE, dtype).at[-1].set(1.0)
    return _scaled_normal(1.0)(key, shape, dtype) * scale[None, :]


def _scaled_normal(scale: float) -> Initializer:
    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding
        return normal(scale * shape[0] ** -0.5)(key, shape, dtype)

    return init
