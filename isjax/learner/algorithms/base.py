"""What an algorithm is: how a learner acts, what a gradient step minimizes, and what is kept from update to update."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax

from isjax.environments.distributions import Gaussian
from isjax.learner.config import Config, Hyper
from isjax.registry import Registry
from isjax.types import Key, Metrics, Objective, Series, Terms, Tree

COSTS = ("value_cost", "entropy_cost")
"""What an algorithm uses whose loss is that of a policy, a value and an entropy."""
TARGETS = ("lambda_", "clip_rho", "clip_c")
"""What an algorithm uses whose targets are V-trace's."""
REPLAY = ("replay_fraction", "replay_size", "replay_mask", "replay_max_kl", "burn_in")
"""What an algorithm uses that can learn from earlier unrolls."""
PRIORITY = ("replay_priority", "priority_exponent", "priority_correction")
"""What an algorithm uses that can say how far off it was in each of their time steps."""
EXPLORATION = (
    *("exploration", "exploration_share", "ties"),
    *("epsilon_start", "epsilon_end", "behavior_temperature", "behavior_temperature_end"),
)
"""What an algorithm uses that learns action values, and acts by them with some exploration."""
TARGET_POLICY = ("target_policy", "target_epsilon", "target_temperature")
"""What an algorithm uses whose action values are those of a policy that one chooses."""
TARGET_NETWORK = ("target_network", "target_period", "polyak_rate", "double_q")
"""What an algorithm uses that can bootstrap from earlier parameters."""
PARTICULAR = (
    *("correction", "emphasis", "products", "normalize_advantages", "clip_values"),
    *("clip_pg_rho", "clip_epsilon", "max_kl", "kl_cost", "temperature", "max_weight"),
    *COSTS,
    *TARGETS,
    *REPLAY,
    *PRIORITY,
    *EXPLORATION,
    *TARGET_POLICY,
    *TARGET_NETWORK,
    *("n_step", "n_step_correction", "sigma"),
    *("critic_learning_rate", "temperature_learning_rate", "target_entropy"),
)
"""The settings that not every algorithm uses."""

_ABSENT: Any = None


class Prepared(NamedTuple):
    """What an algorithm that has `prepare` knows of its time steps; "old" is before the first gradient step."""

    advantage_tm1: Series
    """As `prepare` returned it, standardized in its minibatch if `normalize_advantages` asks for it."""
    target_tm1: Series
    """What the value should become."""
    old_log_pi_tm1: Series
    """Log-probability of the action under the old policy."""
    old_v_tm1: Series
    """The old value of the state that the time step starts from."""
    kl_tm1: Series
    """`KL(old ‖ π)` in that state, exact; gradients flow into π."""


class Critics(NamedTuple):
    """What an algorithm with critics learns by, beside the rest of a `Batch`."""

    params: Tree
    """Under which the batch is seen: of all that gradient steps move."""
    actions: Gaussian
    """What samples actions from a policy `[T, B, P]`; its units are those that critics see (`Gaussian.standard`)."""
    values_tm1: Callable[[Tree, jax.Array], jax.Array]
    """`(critics, action [T, B, D]) → [T, B, N]`: what critics of these parameters say of actions, as they were sampled,
    in the state that a time step starts from."""
    values_t: Callable[[Tree, jax.Array], jax.Array]
    """The same in the state actually reached: the final one at a time limit."""
    key: Key
    """For what the algorithm draws, another one for each gradient step."""


class Batch(NamedTuple):
    """What a gradient step learns from, as it looks under the parameters that it starts from.

    Everything is `[T, B, ...]`, whole unrolls in order of time, unless the algorithm has `prepare` and the network no
    memory: then `[1, N, ...]`, time steps of all environments in any order.
    """

    terms: Terms
    """Log-probabilities (of the target policy, see `Algorithm.target_policy`), values, rewards and endings."""
    policy_tm1: jax.Array
    """`[T, B, P]`: what the network says of actions in the state that a time step starts from. Parameters of the
    action distribution; an algorithm may as well read them as action values."""
    policy_t: jax.Array
    """The same in the state actually reached: the final one at a time limit. `None` for time steps in any order."""
    action_tm1: jax.Array
    """`[T, B, ...]`, the action taken."""
    state: Tree
    """What the algorithm has kept (see `Algorithm.init`), as it was before this update."""
    under: "View"
    """The same time steps under other parameters, as those of a target network in `state`."""
    value_tm1: jax.Array = _ABSENT
    """`[T, B, ...]`, what the network gives beside `policy_tm1`: `Algorithm.value` made `terms.v_tm1` of it."""
    prepared: Prepared = _ABSENT
    """Advantages and more, for an algorithm that has `prepare`; `None` for others."""
    critics: Critics = _ABSENT
    """Values of any actions, for an algorithm that has critics; `None` for others."""


