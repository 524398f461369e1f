"""From observations to policy and value: the one path for acting, learning, evaluating and recording."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from isjax.environments.adapter import Adapter
from isjax.environments.distributions import Gaussian
from isjax.learner.algorithms.base import Algorithm, Critics
from isjax.learner.metrics import expand
from isjax.learner.statistics import Moments
from isjax.types import Key, Series, Tree, Unroll

if TYPE_CHECKING:
    from isjax.learner.state import LearnerState


class ForwardPass(NamedTuple):
    """What the network says of an unroll under some parameters."""

    policy_tm1: jax.Array
    """`[T, B, P]`, in the state that a time step starts from."""
    policy_t: jax.Array
    """`[T, B, P]`, in the state actually reached: the final one at a time limit."""
    v_tm1: Series
    """`[T, B]`, the value of the state that a time step starts from; of distributional heads logits `[T, B, A, K]`."""
    v_t: Series
    """The same of the state actually reached."""


class Agent(NamedTuple):
    """An environment's observations and actions, and a network between them."""

    adapter: Adapter
    network: Any
    """A `types.Network` or a `types.RecurrentNetwork`."""
    algorithm: Algorithm
    """What the network's output means."""

    @property
    def has_memory(self) -> bool:
        """Whether the network carries something from step to step."""
        return hasattr(self.network, "start")

    def memory(self, batch: int) -> Tree:
        """An empty memory `[batch, ...]`; `()` for a network without one."""
        return self.network.start(batch) if self.has_memory else ()

    def init(self, key: Key, observation: Tree) -> Tree:
        """Parameters, from observations `[B, ...]`."""
        features = self._features(None, observation)
        if not self.has_memory:
            return self.network.init(key, features)
        return self.network.init(key, *self._one_step(features, self.memory(_batch(features))))

    def step(
        self, params: Tree, moments: Moments | None, observation: Tree, memory: Tree
    ) -> tuple[jax.Array, jax.Array, Tree]:
        """`(policy [B, P], value [B], memory)` for observations `[B, ...]`."""
        features = self._features(moments, observation)
        if self.has_memory:
            policy, value, memories = self.network.apply(params, *self._one_step(features, memory))
            policy, value, memory = policy[0], value[0], jax.tree.map(lambda x: x[0], memories)
        else:
            policy, value = self.network.apply(params, features)
        return self._legal(observation, policy), value, memory

    def policy(self, state: "LearnerState", observation: Tree, memory: Tree) -> tuple[jax.Array, Tree]:
        """`(policy [B, P], memory)`: the distribution over actions that a learner has learned about."""
        policy, _, memory = self.step(state.params, state.observation_moments, observation, memory)
        return self.algorithm.target_policy(policy, state.algorithm, state.hyper), memory

    def forward_unroll(self, params: Tree, moments: Moments | None, unroll: Unroll) -> ForwardPass:
        """One forward pass over the `T + 1` observations of an unroll, and the few that time limits cut."""
        if self.has_memory:
            return self._forward_with_memory(params, moments, unroll)
        policy, value, _ = self.step(params, moments, _every_observation(unroll), ())
        (policy_tm1, policy_t), (v_tm1, v_t) = _by_step(unroll, policy), _by_step(unroll, value)
        return ForwardPass(policy_tm1, policy_t, v_tm1, v_t)

    def critics(self, params: Tree, moments: Moments | None, unroll: Unroll, key: Key) -> Critics:
        """The critics' part of a batch that is this unroll."""
        actions = cast(Gaussian, self.adapter.actions).standard
        observation_tm1, observation_t = _by_step(unroll, self._features(moments, _every_observation(unroll)))

        def values(observation: jax.Array) -> Callable[[Tree, jax.Array], jax.Array]:
            def of(critics: Tree, action: jax.Array) -> jax.Array:
                flat = (x.reshape(-1, *x.shape[2:]) for x in (observation, actions.execute(action)))
                return self.network.action_values(critics, *flat).reshape(*unroll.r_t.shape, -1)

            return of

        return Critics(params, actions, values(observation_tm1), values(observation_t), key)

    def _forward_with_memory(self, params: Tree, moments: Moments | None, unroll: Unroll) -> ForwardPass:
        rows, envs = unroll.r_t.shape
        ended = unroll.terminated_t | unroll.truncated_t
        is_first = jnp.concatenate([jnp.zeros((1, envs), bool), ended])
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), unroll.observation_tm1)
        features = self._features(moments, flat)
        features = jax.tree.map(lambda x: x.reshape(rows + 1, envs, *x.shape[1:]), features)
        memory = jax.tree.map(lambda x: x[0], unroll.memory)
        # The network sees a final observation with the memory that the time step before it left.
        slots = jax.tree.leaves(unroll.cut_observation)[0].shape[0]
        fills = unroll.truncated_t[None] & (unroll.cut_slot_t[None] == jnp.arange(slots)[:, None, None])
        row = jnp.argmax(fills, axis=1)
        policy, value, memories = self.network.apply(params, features, memory, is_first, row)
        policy = self._legal(flat, policy.reshape(-1, policy.shape[-1])).reshape(policy.shape)
        before = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), memories)
        cut = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), unroll.cut_observation)
        policy_cut, v_cut, _ = self.step(params, moments, cut, before)
        policy_t = _reached(unroll, policy[1:], policy_cut.reshape(slots, envs, -1))
        v_t = _reached(unroll, value[1:], v_cut.reshape(slots, envs, *v_cut.shape[1:]))
        return ForwardPass(policy[:rows], policy_t, value[:rows], v_t)

    def _one_step(self, features: Tree, memory: Tree) -> tuple[Tree, Tree, jax.Array, jax.Array]:
        """The arguments of a network with a memory for features `[B, ...]` of one time step within an episode."""
        shape = (1, _batch(features))
        return jax.tree.map(lambda x: x[None], features), memory, jnp.zeros(shape, bool), jnp.zeros(shape, jnp.int32)

    def _features(self, moments: Moments | None, observation: Tree) -> Tree:
        if getattr(self.network, "takes_structure", False):
            return self.adapter.structure(observation)
        features = self.adapter.encode(observation)
        return features if moments is None else moments.standardize(features)

    def _legal(self, observation: Tree, policy: jax.Array) -> jax.Array:
        legal = self.adapter.legal(observation)
        return policy if legal is None else jnp.where(legal.astype(bool), policy, -jnp.inf)


