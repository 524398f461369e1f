"""One learner as a pair of pure functions: act, correct, learn."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.struct
import jax
import jax.numpy as jnp

from isjax.errors import FieldError
from isjax.learner.agent import Agent
from isjax.learner.config import Config, Hyper
from isjax.learner.distributions import Gaussian
from isjax.learner.environments import Adapter, adapt, make_environment
from isjax.learner.evaluation import Evaluation, evaluate, has_legal_action
from isjax.learner.keys import as_given, written_out
from isjax.learner.learning import Learning, start_optimizer
from isjax.learner.metrics import check_own
from isjax.learner.objectives import Algorithm, get_algorithm
from isjax.learner.randomness import Domain, stream
from isjax.learner.replay import Replay, joined
from isjax.learner.statistics import Moments, RewardScale
from isjax.learner.unroll import Actors, Finished, act, reset_actors
from isjax.networks import ActorCritic, RecurrentActorCritic, as_present_protocol, torsos
from isjax.types import Cause, Key, Metrics, Network, Objective, RecurrentNetwork, Tree, Unroll

_NETWORK = ("network", "torso", "channels", "activation", "layer_norm", "heads")
_MEMORY = ("memory", "memory_window")


@flax.struct.dataclass
class LearnerState:
    """Everything a learner is: saving it and going on later gives the same numbers."""

    hyper: Hyper
    key: Key
    """Never changes; update `u` draws from `fold_in(key, u)`."""
    update: jax.Array
    """`[]` int32, updates made so far."""
    alive: jax.Array
    """`[]` bool; false once anything that makes up the learner was not finite: nothing changes from then on.

    That is its loss and gradient, parameters, optimizer, statistics and memories, and what it saw: observations,
    rewards and returns. What an environment's state holds is the environment's own affair: infinity may be a
    placeholder there.
    """
    died_at: jax.Array
    """`[]` int32, the update (from 1) at which it died; −1 while it lives."""
    died_of: jax.Array
    """`[]` int32, a `types.Cause`."""
    params: Tree
    """The network's."""
    optimizer: Tree
    """The preconditioner's moments, of all parameters as one vector."""
    lagging: Tree
    """`[actor_lag, ...]`, the parameters before each of the last updates, in turn; `None` without lag."""
    actors: Actors
    """The environments, in the middle of their episodes."""
    observation_moments: Moments | None
    """Of the observations seen so far, if they are standardized."""
    reward_scale: RewardScale | None
    """What rewards are divided by, if they are scaled."""
    kl_cost: jax.Array | None
    """`[]`, the factor of an adaptive penalty, if the algorithm has one."""
    replay: Replay | None
    """Earlier unrolls, if they are learned from again."""


class Learner(NamedTuple):
    """Pure functions; `jit`, `vmap` and `scan` them as you like."""

    init: Callable[..., LearnerState]
    """`(key, hyper=None) → state`."""
    update: Callable[[LearnerState], tuple[LearnerState, Metrics]]
    """`state → (state, metrics)`: acts `unroll_length` steps in `num_envs` environments, corrects, learns."""
    evaluate: Callable[[LearnerState, Key], Evaluation]
    """`(state, key) → Evaluation` of `evaluation_episodes` episodes, on keys of its own."""


def make_learner(
    config: Config,
    *,
    environment: Any = None,
    environment_params: Any = None,
    network: Network | RecurrentNetwork | None = None,
    objective: Objective | Algorithm | None = None,
) -> Learner:
    """Builds a learner.

    Args:
      config: the static settings.
      environment: any object with gymnax's interface, in place of the one that `config.env` names.
      environment_params: its parameters; `environment.default_params` if left out.
      network: any `(init, apply)`, in place of the default network (see `types.Network`); with a memory, any
        `(start, init, apply)` (see `types.RecurrentNetwork`).
      objective: any `(terms, hyper) → (loss, metrics)`, or an `objectives.Algorithm`, in place of the one that
        `config.algorithm` names.

    Returns:
      `Learner(init, update, evaluate)`.

    Raises:
      ValueError: an unknown name, settings that do not go together, or an environment whose `step` returns
        five values.
      TypeError: an action space that is neither Discrete nor Box.

    >>> import jax
    >>> learner = make_learner(Config(env="CartPole-v1", num_envs=4, unroll_length=5))
    >>> state = learner.init(jax.random.key(0))
    >>> state, metrics = jax.jit(learner.update)(state)
    >>> metrics["ratio/max"], metrics["env_steps"]
    (Array(1., dtype=float32), Array(20., dtype=float32))
    """
    agent = make_agent(config, environment=environment, environment_params=environment_params, network=network)
    program = _Program(config, agent, get_algorithm(config, objective))
    return Learner(program.init, program.update, program.evaluate)


def make_agent(
    config: Config, *, environment: Any = None, environment_params: Any = None, network: Any = None
) -> Agent:
    """The environment and network of a learner, made as `make_learner` makes them."""
    if environment is None:
        environment, environment_params = make_environment(config.env, config.env_params)
    adapter = adapt(environment, environment_params, box_actions=config.box_actions)
    network = as_present_protocol(network) if network else default_network(config, adapter)
    if config.normalize_observations and getattr(network, "takes_structure", False):
        raise FieldError("normalize_observations", "off where the network takes structured observations", "on")
    return Agent(adapter, network)