View: TypeAlias = Callable[[Tree], Batch]
"""`parameters → Batch`: how time steps look under them. It is one forward pass of the network."""


class Algorithm:
    """The base of all algorithms. One has to define `loss`, and of the rest what it needs.

    All of these are pure functions of arrays, traced inside of one compiled update.
    """

    uses: tuple[str, ...] | None = None
    """Which settings of `PARTICULAR` have a say: others are refused where they are given. `None`: any may."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings of `Config` and `Hyper` that a run of this algorithm starts from, in place of its environment's."""
    family_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """The same for one family of environments alone (see `learner.defaults`), in place of `defaults`."""
    has_action_values: ClassVar[bool] = False
    """Whether the network's output is the value of each action: it then has no other value, and actions are Discrete.
    """

    critics: ClassVar[int] = 0
    """How many networks of observation and action, Q(s, a), it learns beside that of the policy, which then has no
    value. Parameters are `{"policy": …, "critics": …}` then, `critics` with a leading axis `[N]`."""

    behave: Any = None
    """`(policy [B, P], state, hyper) → policy [B, P]`: parameters of the distribution that acts in training, where
    it is not the network's own. Log-probabilities under it are `terms.log_mu_tm1`."""
    prepare: Any = None
    """`(terms, hyper) → (advantage_tm1, target_tm1)`, computed once an update, under the parameters before the first
    gradient step. Without it every gradient step sees whole unrolls, and corrects them anew."""
    before: Any = None
    """`(params, view, hyper) → (params, metrics)`: a step of the parameters before the gradient steps, on everything
    that the update learns from."""
    learning_rates: Any = None
    """`hyper → tree`, a prefix of the parameters: a step size for each part of them, in place of
    `hyper.learning_rate`; `hyper.learning_rate_end` anneals them all."""

    error: Any = None
    """`(batch, hyper) → [T, B]`: how far off each time step was, for a replay that draws by it."""

    def __init__(self, config: Config) -> None:
        """Raises `ValueError` for settings that the algorithm cannot do with, in algorithms that have any."""
        self.config = config

    def parameters(self, params: Tree, hyper: Hyper) -> Tree:
        """What gradient steps move, at the start: the network's parameters, unless an algorithm adds its own."""
        return params

    def init(self, params: Tree, hyper: Hyper) -> Tree:
        """What the algorithm keeps from update to update, at the start: any tree of arrays, as a target network."""
        return ()

    def target_policy(self, policy: jax.Array, state: Tree, hyper: Hyper) -> jax.Array:
        """Parameters `[..., P]` of the distribution that is learned about, evaluated and recorded as π.

        Args:
          policy: `[..., P]`, what the network says of actions. As it is, unless an algorithm says otherwise.
          state: what the algorithm keeps.
          hyper: settings.
        """
        return policy

    def value(self, policy: jax.Array, value: jax.Array, state: Tree, hyper: Hyper) -> jax.Array:
        """`[...]`, the value of states under the target policy, from what the network says there: `value`, unless an
        algorithm says otherwise. `terms.v_tm1` and `terms.v_t` are these.
        """
        return value

    def loss(self, batch: Batch, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        """`(loss, metrics)`: the scalar that gradient steps minimize, and numbers to show."""
        raise NotImplementedError(f"{type(self).__name__} must define loss.")

    def after(self, state: Tree, params: Tree, view: View, hyper: Hyper) -> tuple[Tree, Metrics]:
        """`(state, metrics)`: what the algorithm keeps of `state` after the gradient steps that led to `params`."""
        return state, {}


class OwnObjective(Algorithm):
    """A function of the unroll's terms as an algorithm."""

    def __init__(self, config: Config, objective: Objective) -> None:
        super().__init__(config)
        self.objective = objective

    def loss(self, batch: Batch, hyper: Hyper) -> tuple[jax.Array, Metrics]:
        return self.objective(batch.terms, hyper)


algorithms: Registry[type[Algorithm]] = Registry("algorithm", Algorithm)
"""All algorithms by name."""
register_algorithm = algorithms.register