def _batch(features: Tree) -> int:
    return jax.tree.leaves(features)[0].shape[0]


def _every_observation(unroll: Unroll) -> Tree:
    """All `T + 1` observations of each environment, and those that time limits cut: `[(T + 1 + K) B, ...]`."""
    return jax.tree.map(
        lambda seen, cut: jnp.concatenate([seen, cut]).reshape(-1, *seen.shape[2:]),
        unroll.observation_tm1,
        unroll.cut_observation,
    )


def _by_step(unroll: Unroll, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`(x_tm1, x_t)` `[T, B, ...]` of what belongs to `_every_observation`."""
    rows, envs = unroll.r_t.shape
    x = x.reshape(-1, envs, *x.shape[1:])
    return x[:rows], _reached(unroll, x[1 : rows + 1], x[rows + 1 :])


def _reached(unroll: Unroll, x_next: jax.Array, x_cut: jax.Array) -> jax.Array:
    """`x_next` `[T, B, ...]`, and where a time limit cut, what stands in its slot of `x_cut` `[K, B, ...]`."""
    if x_cut.shape[0] > 1:
        x_cut = jnp.take_along_axis(x_cut, expand(unroll.cut_slot_t, x_cut), axis=0)
    return jnp.where(expand(unroll.truncated_t, x_next), x_cut, x_next)
