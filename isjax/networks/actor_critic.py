"""Torso, memory if there is one, and heads, put together to networks."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from isjax._renamed import takes_former_names
from isjax.networks.heads import make_heads
from isjax.networks.memories import Memory, make_memory, take_steps
from isjax.networks.torsos import Activation, Torso, make_torso, torsos
from isjax.types import Flags, Tree


class _Composed(nn.Module):
    """What every network of named parts is made of."""

    num_params: int
    is_gaussian: bool = False
    has_value: bool = True
    """See `heads.Heads`."""
    network: str = "mlp"
    torso: tuple[int, ...] = (64,)
    channels: int = 16
    activation: Activation = "tanh"
    layer_norm: bool = False
    heads: str = "linear"
    value_min: float = -100.0
    value_max: float = 100.0
    value_bins: int = 101

    @property
    def takes_structure(self) -> bool:
        """Whether observations reach it as the tree that they are (see `torsos.Torso`)."""
        return torsos.get(self.network).takes_structure

    def make_torso(self, name: str) -> Torso:
        """The torso, to be known as `name` among the parameters."""
        return make_torso(
            self.network,
            name=name,
            widths=self.torso,
            channels=self.channels,
            activation=self.activation,
            layer_norm=self.layer_norm,
        )

    def apply_heads(self, x: jax.Array, x_value: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Policy and value of features."""
        bins = {"value_min": self.value_min, "value_max": self.value_max, "value_bins": self.value_bins}
        return make_heads(self.heads, self.num_params, self.is_gaussian, self.has_value, **bins)(x, x_value)


@takes_former_names
class ActorCritic(_Composed):
    """Observations `[N, ...]` → policy `[N, P]`, value `[N]`, from one torso or from two.

    >>> network = ActorCritic(num_params=3, torso=(8,))
    >>> (policy, value), params = network.init_with_output(jax.random.key(0), jnp.zeros((5, 4)))
    >>> policy.shape, value.shape
    ((5, 3), (5,))
    """

    share_torso: bool = True

    @nn.compact
    def __call__(self, observation: Tree) -> tuple[jax.Array, jax.Array]:
        """See `types.Network`."""
        x = self.make_torso("torso")(observation)
        x_value = None if self.share_torso else self.make_torso("value_torso")(observation)
        return self.apply_heads(x, x_value)


class RecurrentActorCritic(_Composed):
    """The same with a memory between torso and heads.

    >>> RecurrentActorCritic(num_params=3, torso=(8,), memory="gru").start(batch=2).shape
    (2, 8)
    """

    memory: str = "gru"
    memory_window: int = 32

    def start(self, batch: int) -> Tree:
        """An empty memory: zeros."""
        return self._make_memory(parent=None).start(batch)

    @nn.compact
    def __call__(
        self, observation: Tree, carry: Tree, is_first: Flags, needed: jax.Array
    ) -> tuple[jax.Array, jax.Array, Tree]:
        """See `types.RecurrentNetwork`."""
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), observation)
        features = self.make_torso("torso")(flat).reshape(*is_first.shape, -1)
        y, memories = self._make_memory()(features, carry, is_first, needed)
        policy, value = self.apply_heads(y)
        return policy, value, memories

    def _make_memory(self, **options: Any) -> Memory:
        return make_memory(self.memory, width=self.torso[-1], window=self.memory_window, **options)


class ReturningNeeded(NamedTuple):
    """A recurrent network of version 0.1, whose `apply` returns the memories of all time steps."""

    start: Callable[..., Any]
    init: Callable[..., Any]
    apply_to_all: Callable[..., Any]
    takes_structure: bool

    def apply(
        self, params: Tree, observation: Tree, memory: Tree, is_first: Flags, needed: jax.Array
    ) -> tuple[jax.Array, jax.Array, Tree]:
        """See `types.RecurrentNetwork`."""
        policy, value, memories = self.apply_to_all(params, observation, memory, is_first)
        return policy, value, take_steps(memories, needed)


def as_present_protocol(network: Any) -> Any:
    """The network; one with a memory whose functions do not take `needed` yet in a form that does.

    Warns of such a network: this version is the last one that takes it.

    >>> network = nn.Dense(2)
    >>> as_present_protocol(network) is network
    True
    """
    if not hasattr(network, "start"):
        return network
    apply, count = (network.__call__, 4) if isinstance(network, nn.Module) else (network.apply, 5)
    try:
        inspect.signature(apply).bind(*range(count))
    except TypeError:
        warnings.warn(
            "apply of a network with a memory takes a fifth argument, needed [K, B], and returns memories [K, B, ...] "
            "of these time steps alone (see isjax.types.RecurrentNetwork); without it, it will be refused.",
            DeprecationWarning,
            stacklevel=3,
        )
        init = lambda key, observation, memory, is_first, needed: network.init(key, observation, memory, is_first)  # noqa: E731
        return ReturningNeeded(network.start, init, network.apply, getattr(network, "takes_structure", False))
    return network
