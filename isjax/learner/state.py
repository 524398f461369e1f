"""Everything that a learner is between two updates."""

import flax.struct
import jax

from isjax.learner.config import Hyper
from isjax.learner.replay import Replay
from isjax.learner.statistics import Moments, RewardScale
from isjax.learner.unroll import Actors
from isjax.types import Key, Tree


@flax.struct.dataclass
class LearnerState:
    """Everything that a learner is: one that is saved and loaded goes on with the same numbers."""

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
    """Of the network."""
    optimizer: Tree
    """The optimizer's moments, of all parameters as one vector."""
    lagging: Tree
    """`[actor_lag, ...]`, a ring of the parameters before each of the last updates; `None` without lag."""
    actors: Actors
    """The environments, in the middle of their episodes."""
    observation_moments: Moments | None
    """Mean and deviation of the observations so far; `None` if observations are not standardized."""
    reward_scale: RewardScale | None
    """What rewards are divided by; `None` if rewards are not scaled."""
    algorithm: Tree
    """What the algorithm keeps from update to update (see `algorithms.Algorithm.init`)."""
    replay: Replay | None
    """Earlier unrolls, to be learned from again; `None` without replay."""
