"""The two kinds of settings: `Config` is static and recompiles, `Hyper` is traced and varies by `vmap`."""

import dataclasses
import typing
from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from isjax._renamed import takes_former_names
from isjax.learner.fields import check_sizes
from isjax.learner.fields import numbers as _numbers
from isjax.learner.fields import require as _require
from isjax.learner.fields import typed as _typed
from isjax.networks import heads, memories, torsos

_COUNTS = (
    "steps",
    "num_envs",
    "unroll_length",
    "epochs",
    "minibatches",
    "replay_size",
    "channels",
    "memory_window",
    "evaluation_episodes",
    "target_period",
    "n_step",
    "frame_stack",
    "reset_interval",
    "value_bins",
)
_FRACTIONS = (
    *("discount", "lambda_", "learning_rate_end"),
    *("epsilon_start", "epsilon_end", "exploration_share", "target_epsilon", "polyak_rate", "sigma"),
    *("priority_exponent", "priority_correction"),
)
_FINITE = ("learning_rate", "critic_learning_rate", "temperature_learning_rate", "value_cost", "entropy_cost")
_FINITE_ABOVE_ZERO = ("max_kl", "kl_cost")
_ABOVE_ZERO = (
    "max_grad_norm",
    "clip_rho",
    "clip_c",
    "clip_pg_rho",
    "clip_epsilon",
    "temperature",
    "max_weight",
    "replay_max_kl",
    "behavior_temperature",
    "behavior_temperature_end",
    "target_temperature",
)
"""Infinity switches these off."""
_FLOAT32 = np.finfo(np.float32)
_HELD = "a number that float32 can hold"


