"""What Hypothesis draws: rows of several episodes, as an environment would have left them."""

from typing import NamedTuple

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np

SETTINGS = hypothesis.settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    # The x64 fixture only sets a flag, so that it may stay over all examples of a test.
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)

SHAPES = st.sampled_from([(1,), (5, 2)])
"""Few, so that compiled programs are used again."""


class Rows(NamedTuple):
    """Arguments of `ops.vtrace`, in its order; `v_t[t] = v_tm1[t + 1]` wherever the episode goes on."""

    v_tm1: np.ndarray
    v_t: np.ndarray
    r_t: np.ndarray
    discount_t: np.ndarray
    log_rho_tm1: np.ndarray
    same_episode_t: np.ndarray


def floats(shape, low=-4.0, high=4.0):
    return hnp.arrays(np.float64, shape, elements=st.floats(low, high, allow_subnormal=False))


def flags(shape):
    return hnp.arrays(np.bool_, shape)


@st.composite
def rows(draw, shapes=SHAPES, truncations=True):
    """Rows with terminations and, where asked for, time limits: either, both at once, or neither."""
    shape = draw(shapes)
    v_tm1, v_reached, r_t, log_rho_tm1 = (draw(floats(shape)) for _ in range(4))
    discount_t = draw(floats(shape, 0.5, 1.0))
    terminated_t = draw(flags(shape))
    truncated_t = draw(flags(shape)) if truncations else np.zeros(shape, bool)
    same_episode_t = ~(terminated_t | truncated_t)
    following = np.concatenate([v_tm1[1:], v_reached[-1:]])
    return Rows(
        v_tm1=v_tm1,
        v_t=np.where(same_episode_t, following, v_reached),
        r_t=r_t,
        discount_t=np.where(terminated_t, 0.0, discount_t),
        log_rho_tm1=log_rho_tm1,
        same_episode_t=same_episode_t,
    )


def random_rows(seed, rows, *batch):
    """Rows without Hypothesis, for what needs one shape only; a third of them end an episode."""
    rng = np.random.default_rng(seed)
    shape = (rows, *batch)
    v_tm1, v_reached, r_t, log_rho_tm1 = rng.normal(size=(4, *shape))
    terminated_t, truncated_t = rng.random((2, *shape)) < 0.2
    same_episode_t = ~(terminated_t | truncated_t)
    following = np.concatenate([v_tm1[1:], v_reached[-1:]])
    return Rows(
        v_tm1,
        np.where(same_episode_t, following, v_reached),
        r_t,
        np.where(terminated_t, 0.0, 0.9),
        log_rho_tm1,
        same_episode_t,
    )
