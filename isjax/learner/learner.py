"""One learner as a pair of pure functions: act, correct, learn."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.struct
import jax
import jax.numpy as jnp
import optax

from isjax import ops
from isjax.learner import metrics as metrics_lib
from isjax.learner.config import Config, Hyper
from isjax.learner.distributions import Gaussian
from isjax.learner.environments import Adapter, adapt, make_environment
from isjax.learner.evaluation import Evaluation, evaluate
from isjax.learner.networks import ActorCritic
from isjax.learner.objectives import get_objective
from isjax.learner.statistics import Moments, RewardScale
from isjax.learner.unroll import Actors, Finished, act, reset_actors
from isjax.types import Key, Metrics, Network, Objective, Terms, Tree, Unroll


@flax.struct.dataclass
class LearnerState:
    """Everything a learner is: saving it and going on later gives the same numbers."""

    hyper: Hyper
    key: Key
    """Never changes; update `u` draws from `fold_in(key, u)`."""
    update: jax.Array
    """`[]` int32, updates made so far."""
    alive: jax.Array
    """`[]` bool; false once parameters or loss were not finite: nothing changes from then on."""
    died_at: jax.Array
    """`[]` int32, the update (from 1) at which it died; −1 while it lives."""
    params: Tree
    """The network's."""
    optimizer: Tree
    """The preconditioner's moments."""
    lagging: Tree
    """`[actor_lag, ...]`, the parameters before each of the last updates, in turn; `None` without lag."""
    actors: Actors
    """The environments, in the middle of their episodes."""
    observation_moments: Moments | None
    """Of the observations seen so far, if they are standardized."""
    reward_scale: RewardScale | None
    """What rewards are divided by, if they are scaled."""


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
    network: Network | None = None,
    objective: Objective | None = None,
) -> Learner:
    """Builds a learner.

    Args:
      config: the static settings.
      environment: any object with gymnax's interface, in place of the one that `config.env` names.
      environment_params: its parameters; `environment.default_params` if left out.
      network: any `(init, apply)`, in place of the default network (see `types.Network`).
      objective: any `(terms, hyper) → (loss, metrics)`, in place of the one that `config.algorithm` names.

    Returns:
      `Learner(init, update, evaluate)`.

    Raises:
      ValueError: an unknown name, or an environment whose `step` returns five values.
      TypeError: an action space that is neither Discrete nor Box.

    >>> import jax
    >>> learner = make_learner(Config(env="CartPole-v1", num_envs=4, unroll_length=5))
    >>> state = learner.init(jax.random.key(0))
    >>> state, metrics = jax.jit(learner.update)(state)
    >>> metrics["ratio/max"], metrics["env_steps"]
    (Array(1., dtype=float32), Array(20, dtype=int32))
    """
    objective = objective or get_objective(config.algorithm)
    if environment is None:
        environment, environment_params = make_environment(config.env)
    adapter = adapt(environment, environment_params, box_actions=config.box_actions)
    network = network or default_network(config, adapter)
    program = _Program(config, adapter, network, objective)
    return Learner(program.init, program.update, program.evaluate)


def default_network(config: Config, adapter: Adapter) -> Network:
    """The flax module that `config` describes."""
    module = ActorCritic(
        num_params=adapter.actions.num_params,
        is_gaussian=isinstance(adapter.actions, Gaussian),
        network=config.network,
        torso=config.torso,
        channels=config.channels,
        activation=config.activation,
    )
    return cast(Network, module)