@takes_former_names
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that shapes the compiled program. Hashable; a change of any field compiles anew."""

    env: str = "CartPole-v1"
    """An id of gymnax, SUITE/ID, or MODULE:NAME of a registered environment."""
    env_params: tuple[str, ...] = ()
    """Parameters of the environment that are not its defaults, NAME=VALUE each."""
    frame_stack: int = 1
    """Observations that the network sees at once, the latest ones of an episode, joined along their last axis."""
    algorithm: str = "impala"
    """What is learned from each unroll: impala, a2c, reinforce, pg-is, p3o, ppo, ppo-kl, ppo-decoupled, awr, trpo;
    of action values: q-learning, sarsa, expected-sarsa, dqn, pqn, retrace, tree-backup, q-sigma; of Box actions alone:
    sac; or MODULE:NAME of a registered one."""
    steps: int = 500_000
    """Environment steps per learner; rounded up to whole updates."""
    num_envs: int = 8
    """Environments of each learner."""
    unroll_length: int = 16
    """Steps in each environment between updates."""
    actor_lag: int = 0
    """Updates by which the acting policy lags behind the learning one; 0 is on-policy."""
    epochs: int = 1
    """Passes over each unroll; from the second gradient step on, ratios are recomputed. For trpo, of its critic."""
    minibatches: int = 1
    """Gradient steps a pass: each on its own environments or, where an algorithm fixes its advantages before the
    first one (ppo…, awr, p3o, trpo) and the network has no memory, on its own time steps. Must divide their number."""
    correction: Literal["v-trace", "one-step", "epsilon", "none"] = "v-trace"
    """How impala corrects for the policy that acted."""
    emphasis: bool = False
    """Weigh each time step of impala by its emphasis, from the start of the unroll or episode on, over the batch's mean
    (Sutton et al. 2016): what λ near 1 needs least."""
    products: Literal["plain", "self-normalized"] = "plain"
    """Products of ratios of pg-is: as they are, or over their mean in the batch."""
    normalize_advantages: bool = False
    """Standardize the advantages of each gradient step, where an algorithm fixes them beforehand."""
    clip_values: bool = False
    """Bound how far ppo's value loss moves a value by clip_epsilon."""
    replay_fraction: float = 0.0
    """Share of each batch that comes from earlier unrolls, in [0, 1], rounded to whole environments; 1 learns from
    as many replayed ones as there are environments, and nothing else. Not where advantages are fixed beforehand."""
    replay_size: int = 100
    """Unrolls that the replay keeps, the newest ones."""
    replay_priority: bool = False
    """Draw earlier unrolls by how far off their action values were when last learned from, and weigh them for that
    (Schaul et al. 2016); or all of them alike."""
    replay_mask: bool = False
    """Leave out time steps where KL(π‖μ) exceeds replay_max_kl."""
    burn_in: int = 0
    """First time steps of a replayed unroll that only bring a memory up to date."""
    exploration: Literal["epsilon-greedy", "softmax"] = "epsilon-greedy"
    """How algorithms of action values act in training: the best action, and at times any; or each by its value."""
    ties: Literal["first", "average"] = "first"
    """Which of equally good actions is the best one: the first, or all of them with equal probability."""
    target_policy: Literal["epsilon-greedy", "softmax", "behavior"] = "epsilon-greedy"
    """Whose action values expected-sarsa, retrace, tree-backup and q-sigma learn; behavior is the policy that acts."""
    target_network: Literal["period", "polyak", "none"] = "period"
    """Bootstrap from earlier parameters: copied every target_period updates, or followed by polyak_rate."""
    target_period: int = 1
    """Updates between copies."""
    double_q: bool = False
    """Let the network choose the actions whose values the target network gives (van Hasselt et al. 2016)."""
    n_step: int = 1
    """Rewards in a return of dqn or expected-sarsa, within its unroll."""
    n_step_correction: Literal["ratios", "none"] = "ratios"
    """Weigh such returns by the ratios of the actions after the first one, up to clip_rho; or take the target policy
    for the one that acted."""
    network: str = "mlp"
    """Torso: mlp (dense layers), residual (the same, each added), conv (a 3×3 convolution before them), nature or
    impala (deep, for large images); patches, nature-patches, impala-patches (the same as products of matrices, faster
    for many learners on a CPU); or MODULE:NAME of a registered one."""
    memory: str = "none"
    """Between torso and heads, as wide as the last layer of the torso: none, gru, lstm, attention, or MODULE:NAME."""
    memory_window: int = 32
    """Time steps that memory attention looks back."""
    heads: str = "linear"
    """What gives policy and value: linear, state-std (the deviation of Box actions depends on the state), dueling,
    hl-gauss (of action values: a histogram each), or MODULE:NAME."""
    value_min: float = -100.0
    """The least value of hl-gauss's histograms; a target below it counts as this one."""
    value_max: float = 100.0
    """The largest one. Action values start in the middle."""
    value_bins: int = 101
    """Bins of a histogram."""
    share_torso: bool = True
    """Let policy and value share one torso."""
    torso: tuple[int, ...] = (64, 64)
    """Widths of the dense layers."""
    channels: int = 16
    """Output channels of the first convolution, if there is one; deeper ones have multiples of it."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Nonlinearity of the torso."""
    layer_norm: bool = False
    """Normalize each layer of the torso before its nonlinearity."""
    optimizer: Literal["adam", "radam", "rmsprop", "sgd"] = "adam"
    """Preconditioner of the gradient, after clipping by global norm."""
    box_actions: Literal["tanh", "clip"] = "tanh"
    """How a Gaussian's action is brought into a bounded Box; log-probabilities follow it."""
    normalize_observations: bool = False
    """Standardize observations by the learner's own running statistics."""
    normalize_rewards: bool = False
    """Divide rewards by the running standard deviation of the learner's discounted return."""
    resets_per_unroll: int = 0
    """Reset states drawn for each environment and unroll, one for each episode that ends in turn, then
    again from the first; 0 draws one for every step, enough for any episodes."""
    reset_pool: int = 0
    """Reset states that a learner keeps from update to update, for the next episode of any of its environments; for
    environments that are slow to reset. 0 keeps none (see resets_per_unroll)."""
    reset_interval: int = 128
    """Of a pool: steps for which one reset state is drawn anew, in the place of one that an episode started from. The
    metric resets/reused counts the episodes that started where another one had."""
    evaluation_episodes: int = 16
    """Episodes of each evaluation."""
    evaluation_policy: Literal["mode", "sample"] = "mode"
    """Evaluate the most likely actions, or actions sampled from the policy."""

    def __post_init__(self) -> None:
        for name, kind in typing.get_type_hints(Config).items():
            object.__setattr__(self, name, _typed(name, kind, getattr(self, name)))
        for name in _COUNTS:
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("actor_lag", "resets_per_unroll", "reset_pool", "burn_in"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        more = f"more than {{value_min}}, which is {self.value_min:g}"
        _require(self.value_max > self.value_min, "value_max", self.value_max, more)
        _require(all(width >= 1 for width in self.torso), "torso", self.torso, "widths of at least 1")
        _require(0 <= self.replay_fraction <= 1, "replay_fraction", self.replay_fraction, "in [0, 1]")
        shorter = f"less than {{unroll_length}}, which is {self.unroll_length}"
        _require(self.burn_in < self.unroll_length, "burn_in", self.burn_in, shorter)
        torsos.check(self.network)
        memories.check(self.memory)
        heads.check(self.heads)
        if self.memory != "none":
            _require(self.share_torso, "share_torso", "off", "on where the network has a memory")
            _require(bool(self.torso), "torso", self.torso, "at least one layer for the memory to follow")
        check_sizes(self, (*_COUNTS[1:], "actor_lag", "resets_per_unroll", "reset_pool"))

    @property
    def steps_per_update(self) -> int:
        """Environment steps that one update of one learner takes."""
        return self.num_envs * self.unroll_length

    @property
    def updates(self) -> int:
        """Updates of a whole run; the learning rate is annealed over these."""
        return -(-self.steps // self.steps_per_update)

    @property
    def resets_per_update(self) -> int:
        """Reset states of a pool that each update draws anew, at least one."""
        return min(self.reset_pool, -(-self.steps_per_update // self.reset_interval))

    @property
    def replayed_envs(self) -> int:
        """Columns `[T]` of earlier unrolls that join each batch, or are all of it."""
        if self.replay_fraction == 1.0:
            return self.num_envs
        return round(self.num_envs * self.replay_fraction / (1.0 - self.replay_fraction))

    @property
    def batch_envs(self) -> int:
        """Columns `[T]` of each batch, fresh and replayed ones."""
        return self.num_envs * (self.replay_fraction < 1.0) + self.replayed_envs

    @property
    def is_on_policy(self) -> bool:
        """Whether the first gradient step of an update sees the very parameters that acted."""
        return self.actor_lag == 0 and self.replayed_envs == 0


@flax.struct.dataclass
class Hyper:
    """Everything that may differ between learners of one compiled program: numbers, or arrays `[L]`."""

    learning_rate: float | jax.Array = 2.5e-3
    """Step size at the start."""
    learning_rate_end: float | jax.Array = 0.0
    """What the step size anneals to, linearly, as a fraction of learning_rate; 1 keeps it constant."""
    max_grad_norm: float | jax.Array = 0.5
    """Bound on the gradient's global norm."""
    discount: float | jax.Array = 0.99
    """γ in [0, 1]."""
    lambda_: float | jax.Array = 0.95
    """λ in [0, 1] of the corrected return."""
    clip_rho: float | jax.Array = 1.0
    """V-trace's ρ̄, above 0."""
    clip_c: float | jax.Array = 1.0
    """V-trace's c̄, above 0."""
    clip_pg_rho: float | jax.Array = 1.0
    """Bound on the policy gradient's ratio, above 0; for pg-is, on products of ratios."""
    clip_epsilon: float | jax.Array = 0.2
    """How far ppo lets a ratio move from 1, above 0."""
    max_kl: float | jax.Array = 0.01
    """Mean KL in nats, above 0, that a step of trpo may take, and that ppo-kl aims at."""
    kl_cost: float | jax.Array = 1.0
    """ppo-kl's first β, above 0; it adapts to max_kl."""
    temperature: float | jax.Array = 1.0
    """awr's β, above 0: weights are exp(A/β); or sac's α at the start, in rewards per nat."""
    max_weight: float | jax.Array = 20.0
    """Bound on awr's weights, above 0."""
    replay_max_kl: float | jax.Array = 0.3
    """KL in nats, above 0, beyond which replay_mask leaves a time step out."""
    priority_exponent: float | jax.Array = 0.6
    """replay_priority's α in [0, 1]: 1 draws in proportion to errors, 0 draws uniformly."""
    priority_correction: float | jax.Array = 0.4
    """replay_priority's β in [0, 1] at the start, annealed to 1, linearly: weights are (N P)^−β over their maximum."""
    epsilon_start: float | jax.Array = 1.0
    """Share of actions drawn from all legal ones at the start, by algorithms of action values that explore so."""
    epsilon_end: float | jax.Array = 0.05
    """The same from exploration_share of the run on."""
    exploration_share: float | jax.Array = 0.1
    """Share of the run in which exploration anneals from its start to its end, linearly."""
    behavior_temperature: float | jax.Array = 1.0
    """Temperature of softmax exploration at the start, above 0, in the unit of action values."""
    behavior_temperature_end: float | jax.Array = 0.1
    """The same from exploration_share of the run on."""
    target_epsilon: float | jax.Array = 0.0
    """Share of actions that an epsilon-greedy target policy draws from all legal ones; 0 is greedy."""
    target_temperature: float | jax.Array = 0.1
    """Temperature of a softmax target policy, above 0, in the unit of action values."""
    polyak_rate: float | jax.Array = 0.01
    """Share of the way to the parameters that a polyak target network goes in an update."""
    critic_learning_rate: float | jax.Array = 1e-3
    """Step size of sac's critics, in place of learning_rate, which is the policy's; annealed as that is."""
    temperature_learning_rate: float | jax.Array = 1e-3
    """The same of the logarithm of sac's temperature; 0 keeps it constant."""
    target_entropy: float | jax.Array = -1.0
    """What sac's temperature keeps the policy's entropy at, in nats for each dimension of the action, in units where
    bounds are −1 and 1."""
    sigma: float | jax.Array = 0.5
    """q-sigma's σ in [0, 1]: 1 follows the action taken, by its ratio; 0 is tree backup."""
    value_cost: float | jax.Array = 0.5
    """Factor of the value loss, ½ (v_s − V)²."""
    entropy_cost: float | jax.Array = 0.01
    """Factor of the policy's entropy, in nats."""

    def check(self) -> None:
        """Raises `ValueError` for a number out of range. For the host: traced values cannot be checked.

        What counts is the number that float32 makes of it.
        """
        with np.errstate(over="ignore"):
            arrays = {name: np.asarray(_numbers(name, x), np.float32) for name, x in vars(self).items()}
        shapes = {x.shape for x in arrays.values() if x.ndim}
        for name, x in arrays.items():
            single = x.ndim == 0 or (x.ndim == 1 and len(shapes) == 1)
            _require(single, name, f"of shape {list(x.shape)}", "a number, or an array [L] of the same L as others")
            given = np.abs(np.asarray(getattr(self, name), float))
            is_held = (given == 0) | ((given >= _FLOAT32.tiny) & (given <= _FLOAT32.max))
            self._require_all(is_held | ~np.isfinite(given), name, _HELD)
        for name in _FRACTIONS:
            self._require_all((arrays[name] >= 0) & (arrays[name] <= 1), name, "in [0, 1]")
        for name in (*_ABOVE_ZERO, *_FINITE_ABOVE_ZERO):
            self._require_all(arrays[name] > 0, name, "greater than 0")
        for name in _FINITE:
            self._require_all(arrays[name] >= 0, name, "at least 0")
        for name in (*_FINITE, *_FINITE_ABOVE_ZERO, "target_entropy"):
            self._require_all(np.isfinite(arrays[name]), name, _HELD)

    def _require_all(self, holds: np.ndarray, name: str, allowed: str) -> None:
        """Raises `ValueError` that shows the first number for which the rule does not hold."""
        if not np.all(holds):
            _require(False, name, np.asarray(getattr(self, name))[~np.asarray(holds)].flat[0], allowed)

    def as_arrays(self, learners: int | None = None) -> "Hyper":
        """All fields as float32, `[]`, or `[learners]` where single numbers are repeated.

        Raises:
          ValueError: a field is no number, or of another shape.
        """
        shape, found = () if learners is None else (learners,), {}
        for name, value in vars(self).items():
            x = jnp.asarray(_numbers(name, value), jnp.float32)
            allowed = f"a number or [{learners}]" if shape else "a number"
            _require(x.shape in ((), shape), name, f"of shape {list(x.shape)}", allowed)
            found[name] = jnp.broadcast_to(x, shape)
        return Hyper(**found)
