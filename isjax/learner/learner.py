"""One learner as a pair of pure functions: act, correct, learn."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from isjax.environments import make
from isjax.environments.adapter import Adapter, adapt, as_environment
from isjax.environments.distributions import Categorical, Gaussian
from isjax.environments.stacking import stack_frames
from isjax.errors import FieldError
from isjax.learner.agent import Agent
from isjax.learner.algorithms import Algorithm, algorithms
from isjax.learner.config import Config, Hyper
from isjax.learner.evaluation import Evaluation, evaluate, has_legal_action
from isjax.learner.keys import check_key, unrolled_threefry
from isjax.learner.learning import Learning, start_optimizer
from isjax.learner.metrics import check_own
from isjax.learner.replay import Columns, Replay, joined
from isjax.learner.resets import ResetPool
from isjax.learner.state import LearnerState
from isjax.learner.statistics import Moments, RewardScale
from isjax.learner.unroll import Actors, Finished, act, reset_actors
from isjax.learner.uses import get_algorithm
from isjax.networks import ActorCritic, Critic, PolicyWithCritics, RecurrentActorCritic, as_present_protocol, torsos
from isjax.randomness import Domain, stream
from isjax.types import Cause, Key, Metrics, Network, Objective, RecurrentNetwork, Tree, Unroll

_TORSO = ("network", "torso", "channels", "activation", "layer_norm")
_HEADS = ("heads", "value_min", "value_max", "value_bins")
_MEMORY = ("memory", "memory_window")


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
      environment: an `isjax.environments.Environment` or any object with gymnax's interface, in place of the one that
        `config.env` names.
      environment_params: those of an object with gymnax's interface; its `default_params` if left out.
      network: any `(init, apply)`, in place of the default network (see `types.Network`); with a memory, any
        `(start, init, apply)` (see `types.RecurrentNetwork`).
      objective: any `(terms, hyper) → (loss, metrics)`, or an `algorithms.Algorithm`, in place of the one that
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
    algorithm = get_algorithm(config, objective)
    agent = make_agent(
        config, environment=environment, environment_params=environment_params, network=network, algorithm=algorithm
    )
    program = _Program(config, agent, algorithm)
    return Learner(program.init, program.update, program.evaluate)


def make_agent(
    config: Config,
    *,
    environment: Any = None,
    environment_params: Any = None,
    network: Any = None,
    algorithm: Algorithm | None = None,
) -> Agent:
    """The environment and network of a learner, made as `make_learner` makes them.

    `algorithm` says what the network's output means; it is the one that `config.algorithm` names if left out.

    >>> make_agent(Config(env="CartPole-v1", torso=(8,))).has_memory
    False
    """
    if algorithm is None:
        algorithm = algorithms.get(config.algorithm)(config)
    if environment is None:
        environment = make(config.env, config.env_params)
    environment = stack_frames(as_environment(environment, environment_params), config.frame_stack)
    adapter = adapt(environment, box_actions=config.box_actions)
    if algorithm.has_action_values and not isinstance(adapter.actions, Categorical):
        rule = "one without action values where actions are a Box, which has no largest one"
        raise FieldError("algorithm", rule, config.algorithm)
    network = as_present_protocol(network) if network else default_network(config, adapter, algorithm)
    if algorithm.critics:
        network = with_critics(config, adapter, algorithm, network)
    if config.normalize_observations and getattr(network, "takes_structure", False):
        raise FieldError("normalize_observations", "off where the network takes structured observations", "on")
    return Agent(adapter, network, algorithm)


def default_network(config: Config, adapter: Adapter, algorithm: Algorithm) -> Network | RecurrentNetwork:
    """The flax module that `config` describes."""
    _check_torso(config.network, adapter)
    shape: dict[str, Any] = {
        "num_params": adapter.actions.num_params,
        "is_gaussian": isinstance(adapter.actions, Gaussian),
        "has_value": not (algorithm.has_action_values or algorithm.critics),
        **{name: getattr(config, name) for name in (*_TORSO, *_HEADS)},
    }
    if config.memory == "none":
        return cast(Network, ActorCritic(**shape, share_torso=config.share_torso))
    shape |= {name: getattr(config, name) for name in _MEMORY}
    return cast(RecurrentNetwork, RecurrentActorCritic(**shape))


def with_critics(config: Config, adapter: Adapter, algorithm: Algorithm, policy: Network) -> PolicyWithCritics:
    """A network of the policy with the critics that an algorithm has."""
    if not isinstance(adapter.actions, Gaussian):
        raise FieldError("algorithm", "one for the environment's actions, which are no Box", config.algorithm)
    if config.box_actions == "clip" and adapter.actions.low is not None:
        rule = f"tanh for {config.algorithm}, whose gradients reach a policy through its actions"
        raise FieldError("box_actions", rule, config.box_actions)
    if torsos.get(config.network).least_image or hasattr(policy, "start") or getattr(policy, "takes_structure", False):
        rule = f"of dense layers, without memory, for {config.algorithm}, whose critics see one observation as a vector"
        raise FieldError("network", rule, f"{config.network} with {config.memory} as its memory")
    critic = Critic(**{name: getattr(config, name) for name in _TORSO})
    return PolicyWithCritics(policy, critic, algorithm.critics, adapter.actions.dim)


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
        unrolled = unrolled_threefry(key)
        resets_key = stream(unrolled, Domain.FIRST_RESETS)
        adapter = self.agent.adapter
        actors = reset_actors(adapter, config.num_envs, resets_key, self.agent.memory(config.num_envs))
        if config.reset_pool and not adapter.resets_itself:
            pool_key = stream(unrolled, Domain.FIRST_POOL)
            actors = actors._replace(pool=ResetPool.draw(adapter, config.reset_pool, pool_key))
        params = self.agent.init(stream(unrolled, Domain.PARAMETERS), actors.observation)
        params = self.algorithm.parameters(params, settings)
        lag = config.actor_lag
        state = LearnerState(
            hyper=settings,
            key=stream(key, Domain.UPDATES),
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
            # Copies: a state whose parts share memory cannot be donated.
            algorithm=jax.tree.map(jnp.copy, self.algorithm.init(params, settings)),
            replay=None,
        )
        if not config.replayed_envs:
            return state
        unroll = jax.eval_shape(lambda: self.act(state, resets_key)[0])
        return dataclasses.replace(state, replay=self.start_replay(unroll))

    def update(self, state: LearnerState) -> tuple[LearnerState, Metrics]:
        key = jax.random.fold_in(unrolled_threefry(state.key), state.update)
        unroll, actors, finished = self.act(state, key)
        reward_scale = self.observe_rewards(state, unroll)
        columns = self.draw(state, key)
        batch = self.scaled(reward_scale, self.with_replayed(state, unroll, columns))
        learned = Learning(self.config, self.agent, self.algorithm).learn(state, batch, key)
        stepped = dataclasses.replace(
            state,
            update=state.update + 1,
            params=learned.params,
            optimizer=learned.optimizer,
            actors=actors,
            observation_moments=self.observe(state.observation_moments, unroll),
            reward_scale=reward_scale,
            algorithm=learned.algorithm,
        )
        after, metrics = self.freeze_if_diverged(state, stepped, unroll, finished, learned.metrics)
        replay = self.store(state, unroll, columns, learned.error, after.alive)
        return dataclasses.replace(after, replay=replay), metrics

    def act(self, state: LearnerState, key: Key) -> tuple[Unroll, Actors, Finished]:
        behavior = state.params if state.lagging is None else self.lagging_params(state)

        def policy(observation: Tree, memory: Tree) -> tuple[jax.Array, Tree]:
            params, _, memory = self.agent.step(behavior, state.observation_moments, observation, memory)
            if self.algorithm.behave is not None:
                params = self.algorithm.behave(params, state.algorithm, state.hyper)
            return params, memory

        return act(self.agent.adapter, self.config, policy, state.actors, key)

    def lagging_params(self, state: LearnerState) -> Tree:
        """The parameters from before update `u − lag`; those of the start while `u < lag`."""
        slot = state.update % self.config.actor_lag
        return jax.tree.map(lambda ring: jax.lax.dynamic_index_in_dim(ring, slot, keepdims=False), state.lagging)

    def observe_rewards(self, state: LearnerState, unroll: Unroll) -> RewardScale | None:
        """The scale that rewards are divided by; the unroll's own rewards count already."""
        if state.reward_scale is None:
            return None
        same_episode_t = ~(unroll.terminated_t | unroll.truncated_t)
        return state.reward_scale.observed(unroll.r_t, same_episode_t, state.hyper.discount)

    def scaled(self, scale: RewardScale | None, unroll: Unroll) -> Unroll:
        """The unroll with all rewards, replayed ones too, divided by the present deviation of the discounted return."""
        return unroll if scale is None else unroll._replace(r_t=scale.scaled(unroll.r_t))

    def start_replay(self, unroll: Unroll) -> Replay:
        """An empty replay of unrolls like this one."""
        return Replay.start(unroll, self.config.replay_size, is_prioritized=self.config.replay_priority)

    def draw(self, state: LearnerState, key: Key) -> Columns | None:
        """Which columns are learned from again; `None` without replay."""
        config, hyper = self.config, state.hyper
        if state.replay is None:
            return None
        if not config.replay_priority:
            return state.replay.uniform(config.replayed_envs, state.update, key)
        share = jnp.minimum(state.update / config.updates, 1.0)
        return state.replay.by_priority(
            config.replayed_envs,
            state.update,
            key,
            exponent=hyper.priority_exponent,
            correction=hyper.priority_correction + share * (1.0 - hyper.priority_correction),
        )

    def with_replayed(self, state: LearnerState, unroll: Unroll, columns: Columns | None) -> Unroll:
        """The unroll and, if there is a replay, these columns beside its own environments."""
        if state.replay is None or columns is None:
            return unroll
        drawn = state.replay.take(columns, unroll, state.update)
        if self.config.replay_fraction == 1.0:
            unroll = jax.tree.map(lambda x: x[:, :0], unroll)
        return joined(unroll, drawn, self.config.burn_in)

    def store(
        self, state: LearnerState, unroll: Unroll, columns: Columns | None, error: jax.Array | None, alive: jax.Array
    ) -> Replay | None:
        """The replay after an update, as it was for a learner that is dead or dies now."""
        if state.replay is None or columns is None:
            return None
        replay = state.replay.stored(unroll, state.update, alive)
        if error is None:
            return replay
        return replay.reprioritized(columns, error, state.update, alive)

    def moments(self, observation: Tree) -> Moments | None:
        """Moments of observations before any was seen, or `None` if observations are not standardized."""
        if not self.config.normalize_observations:
            return None
        return Moments.start(self.agent.adapter.encode(observation).shape[1:])

    def observe(self, moments: Moments | None, unroll: Unroll) -> Moments | None:
        """The moments for the next update. Acting and learning of one update share those from before it."""
        if moments is None:
            return None
        flat = jax.tree.map(lambda x: x[:-1].reshape(-1, *x.shape[2:]), unroll.observation_tm1)
        return moments.merged(self.agent.adapter.encode(flat))

    def freeze_if_diverged(
        self, before: LearnerState, after: LearnerState, unroll: Unroll, finished: Finished, metrics: Metrics
    ) -> tuple[LearnerState, Metrics]:
        """The state of `before` for a learner that is dead or dies now, that of `after` for others; and all metrics."""
        health = metrics["loss/total"], metrics["loss/grad_norm"], _learned(after), unroll.r_t
        if before.replay is not None:
            health += unroll.observation_tm1, unroll.cut_observation, metrics.get("replay/error", ())
        healthy = _all_finite(health)
        alive = before.alive & healthy
        state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), _frozen_here(after), _frozen_here(before))
        state = dataclasses.replace(
            state,
            key=before.key,
            alive=alive,
            died_at=jnp.where(before.alive & ~healthy, before.update + 1, before.died_at),
            died_of=jnp.where(before.alive & ~healthy, self.cause(unroll), before.died_of),
        )
        if before.lagging is not None:
            state = dataclasses.replace(state, lagging=self.remember(before, alive))
        check_own(metrics)
        if after.actors.pool is not None:
            metrics = metrics | {
                "resets/pool": jnp.int32(after.actors.pool.size),
                "resets/reused": after.actors.pool.reused,
            }
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
        """The `Cause` of death of a learner that diverged in this unroll."""
        acted_on = jax.tree.map(lambda x: x[:-1], unroll.observation_tm1)
        could_act = jnp.all(has_legal_action(self.agent.adapter, acted_on))
        return jnp.where(could_act, jnp.int32(Cause.NOT_FINITE), jnp.int32(Cause.NO_LEGAL_ACTION))

    def remember(self, state: LearnerState, alive: jax.Array) -> Tree:
        """`lagging` with the parameters from before this update in the slot that it acted from, the oldest one."""
        slot = state.update % self.config.actor_lag
        acted_from = self.lagging_params(state)
        kept = jax.tree.map(lambda new, old: jnp.where(alive, new, old), state.params, acted_from)
        return jax.tree.map(lambda ring, x: jax.lax.dynamic_update_index_in_dim(ring, x, slot, 0), state.lagging, kept)

    def evaluate(self, state: LearnerState, key: Key) -> Evaluation:
        check_key(key)
        actions, episodes = self.agent.adapter.actions, self.config.evaluation_episodes

        def choose(key: Key, observation: Tree, memory: Tree) -> tuple[jax.Array, Tree, Tree]:
            policy, memory = self.agent.policy(state, observation, memory)
            if self.config.evaluation_policy == "mode":
                return actions.mode(policy), memory, ()
            return actions.sample(policy, actions.noise(key, (episodes,))), memory, ()

        return evaluate(self.agent.adapter, choose, self.agent.memory(episodes), episodes, unrolled_threefry(key))


def _learned(state: LearnerState) -> Tree:
    """The part of a state that has to be finite: without environments' own states, settings and earlier copies.

    Nor is the optimizer's looked at: its moments are means of gradients and of their squares, which are finite as
    long as the gradient's norm is. They are twice as large as the parameters.
    """
    actors = state.actors._replace(state=None, pool=None)
    return dataclasses.replace(_frozen_here(state), hyper=None, alive=None, actors=actors, optimizer=None)


def _frozen_here(state: LearnerState) -> LearnerState:
    """A state without its key, which never changes, and its rings, which are written one slot at a time."""
    return dataclasses.replace(state, key=None, lagging=None, replay=None)


def _all_finite(tree: Tree) -> jax.Array:
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))
