"""Logging episodes of a policy mixed with uniform actions, as data for off-policy evaluation."""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isjax._checks import check_fraction
from isjax.environments.distributions import ActionDistribution, Gaussian
from isjax.learner.agent import Agent
from isjax.learner.evaluation import play
from isjax.ops.ratios import log_ratios
from isjax.randomness import Domain, stream
from isjax.types import Key, LoggedEpisodes, Scalar, Tree

if TYPE_CHECKING:
    from isjax.learner.learner import LearnerState


class Recording(NamedTuple):
    """`E` episodes, `[limit, E]` each; zeros where an episode has ended."""

    log_pi_tm1: jax.Array
    """Of the action taken, under the learner's policy."""
    log_mu_tm1: jax.Array
    """The same under the policy that acted."""
    r_t: jax.Array
    length: jax.Array
    """`[E]` int32."""
    finished: jax.Array
    """`[E]` boolean, false for an episode that was given up (see `Evaluation`)."""

    def as_log(self) -> LoggedEpisodes:
        """As the estimators of `isjax.ope` take it."""
        is_valid_t = jnp.arange(self.r_t.shape[0])[:, None] < self.length[None, :]
        return LoggedEpisodes(log_ratios(self.log_pi_tm1, self.log_mu_tm1), self.r_t, is_valid_t)

    def as_columns(self) -> dict[str, np.ndarray]:
        """A row a step, as `isjax evaluate` reads it: episode, step, reward, log_pi and log_mu."""
        is_valid = np.asarray(self.as_log().is_valid_t).T
        episode, step = np.nonzero(is_valid)
        rows = {"reward": self.r_t, "log_pi": self.log_pi_tm1, "log_mu": self.log_mu_tm1}
        columns = {name: np.asarray(x).T[is_valid] for name, x in rows.items()}
        return {"episode": episode.astype(np.int64), "step": step.astype(np.int32)} | columns


def record(
    agent: Agent,
    state: "LearnerState",
    key: Key,
    *,
    episodes: int,
    uniform_share: Scalar = 0.0,
    behavior: "LearnerState | None" = None,
    explores: bool = False,
) -> Recording:
    """Plays episodes with `μ = (1 − s) behavior + s uniform`, and logs them for the policy of `state`.

    Args:
      agent: what `make_agent` returns for the learner's settings.
      state: the learner whose policy is the target π, actions sampled.
      key: nothing else draws from it.
      episodes: how many.
      uniform_share: s in [0, 1]; uniform over the legal actions, or over a bounded Box. May be traced.
      behavior: another learner of the same settings to act in place of `state`.
      explores: act as in training, where that is not by the policy that is learned about (see `Algorithm.behave`).

    Returns:
      A `Recording`.

    Raises:
      ValueError: the share is out of range, or there is no uniform policy: a Box that is unbounded on some side, or one
        with actions clipped onto its bounds, where a uniform policy has a density and π has none.
    """
    check_fraction(uniform_share=uniform_share)
    actions = agent.adapter.actions
    is_mixed = not (isinstance(uniform_share, int | float) and uniform_share == 0)
    if is_mixed and isinstance(actions, Gaussian) and (not actions.is_bounded or actions.into == "clip"):
        raise ValueError(
            "uniform_share must be 0 where actions are unbounded or clipped onto their bounds, in any dimension: no "
            f"uniform policy shares their probabilities; but it is {uniform_share}."
        )
    acting = state if behavior is None else behavior

    def choose(key: Key, observation: Tree, memories: tuple[Tree, Tree]) -> tuple[jax.Array, Tree, Tree]:
        target, memory = agent.policy(state, observation, memories[0])
        policy, acting_memory = target, memory
        if explores and agent.algorithm.behave is not None:
            policy, _, acting_memory = agent.step(acting.params, acting.observation_moments, observation, memories[1])
            policy = agent.algorithm.behave(policy, acting.algorithm, acting.hyper)
        elif behavior is not None:
            policy, acting_memory = agent.policy(acting, observation, memories[1])
        action = actions.sample(policy, actions.noise(stream(key, Domain.OWN_ACTIONS), (episodes,)))
        uniform = _flat_logits(agent, observation, policy)
        if is_mixed:
            is_uniform = jax.random.uniform(stream(key, Domain.EXPLORING), (episodes,)) < uniform_share
            other = _uniform_action(actions, uniform, stream(key, Domain.UNIFORM_ACTIONS))
            action = jnp.where(is_uniform.reshape(-1, *(1,) * (action.ndim - 1)), other, action)
        log_mu = actions.log_prob(policy, action)
        if is_mixed:
            log_uniform = _uniform_log_prob(actions, uniform)
            log_mu = jnp.logaddexp(jnp.log1p(-uniform_share) + log_mu, jnp.log(uniform_share) + log_uniform)
        return action, (memory, acting_memory), (actions.log_prob(target, action), log_mu)

    memory = agent.memory(episodes)
    played = play(agent.adapter, choose, (memory, memory), episodes, key)
    log_pi_tm1, log_mu_tm1 = played.kept
    return Recording(log_pi_tm1, log_mu_tm1, played.r_t, played.evaluation.length, played.evaluation.finished)


def _uniform_action(actions: ActionDistribution, flat: jax.Array, key: Key) -> jax.Array:
    """As the distribution samples it: an index, or a point before squashing."""
    if not isinstance(actions, Gaussian):
        return actions.sample(flat, actions.noise(key, flat.shape[:-1]))
    nearly = 1.0 - 1e-6
    return jnp.arctanh(jax.random.uniform(key, (*flat.shape[:-1], actions.dim), minval=-nearly, maxval=nearly))


def _uniform_log_prob(actions: ActionDistribution, flat: jax.Array) -> jax.Array:
    """Of any action that is legal."""
    if isinstance(actions, Gaussian):
        return actions.uniform_log_prob()
    return actions.log_prob(flat, actions.mode(flat))


def _flat_logits(agent: Agent, observation: Tree, policy: jax.Array) -> jax.Array:
    """0 for every action that the environment allows, whatever the policy does; −∞ for the others."""
    legal = agent.adapter.legal(observation)
    return jnp.zeros_like(policy) if legal is None else jnp.where(legal.astype(bool), 0.0, -jnp.inf)
