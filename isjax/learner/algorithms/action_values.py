"""Algorithms that learn the values of actions. The network's output `[A]` is Q; there is no other value.

All of them move `Q(s_t, a_t)` to a return of the same shape, and differ in five things: who acts, whose values are
learned, how a return goes on from a time step to the next one (its trace), whether earlier unrolls are learned from
again, and whether returns bootstrap from a target network. Each is one `Row`.

A return goes on within an episode and an unroll. At a time limit it ends with the values of the final observation, and
at the end of an unroll with those of the state reached, under the target policy each time.
"""

from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from isjax import losses, ops
from isjax.errors import FieldError
from isjax.learner.algorithms import value_policies as policies
from isjax.learner.algorithms import value_traces as traces
from isjax.learner.algorithms.base import (
    EXPLORATION,
    PRIORITY,
    REPLAY,
    TARGET_NETWORK,
    TARGET_POLICY,
    Algorithm,
    Batch,
    View,
    register_algorithm,
)
from isjax.learner.algorithms.targets import followed, ratios
from isjax.learner.config import Config, Hyper
from isjax.losses._rows import constant_ratio
from isjax.networks.heads import bin_edges, heads
from isjax.ops.reduction import mean_over_valid
from isjax.types import Metrics, Series, Terms, Tree

FAMILY: dict[str, Any] = dict(
    torso=(64, 64),
    activation="relu",
    layer_norm=True,
    optimizer="radam",
    learning_rate=1e-3,
    max_grad_norm=10.0,
    lambda_=0.9,
    exploration_share=0.2,
    resets_per_unroll=0,
)
"""Defaults that all of these share: a normalized network, as Gallici et al. (2024) have it."""
MINATAR: dict[str, Any] = dict(
    network="patches", torso=(128,), learning_rate=5e-4, lambda_=0.65, exploration_share=0.1, resets_per_unroll=1
)
"""In their place on MinAtar: the network of Young & Tian (2019), and the numbers of Gallici et al. (2024)."""
N_STEP = ("n_step", "n_step_correction", "clip_rho")
"""What an algorithm uses whose returns are those of n rewards."""
FRESH: dict[str, Any] = FAMILY | dict(num_envs=16, unroll_length=8)
"""Defaults of one gradient step of each unroll."""
REPLAYED: dict[str, Any] = FAMILY | dict(
    num_envs=8,
    unroll_length=8,
    minibatches=4,
    replay_fraction=0.75,
    replay_size=500,
    target_network="polyak",
    polyak_rate=0.02,
    double_q=True,
)
"""Defaults of gradient steps on each unroll and three times as many earlier ones."""


class ValueState(NamedTuple):
    """What these algorithms keep."""

    updates: jax.Array
    """`[]` int32, how many were made: exploration follows it, and when a target network is copied."""
    target: Tree
    """Parameters of the target network; `()` without one."""


class Row(NamedTuple):
    """An algorithm of action values."""

    trace: traces.Trace
    target_policy: Literal["greedy", "behavior", "chosen"]
    """Whose values are learned: the greedy policy's, those of the policy that acts, or as `Config.target_policy`
    has it."""
    uses: tuple[str, ...] = ()
    """The settings that its trace uses."""
    has_replay: bool = True
    """Whether its returns are right for earlier unrolls."""
    has_target_network: bool = True
    """Whether it can have one."""