def default_network(config: Config, adapter: Adapter) -> Network | RecurrentNetwork:
    """The flax module that `config` describes."""
    _check_torso(config.network, adapter)
    shape: dict[str, Any] = {
        "num_params": adapter.actions.num_params,
        "is_gaussian": isinstance(adapter.actions, Gaussian),
        **{name: getattr(config, name) for name in _NETWORK},
    }
    if config.memory == "none":
        return cast(Network, ActorCritic(**shape, towers=config.towers))
    shape |= {name: getattr(config, name) for name in _MEMORY}
    return cast(RecurrentNetwork, RecurrentActorCritic(**shape))


def _check_torso(network: str, adapter: Adapter) -> None:
    torso = torsos.get(network)
    if not torso.takes_structure:
        features = jax.eval_shape(lambda key: adapter.encode(jax.vmap(adapter.reset)(key[None])[0]), jax.random.key(0))
        torso.check_observation(features.shape[1:])


class _Program(NamedTuple):
    """The parts of a learner; its methods are the pure functions of `Learner`."""

    config: Config
    agent: Agent
    algorithm: Algorithm

    def init(self, key: Key, hyper: Hyper | None = None) -> LearnerState:
        check_key(key)
        config = self.config
        settings = (Hyper() if hyper is None else hyper).as_arrays()
        quick = written_out(key)
        updates_key, resets_key = stream(quick, Domain.UPDATES), stream(quick, Domain.FIRST_RESETS)
        actors = reset_actors(self.agent.adapter, config.num_envs, resets_key, self.agent.memory(config.num_envs))
        params = self.agent.init(stream(quick, Domain.PARAMETERS), actors.observation)
        lag = config.actor_lag
        state = LearnerState(
            hyper=settings,
            key=as_given(updates_key, key),
            update=jnp.zeros((), jnp.int32),
            alive=jnp.ones((), bool),
            died_at=jnp.full((), -1, jnp.int32),
            died_of=jnp.full((), int(Cause.NONE), jnp.int32),
            params=params,
            optimizer=start_optimizer(config, settings, params),
            lagging=jax.tree.map(lambda x: jnp.repeat(x[None], lag, axis=0), params) if lag else None,
            actors=actors,
            observation_moments=self.moments(actors.observation),
            reward_scale=RewardScale.start(config.num_envs) if config.normalize_rewards else None,
            kl_cost=jnp.asarray(settings.kl_cost) if self.algorithm.adapts_kl_cost else None,
            replay=None,
        )
        if not config.replayed_envs:
            return state
        unroll = jax.eval_shape(lambda: self.act(state, updates_key)[0])
        return dataclasses.replace(state, replay=Replay.start(unroll, config.replay_size))

    def update(self, state: LearnerState) -> tuple[LearnerState, Metrics]:
        key = jax.random.fold_in(written_out(state.key), state.update)
        unroll, actors, finished = self.act(state, key)
        reward_scale = self.observe_rewards(state, unroll)
        batch = self.scaled(reward_scale, self.with_replayed(state, unroll, key))
        learned = Learning(self.config, self.agent, self.algorithm).learn(state, batch, key)
        stepped = dataclasses.replace(
            state,
            update=state.update + 1,
            params=learned.params,
            optimizer=learned.optimizer,
            actors=actors,
            observation_moments=self.observe(state.observation_moments, unroll),
            reward_scale=reward_scale,
            kl_cost=learned.kl_cost,
        )
        return self.settle(state, stepped, unroll, finished, learned.metrics)

    def act(self, state: LearnerState, key: Key) -> tuple[Unroll, Actors, Finished]:
        behavior = state.params if state.lagging is None else self.lagging_params(state)

        def policy(observation: Tree, memory: Tree) -> tuple[jax.Array, Tree]:
            params, _, memory = self.agent.step(behavior, state.observation_moments, observation, memory)
            return params, memory

        return act(self.agent.adapter, self.config, policy, state.actors, key)

    def lagging_params(self, state: LearnerState) -> Tree:
        """The parameters from before update `u − lag`; those of the start while `u < lag`."""
        slot = state.update % self.config.actor_lag
        return jax.tree.map(lambda ring: jax.lax.dynamic_index_in_dim(ring, slot, keepdims=False), state.lagging)

    def observe_rewards(self, state: LearnerState, unroll: Unroll) -> RewardScale | None:
        """The scale of rewards, for which the unroll itself counts already."""
        if state.reward_scale is None:
            return None
        same_episode_t = ~(unroll.terminated_t | unroll.truncated_t)
        return state.reward_scale.observed(unroll.r_t, same_episode_t, state.hyper.discount)

    def scaled(self, scale: RewardScale | None, unroll: Unroll) -> Unroll:
        """The unroll with its rewards over the present deviation of the discounted return, replayed ones too."""
        return unroll if scale is None else unroll._replace(r_t=scale.scaled(unroll.r_t))

    def with_replayed(self, state: LearnerState, unroll: Unroll, key: Key) -> Unroll:
        """The unroll with columns of earlier ones, if there is a replay."""
        if state.replay is None:
            return unroll
        drawn = state.replay.drawn(self.config.replayed_envs, unroll, state.update, key)
        return joined(unroll, drawn, self.config.burn_in)

    def moments(self, observation: Tree) -> Moments | None:
        """Of the features, if they are standardized."""
        if not self.config.normalize_observations:
            return None
        return Moments.start(self.agent.adapter.encode(observation).shape[1:])

    def observe(self, moments: Moments | None, unroll: Unroll) -> Moments | None:
        """Acting and learning of one update share the moments; the unroll counts from the next one on."""
        if moments is None:
            return None
        flat = jax.tree.map(lambda x: x[:-1].reshape(-1, *x.shape[2:]), unroll.observation_tm1)
        return moments.merged(self.agent.adapter.encode(flat))

    def settle(
        self, before: LearnerState, after: LearnerState, unroll: Unroll, finished: Finished, metrics: Metrics
    ) -> tuple[LearnerState, Metrics]:
        """Keeps the state of before for a learner that is not alive, or dies now, and tells."""
        health = metrics["loss/total"], metrics["loss/grad_norm"], _learned(after), unroll.r_t
        if before.replay is not None:
            health += unroll.observation_tm1, unroll.cut_observation
        healthy = _all_finite(health)
        alive = before.alive & healthy
        state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), _settled_here(after), _settled_here(before))
        state = dataclasses.replace(
            state,
            key=before.key,
            alive=alive,
            died_at=jnp.where(before.alive & ~healthy, before.update + 1, before.died_at),
            died_of=jnp.where(before.alive & ~healthy, self.cause(unroll), before.died_of),
            replay=None if before.replay is None else before.replay.stored(unroll, before.update, alive),
        )
        if before.lagging is not None:
            state = dataclasses.replace(state, lagging=self.remember(before, alive))
        check_own(metrics)
        metrics = metrics | {
            "ratio/lag": jnp.minimum(before.update, self.config.actor_lag).astype(jnp.float32),
            "episodes": finished.episodes,
            "episode_return": finished.return_sum / finished.episodes,
            "update": state.update,
            # Rounded beyond 2^24; an int32 would overflow. Who needs them exactly multiplies the updates on the host.
            "env_steps": state.update.astype(jnp.float32) * self.config.steps_per_update,
            "alive": alive,
            "died_at": state.died_at,
        }
        return state, metrics

    def cause(self, unroll: Unroll) -> jax.Array | int:
        """What a learner that did not survive `unroll` died of."""
        acted_on = jax.tree.map(lambda x: x[:-1], unroll.observation_tm1)
        could_act = jnp.all(has_legal_action(self.agent.adapter, acted_on))
        return jnp.where(could_act, jnp.int32(Cause.NOT_FINITE), jnp.int32(Cause.NO_LEGAL_ACTION))

    def remember(self, state: LearnerState, alive: jax.Array) -> Tree:
        """The parameters from before this update, in the slot that it acted from."""
        slot = state.update % self.config.actor_lag
        acted_from = self.lagging_params(state)
        kept = jax.tree.map(lambda new, old: jnp.where(alive, new, old), state.params, acted_from)
        return jax.tree.map(lambda ring, x: jax.lax.dynamic_update_index_in_dim(ring, x, slot, 0), state.lagging, kept)

    def evaluate(self, state: LearnerState, key: Key) -> Evaluation:
        check_key(key)
        actions, episodes = self.agent.adapter.actions, self.config.evaluation_episodes

        def choose(key: Key, observation: Tree, memory: Tree) -> tuple[jax.Array, Tree, Tree]:
            policy, _, memory = self.agent.step(state.params, state.observation_moments, observation, memory)
            if self.config.evaluation_policy == "mode":
                return actions.mode(policy), memory, ()
            return actions.sample(policy, actions.noise(key, (episodes,))), memory, ()

        return evaluate(self.agent.adapter, choose, self.agent.memory(episodes), episodes, written_out(key))


def _learned(state: LearnerState) -> Tree:
    """All of a state but what its environments keep to themselves, what never changes, and copies of earlier parts."""
    actors = state.actors._replace(state=None)
    return dataclasses.replace(_settled_here(state), hyper=None, alive=None, actors=actors)


def _settled_here(state: LearnerState) -> LearnerState:
    """Without what takes care of itself: a key never changes, and rings are written one slot at a time."""
    return dataclasses.replace(state, key=None, lagging=None, replay=None)


def check_key(key: Key) -> None:
    """Raises unless `key` is typed and of an implementation that is sound under `vmap`."""
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError("key must be a typed key, as jax.random.key(seed) makes them.")
    if key.ndim:
        raise ValueError(f"key must be a single key, but its shape is {list(key.shape)}; vmap over several of them.")
    if "rbg" in str(jax.random.key_impl(key)):
        raise ValueError(
            "key must not be of an rbg implementation: under vmap it draws every learner's numbers from the first key."
        )


def _all_finite(tree: Tree) -> jax.Array:
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))