class _Program(NamedTuple):
    """The parts of a learner; its methods are the pure functions of `Learner`."""

    config: Config
    adapter: Adapter
    network: Network
    objective: Objective

    def init(self, key: Key, hyper: Hyper | None = None) -> LearnerState:
        check_key(key)
        config = self.config
        settings = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), Hyper() if hyper is None else hyper)
        key, network_key, environment_key = jax.random.split(key, 3)
        actors = reset_actors(self.adapter, config.num_envs, environment_key)
        features = self.adapter.encode(actors.observation)
        params = self.network.init(network_key, features)
        lag = config.actor_lag
        return LearnerState(
            hyper=settings,
            key=key,
            update=jnp.zeros((), jnp.int32),
            alive=jnp.ones((), bool),
            died_at=jnp.full((), -1, jnp.int32),
            params=params,
            optimizer=self.preconditioner(settings).init(params),
            lagging=jax.tree.map(lambda x: jnp.repeat(x[None], lag, axis=0), params) if lag else None,
            actors=actors,
            observation_moments=Moments.start(features.shape[1:]) if config.normalize_observations else None,
            reward_scale=RewardScale.start(config.num_envs) if config.normalize_rewards else None,
        )

    def update(self, state: LearnerState) -> tuple[LearnerState, Metrics]:
        act_key, learn_key = jax.random.split(jax.random.fold_in(state.key, state.update))
        behavior = state.params if state.lagging is None else self.lagging_params(state)

        def policy(observation: Tree) -> jax.Array:
            return self.forward(behavior, observation, state.observation_moments)[0]

        unroll, actors, finished = act(self.adapter, self.config, policy, state.actors, act_key)
        unroll, reward_scale = self.scale_rewards(state, unroll)
        params, optimizer, metrics = self.learn(state, unroll, learn_key)
        stepped = dataclasses.replace(
            state,
            update=state.update + 1,
            params=params,
            optimizer=optimizer,
            actors=actors,
            observation_moments=self.observe(state.observation_moments, unroll),
            reward_scale=reward_scale,
        )
        return self.settle(state, stepped, finished, metrics)

    def lagging_params(self, state: LearnerState) -> Tree:
        """The parameters from before update `u − lag`; those of the start while `u < lag`."""
        slot = state.update % self.config.actor_lag
        return jax.tree.map(lambda ring: jax.lax.dynamic_index_in_dim(ring, slot, keepdims=False), state.lagging)

    def forward(self, params: Tree, observation: Tree, moments: Moments | None) -> tuple[jax.Array, jax.Array]:
        """`(policy [N, P], value [N])` for observations `[N, ...]`."""
        features = self.adapter.encode(observation)
        if moments is not None:
            features = moments.standardize(features)
        return self.network.apply(params, features)

    def scale_rewards(self, state: LearnerState, unroll: Unroll) -> tuple[Unroll, RewardScale | None]:
        """Rewards over the deviation of the discounted return, which the unroll itself counts towards."""
        if state.reward_scale is None:
            return unroll, None
        same_episode_t = ~(unroll.terminated_t | unroll.truncated_t)
        r_t, scale = state.reward_scale.scaled(unroll.r_t, same_episode_t, state.hyper.discount)
        return unroll._replace(r_t=r_t), scale

    def observe(self, moments: Moments | None, unroll: Unroll) -> Moments | None:
        """Acting and learning of one update share the moments; the unroll counts from the next one on."""
        if moments is None:
            return None
        flat = jax.tree.map(lambda x: x[:-1].reshape(-1, *x.shape[2:]), unroll.observation_tm1)
        return moments.merged(self.adapter.encode(flat))

    def terms(self, params: Tree, state: LearnerState, unroll: Unroll) -> Terms:
        """One forward pass over the `T + 1` observations and the few that time limits cut."""
        rows, envs = unroll.r_t.shape
        flat = jax.tree.map(
            lambda seen, cut: jnp.concatenate([seen, cut]).reshape(-1, *seen.shape[2:]),
            unroll.observation_tm1,
            unroll.cut_observation,
        )
        policy, value = self.forward(params, flat, state.observation_moments)
        policy = policy.reshape(-1, envs, policy.shape[-1])[:rows]
        value = value.reshape(-1, envs)
        v_cut = value[rows + 1 :]
        if v_cut.shape[0] > 1:
            v_cut = jnp.take_along_axis(v_cut, unroll.cut_slot_t, axis=0)
        discount_t, same_episode_t = ops.endings(unroll.terminated_t, unroll.truncated_t, state.hyper.discount)
        return Terms(
            log_pi_tm1=self.adapter.actions.log_prob(policy, unroll.action_tm1),
            entropy_tm1=self.adapter.actions.entropy(policy),
            v_tm1=value[:rows],
            v_t=jnp.where(unroll.truncated_t, v_cut, value[1 : rows + 1]),
            log_mu_tm1=unroll.log_mu_tm1,
            r_t=unroll.r_t,
            discount_t=discount_t,
            same_episode_t=same_episode_t,
        )

    def learn(self, state: LearnerState, unroll: Unroll, key: Key) -> tuple[Tree, Tree, Metrics]:
        """`epochs × minibatches` gradient steps; each recomputes ratios, values and targets."""
        config = self.config

        def gradient_step(params, optimizer, batch, *, is_first):
            def loss_of(params):
                terms = self.terms(params, state, batch)
                if is_first and config.is_on_policy:
                    # The parameters that acted: log π is log μ, rounding of another batch size left out.
                    terms = terms._replace(log_mu_tm1=jax.lax.stop_gradient(terms.log_pi_tm1))
                return self.objective(terms, state.hyper)

            (loss, metrics), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
            params, optimizer, norm = self.descend(state, params, optimizer, gradient)
            return params, optimizer, metrics | {"loss/total": loss, "loss/grad_norm": norm}

        if config.epochs * config.minibatches == 1:
            return gradient_step(state.params, state.optimizer, unroll, is_first=True)

        batches = self.minibatches(unroll, key)
        first, rest = jax.tree.map(lambda x: x[0], batches), jax.tree.map(lambda x: x[1:], batches)
        params, optimizer, metrics = gradient_step(state.params, state.optimizer, first, is_first=True)
        merged = metrics_lib.merge(metrics_lib.start(metrics), metrics)

        def step(carry, batch):
            params, optimizer, merged = carry
            params, optimizer, metrics = gradient_step(params, optimizer, batch, is_first=False)
            return (params, optimizer, metrics_lib.merge(merged, metrics)), None

        (params, optimizer, merged), _ = jax.lax.scan(step, (params, optimizer, merged), rest)
        return params, optimizer, metrics_lib.finish(merged)

    def minibatches(self, unroll: Unroll, key: Key) -> Unroll:
        """`[epochs × minibatches, T, B / minibatches, ...]`: environments are shuffled, time stays whole."""
        config = self.config
        orders = jax.vmap(lambda k: jax.random.permutation(k, config.num_envs))(jax.random.split(key, config.epochs))
        groups = orders.reshape(config.epochs * config.minibatches, -1)
        return jax.vmap(lambda group: jax.tree.map(lambda x: x[:, group], unroll))(groups)

    def preconditioner(self, hyper: Hyper) -> optax.GradientTransformation:
        scale_by = {"adam": optax.scale_by_adam, "rmsprop": optax.scale_by_rms, "sgd": optax.identity}
        return optax.chain(optax.clip_by_global_norm(hyper.max_grad_norm), scale_by[self.config.optimizer]())

    def descend(
        self, state: LearnerState, params: Tree, optimizer: Tree, gradient: Tree
    ) -> tuple[Tree, Tree, jax.Array]:
        hyper = state.hyper
        done = state.update / self.config.updates
        rate = hyper.learning_rate * (1.0 + (hyper.learning_rate_end - 1.0) * jnp.minimum(done, 1.0))
        direction, optimizer = self.preconditioner(hyper).update(gradient, optimizer, params)
        params = jax.tree.map(lambda p, d: p - rate * d, params, direction)
        return params, optimizer, optax.tree.norm(gradient)

    def settle(
        self, before: LearnerState, after: LearnerState, finished: Finished, metrics: Metrics
    ) -> tuple[LearnerState, Metrics]:
        """Keeps the state of before for a learner that is not alive, or dies now, and tells."""
        healthy = jnp.isfinite(metrics["loss/total"]) & _all_finite(after.params)
        alive = before.alive & healthy
        state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), _without_key(after), _without_key(before))
        state = dataclasses.replace(
            state,
            key=before.key,
            alive=alive,
            died_at=jnp.where(before.alive & ~healthy, before.update + 1, before.died_at),
        )
        if before.lagging is not None:
            state = dataclasses.replace(state, lagging=self.remember(before, alive))
        metrics = metrics | {
            "ratio/lag": jnp.minimum(before.update, self.config.actor_lag).astype(jnp.float32),
            "episodes": finished.episodes,
            "episode_return": finished.return_sum / finished.episodes,
            "update": state.update,
            "env_steps": state.update * self.config.steps_per_update,
            "alive": alive,
            "died_at": state.died_at,
        }
        return state, metrics

    def remember(self, state: LearnerState, alive: jax.Array) -> Tree:
        """The parameters from before this update, in the slot that it acted from."""
        slot = state.update % self.config.actor_lag
        acted_from = self.lagging_params(state)
        kept = jax.tree.map(lambda new, old: jnp.where(alive, new, old), state.params, acted_from)
        return jax.tree.map(lambda ring, x: jax.lax.dynamic_update_index_in_dim(ring, x, slot, 0), state.lagging, kept)

    def evaluate(self, state: LearnerState, key: Key) -> Evaluation:
        def policy(observation: Tree) -> jax.Array:
            return self.forward(state.params, observation, state.observation_moments)[0]

        return evaluate(self.adapter, self.config, policy, key)


def _without_key(state: LearnerState) -> LearnerState:
    return dataclasses.replace(state, key=None)


def check_key(key: Key) -> None:
    """Raises unless `key` is typed and of an implementation that is sound under `vmap`."""
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError("key must be a typed key, as jax.random.key(seed) makes them.")
    if "rbg" in str(jax.random.key_impl(key)):
        raise ValueError(
            "key must not be of an rbg implementation: under vmap it draws every learner's numbers from the first key."
        )


def _all_finite(tree: Tree) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))