class ActionValues(Algorithm):
    """The base of this file's algorithms; one has to give its `row`."""

    row: ClassVar[Row]
    has_action_values = True
    defaults = REPLAYED
    family_defaults: ClassVar = {"MinAtar": MINATAR}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if not config.share_torso:
            rule = f"on for {config.algorithm}, whose network gives action values and nothing else"
            raise FieldError("share_torso", rule, "off")
        if config.double_q and not self.has_target_network:
            rule = "off where there is no target network: the same values would choose and judge"
            raise FieldError("double_q", rule, "on")
        self.uses = self._used()

    def _used(self) -> tuple[str, ...]:
        config, row = self.config, self.row
        used = {*EXPLORATION, *row.uses}
        softmax = {"behavior_temperature", "behavior_temperature_end"}
        used -= softmax if config.exploration == "epsilon-greedy" else {"epsilon_start", "epsilon_end"}
        if row.target_policy == "chosen":
            other = {"epsilon-greedy": "target_temperature", "softmax": "target_epsilon"}
            used |= {*TARGET_POLICY} - {other.get(config.target_policy, ""), ""}
            used -= {*TARGET_POLICY[1:]} if config.target_policy == "behavior" else set()
        if row.has_replay:
            used |= {*REPLAY, *PRIORITY}
        if row.has_target_network:
            used |= {"target_network"} | ({*TARGET_NETWORK[1:]} if self.has_target_network else set())
            used -= {"period": {"polyak_rate"}, "polyak": {"target_period"}}.get(config.target_network, set())
        if config.n_step == 1:
            used -= {"n_step_correction"}
        if "n_step" in used and (config.n_step == 1 or config.n_step_correction == "none"):
            used -= {"clip_rho"}
        if not self._is_anybody_greedy:
            used -= {"ties"}
        return tuple(sorted(used))

    @property
    def has_target_network(self) -> bool:
        """Whether returns bootstrap from earlier parameters."""
        return self.row.has_target_network and self.config.target_network != "none"

    @property
    def _learned_policy(self) -> str:
        """Whose action values are learned: epsilon-greedy's, softmax's or those of the policy that acts."""
        chosen = {"greedy": "epsilon-greedy", "behavior": "behavior", "chosen": self.config.target_policy}
        return chosen[self.row.target_policy]

    @property
    def _is_anybody_greedy(self) -> bool:
        return "epsilon-greedy" in (self.config.exploration, self._learned_policy)

    def init(self, params: Tree, hyper: Hyper) -> ValueState:
        return ValueState(jnp.zeros((), jnp.int32), params if self.has_target_network else ())

    def behave(self, policy: jax.Array, state: ValueState, hyper: Hyper) -> jax.Array:
        """See `Algorithm.behave`: ε-greedy or softmax of the values, as much as it is time for."""
        now = policies.exploration(self.config, state.updates, hyper)
        if self.config.exploration == "softmax":
            return policies.softmax(policy, now.temperature)
        return policies.epsilon_greedy(policy, now.epsilon, self.config.ties)

    def target_policy(self, policy: jax.Array, state: ValueState, hyper: Hyper) -> jax.Array:
        if self._learned_policy == "behavior":
            return self.behave(policy, state, hyper)
        if self._learned_policy == "softmax":
            return policies.softmax(policy, hyper.target_temperature)
        epsilon = 0.0 if self.row.target_policy == "greedy" else hyper.target_epsilon
        return policies.epsilon_greedy(policy, epsilon, self.config.ties)

    def value(self, policy: jax.Array, value: jax.Array, state: ValueState, hyper: Hyper) -> jax.Array:
        return ops.expected_q(policy, self.target_policy(policy, state, hyper))

    def returns(self, batch: Batch, hyper: Hyper) -> traces.Return:
        """What the values of the actions taken should become."""
        seen = batch.under(batch.state.target) if self.has_target_network else batch
        choosing = batch if self.config.double_q else seen
        pi_tm1, pi_t = (self.target_policy(x, batch.state, hyper) for x in (choosing.policy_tm1, choosing.policy_t))
        bootstrap = traces.Bootstrap(
            q_tm1=ops.at_action(seen.policy_tm1, batch.action_tm1),
            v_t=ops.expected_q(seen.policy_t, pi_t),
            log_pi_tm1=ops.at_action(pi_tm1, batch.action_tm1),
        )
        return self.row.trace(jax.lax.stop_gradient(bootstrap), batch.terms, self.config, hyper)

    def error(self, batch: Batch, hyper: Hyper) -> Series:
        """See `Algorithm.error`."""
        return self.returns(batch, hyper).target_tm1 - ops.at_action(batch.policy_tm1, batch.action_tm1)

    def loss(self, batch: Batch, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        found = jax.lax.stop_gradient(self.returns(batch, hyper))
        return self.regression(batch, found, hyper)

    def regression(self, batch: Batch, found: traces.Return, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        """`½ (target − Q)²` or the cross-entropy of histograms, the mean over valid time steps by their weights."""
        config, is_valid_t = self.config, batch.terms.is_valid_t
        weight_tm1 = batch.terms.weight_tm1
        if found.log_weight_tm1 is not None:
            ratio = constant_ratio(found.log_weight_tm1, hyper.clip_rho)
            weight_tm1 = ratio if weight_tm1 is None else ratio * weight_tm1
        if heads.get(config.heads).is_distributional:
            logits_tm1 = ops.at_action(batch.value_tm1, batch.action_tm1)
            edges = bin_edges(config.value_min, config.value_max, config.value_bins)
            loss = losses.hl_gauss_loss(logits_tm1, found.target_tm1, edges, is_valid_t, weight_tm1=weight_tm1)
        else:
            loss = losses.action_value_loss(
                batch.policy_tm1, batch.action_tm1, found.target_tm1, is_valid_t, weight_tm1=weight_tm1
            )
        q_tm1 = ops.at_action(batch.policy_tm1, batch.action_tm1)
        metrics = {"loss/value": loss, "q/taken": mean_over_valid(q_tm1, is_valid_t)}
        metrics["q/target"] = mean_over_valid(found.target_tm1, is_valid_t)
        if batch.terms.weight_tm1 is not None:
            metrics["replay/weight"] = mean_over_valid(batch.terms.weight_tm1, is_valid_t)
        told = {name: x for name, x in ratios(batch.terms, hyper).items() if name in RATIOS}
        return loss, jax.lax.stop_gradient(metrics | told)

    def after(self, state: ValueState, params: Tree, view: View, hyper: Hyper) -> tuple[ValueState, Metrics]:
        now = policies.exploration(self.config, state.updates, hyper)
        told = (
            {"exploration/epsilon": now.epsilon}
            if self.config.exploration == "epsilon-greedy"
            else {"exploration/temperature": now.temperature}
        )
        updates = state.updates + 1
        return ValueState(updates, self._followed(state.target, params, updates, hyper)), told

    def _followed(self, target: Tree, params: Tree, updates: jax.Array, hyper: Hyper) -> Tree:
        """The target network after so many updates, the last of which led to `params`."""
        if not self.has_target_network:
            return ()
        if self.config.target_network == "period":
            is_due = updates % self.config.target_period == 0
            return jax.tree.map(lambda old, new: jnp.where(is_due, new, old), target, params)
        return followed(target, params, hyper.polyak_rate)


RATIOS = tuple(f"ratio/{name}" for name in ("ess_fraction", "min", "mean", "max", "std"))
"""What is told of ratios to a policy that may exclude actions, so that its divergence is infinite."""


@register_algorithm("q-learning")
class QLearning(ActionValues):
    """One step to the best action's value, by the network's own values (Watkins 1989)."""

    row = Row(traces.one_step, "greedy", has_target_network=False)
    defaults = FRESH


@register_algorithm("sarsa")
class Sarsa(ActionValues):
    """The values of the policy that acts, with the action that it took next (Rummery & Niranjan 1994)."""

    row = Row(traces.sampled, "behavior", ("lambda_",), has_replay=False, has_target_network=False)
    defaults = FRESH


@register_algorithm("expected-sarsa")
class ExpectedSarsa(ActionValues):
    """Returns that end in the mean action value under the target policy (van Seijen et al. 2009; S&B 2018, ch. 7)."""

    row = Row(traces.n_step, "chosen", N_STEP)
    defaults = REPLAYED | dict(n_step=3)


@register_algorithm("dqn")
class DQN(ActionValues):
    """Q-learning with replay and a target network (Mnih et al. 2015)."""

    row = Row(traces.n_step, "greedy", N_STEP)
    defaults = REPLAYED | dict(n_step=3)


@register_algorithm("pqn")
class PQN(ActionValues):
    """λ-returns of fresh unrolls, settled before many steps of a normalized network (Gallici et al. 2024)."""

    row = Row(traces.peng, "greedy", ("lambda_",), has_replay=False, has_target_network=False)
    defaults = FAMILY | dict(num_envs=32, unroll_length=32, epochs=4, minibatches=8)
    family_defaults: ClassVar = {"MinAtar": MINATAR | dict(num_envs=128, epochs=2, minibatches=32)}

    def prepare(self, terms: Terms, hyper: Hyper) -> tuple[Series, Series]:
        """See `Algorithm.prepare`."""
        bootstrap = traces.Bootstrap(terms.v_tm1, terms.v_t, terms.log_pi_tm1)  # the trace asks for `v_t` alone
        target_tm1 = self.row.trace(bootstrap, terms, self.config, hyper).target_tm1
        return target_tm1 - terms.v_tm1, target_tm1

    def loss(self, batch: Batch, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        return self.regression(batch, traces.Return(jax.lax.stop_gradient(batch.prepared.target_tm1)), hyper)


@register_algorithm("retrace")
class Retrace(ActionValues):
    """Retrace(λ): the trace is λ min(1, ρ) (Munos et al. 2016)."""

    row = Row(traces.retrace, "chosen", ("lambda_",))


@register_algorithm("tree-backup")
class TreeBackup(ActionValues):
    """Tree backup(λ): the trace is λ π (Precup et al. 2000)."""

    row = Row(traces.tree_backup, "chosen", ("lambda_",))


@register_algorithm("q-sigma")
class QSigma(ActionValues):
    """Q(σ): between following the action taken, by its ratio, and tree backup (De Asis et al. 2018)."""

    row = Row(traces.q_sigma, "chosen", ("lambda_", "sigma"))
