"""Critics: networks of observation and action that stand beside that of the policy."""

from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from isjax.networks.torsos import Activation, make_torso
from isjax.types import Key, Network, Tree


class Critic(nn.Module):
    """Observations `[N, ...]` and actions `[N, D]`, which a torso sees as one vector, → values `[N]`.

    >>> critic, observation, action = Critic(torso=(8,)), jnp.zeros((5, 3)), jnp.zeros((5, 2))
    >>> critic.init_with_output(jax.random.key(0), observation, action)[0].shape
    (5,)
    """

    network: str = "mlp"
    torso: tuple[int, ...] = (64,)
    channels: int = 16
    activation: Activation = "tanh"
    layer_norm: bool = False

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """Q(s, a)."""
        torso = make_torso(
            self.network,
            name="torso",
            widths=self.torso,
            channels=self.channels,
            activation=self.activation,
            layer_norm=self.layer_norm,
        )
        x = torso(jnp.concatenate([observation.reshape(len(observation), -1), action], axis=-1))
        return nn.Dense(1, name="value")(x)[..., 0]


class PolicyWithCritics(NamedTuple):
    """A `types.Network` of `{"policy": …, "critics": …}`, and critics whose parameters are `[number, ...]`.

    >>> from isjax.networks import ActorCritic
    >>> policy = ActorCritic(num_params=4, is_gaussian=True, has_value=False)
    >>> network = PolicyWithCritics(policy, Critic(torso=(8,)), number=2, action_dim=2)
    >>> params = network.init(jax.random.key(0), jnp.zeros((5, 3)))
    >>> network.action_values(params["critics"], jnp.zeros((5, 3)), jnp.zeros((5, 2))).shape
    (5, 2)
    """

    policy: Network
    critic: nn.Module
    number: int
    action_dim: int

    def init(self, key: Key, observation: jax.Array) -> Tree:
        """See `types.Network`."""
        policy_key, critics_key = jax.random.split(key)
        action = jnp.zeros((len(observation), self.action_dim))
        critics = jax.vmap(lambda key: self.critic.init(key, observation, action))
        keys = jax.random.split(critics_key, self.number)
        return {"policy": self.policy.init(policy_key, observation), "critics": critics(keys)}

    def apply(self, params: Tree, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `types.Network`."""
        return self.policy.apply(params["policy"], observation)

    def action_values(self, critics: Tree, observation: jax.Array, action: jax.Array) -> jax.Array:
        """`[N, number]`, what each critic says of actions `[N, D]`."""
        each = jax.vmap(self.critic.apply, in_axes=(0, None, None), out_axes=-1)
        return cast(jax.Array, each(critics, observation, action))
