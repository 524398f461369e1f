"""The shape vocabulary, and the interfaces that others may implement.

Axes: `T` time steps (always first), `*B` any number of streams, `A` actions, `N` episodes.
A name that ends in `_tm1` belongs to the state a step starts from, `_t` to the state it leads to.
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax

Key: TypeAlias = jax.Array
"""A typed random key, as `jax.random.key(seed)` makes them."""
Scalar: TypeAlias = jax.Array | float
"""A Python number or an array of shape `[]`."""
Series: TypeAlias = jax.Array
"""`[T, *B]`, floating: a number a step."""
Flags: TypeAlias = jax.Array
"""`[T, *B]`, boolean: a fact a step."""
Tree: TypeAlias = Any
"""Any pytree of arrays."""
Device: TypeAlias = Any
"""What `jax.devices()` lists; type checkers take `jax.Device` for a variable."""
Metrics: TypeAlias = dict[str, jax.Array]
"""Named numbers of shape `[]`; a histogram is `[K]`."""


class Cause(enum.IntEnum):
    """Why a learner died."""

    NONE = 0
    """It lives."""
    NOT_FINITE = 1
    """Its loss, or something that it is made of, was not finite."""
    NO_LEGAL_ACTION = 2
    """It came to a state whose `action_mask` excludes every action."""


class Unroll(NamedTuple):
    """What acting for `T` steps in `B` environments leaves behind.

    Step `t` starts in `observation_tm1[t]`; step `T - 1` leads to `observation_tm1[T]` unless an episode
    ended there. A step that a time limit cut leads to `cut_observation[cut_slot_t[t]]` instead: the
    state actually reached, not the first one of the next episode.
    """

    observation_tm1: Tree
    """`[T + 1, B, ...]`, as the environment gave it."""
    action_tm1: jax.Array
    """`[T, B, ...]`, before any squashing or clipping."""
    log_mu_tm1: Series
    """Log-probability of the action under the policy that chose it."""
    r_t: Series
    """Reward, float32, as the environment gave it."""
    terminated_t: Flags
    """The state reached is terminal: nothing follows, the value of what follows is zero."""
    truncated_t: Flags
    """A time limit cut the episode; the return goes on and has to be bootstrapped."""
    cut_observation: Tree
    """`[K, B, ...]`: the observations that time limits cut short, in order of time."""
    cut_slot_t: jax.Array
    """`[T, B]` int32: the slot of `cut_observation` that step `t` filled, if it was cut."""
    memory: Tree = ()
    """`[1, B, ...]`: what a recurrent network brought into step 0, already empty if an episode starts there."""
    mu_tm1: jax.Array | None = None
    """`[T, B, P]`, parameters of the distribution that acted, where steps are judged by them."""
    is_valid_t: Flags | None = None
    """`[T, B]`, false for steps that are not to be learned from; `None` if all are."""
    weight_tm1: Series | None = None
    """`[T, B]`, what a step counts in a loss, for how it was drawn from a replay; `None` if all count alike."""


class Terms(NamedTuple):
    """What a loss is made of, everything `[T, *B]`; gradients flow into the first three.

    An algorithm that prepares its advantages (see `learner.algorithms.Batch`) sees time steps `[1, N]` in any order:
    everything but these three is then as it was before the first gradient step.
    """

    log_pi_tm1: Series
    """Log-probability of the action under the policy that learns."""
    entropy_tm1: Series
    """Entropy of the learning policy, in nats."""
    v_tm1: Series
    """Value of the state the step starts from."""
    v_t: Series
    """Value of the state actually reached: the final one at a time limit, never the reset one."""
    log_mu_tm1: Series
    """Log-probability of the action under the policy that acted."""
    r_t: Series
    discount_t: Series
    """γ, and 0 where the episode terminated."""
    same_episode_t: Flags
    """False where step `t` ended its episode, for either reason."""
    is_valid_t: Flags | None = None
    """False for steps that are not to be learned from; `None` if all are."""
    weight_tm1: Series | None = None
    """What a step counts, for how it was drawn from a replay; `None` if all count alike."""


class LoggedEpisodes(NamedTuple):
    """`N` episodes that some policy left behind, `[T, N]` each, as the estimators of `isjax.ope` take them."""

    log_rho_tm1: Series
    """`log π(a|s) − log μ(a|s)`; `−inf` where the target policy never acts so."""
    r_t: Series
    is_valid_t: Flags
    """False for padding, which follows an episode and holds zeros."""
    v_tm1: Series | None = None
    """A model's value of the state a step starts from, under the target policy."""
    q_tm1: Series | None = None
    """The same of that state and the action taken."""
    state_tm1: jax.Array | None = None
    """`[T, N]` int32, at least 0: the state a step starts from, where states are integers."""


class Network(Protocol):
    """A pair of pure functions; a flax module is one, and so is any NamedTuple of two functions.

    Observations come as one float32 array, unless the network has an attribute `takes_structure` that is true: then
    as the environment's own tree, without `action_mask`, its floating arrays float32 and all others as they are.
    """

    def init(self, key: Key, observation: Tree, /) -> Tree:
        """Parameters, from a batch of observations `[N, ...]`."""
        ...

    def apply(self, params: Tree, observation: Tree, /) -> tuple[jax.Array, jax.Array]:
        """`(policy [N, P], value [N])`; P is the number of actions, or twice the dimension of a Box
        action (means, then log standard deviations).
        """
        ...


class RecurrentNetwork(Protocol):
    """A network with a memory, applied to sequences; a network that has `start` is taken for one."""

    def start(self, batch: int, /) -> Tree:
        """An empty memory `[batch, ...]`, all zeros."""
        ...

    def init(self, key: Key, observation: Tree, memory: Tree, is_first: Flags, needed: jax.Array, /) -> Tree:
        """Parameters, from arguments as `apply` gets them."""
        ...

    def apply(
        self, params: Tree, observation: Tree, memory: Tree, is_first: Flags, needed: jax.Array, /
    ) -> tuple[jax.Array, jax.Array, Tree]:
        """`(policy [T, B, P], value [T, B], memories [K, B, ...])` of observations `[T, B, ...]`.

        `memory` `[B, ...]` is what time step 0 starts with; a time step where `is_first` is true starts with an empty
        one. `needed` `[K, B]` int32 says which memories are asked for: `memories[k, b]` is what time step
        `needed[k, b]` of stream b leaves behind, before any ending. They are few, so that a memory may be large.
        """
        ...


Objective: TypeAlias = Callable[[Terms, Any], tuple[jax.Array, Metrics]]
"""`(terms, hyper) → (loss, metrics)`: the loss is a scalar to minimize."""
