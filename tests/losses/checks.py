"""What several tests of losses share: a loss whose rows are weighted with constants, against its formula."""

import functools

import hypothesis.strategies as st
import jax
import numpy as np

from tests.strategies import SHAPES, flags, floats


def draw_rows(data, shapes=SHAPES):
    """`(log_pi, log_mu, advantage, valid or None)` in float64."""
    shape = data.draw(shapes)
    log_pi, log_rho, advantage = (data.draw(floats(shape, -3.0, 3.0)) for _ in range(3))
    valid = data.draw(st.one_of(st.none(), flags(shape)))
    return log_pi, log_pi - log_rho, advantage, valid


def mean(x, valid=None):
    """Over the valid rows; 0 if there are none."""
    valid = np.ones(x.shape, bool) if valid is None else valid
    return np.sum(x[valid]) / max(valid.sum(), 1)


def close(actual, expected, **options):
    np.testing.assert_allclose(actual, expected, **{"rtol": 1e-10, "atol": 1e-12} | options)


@functools.cache
def option(loss, **options):
    """A loss with options: the same object for the same ones, so that compiled programs are used again."""
    return functools.partial(loss, **options)


@functools.cache
def slope(loss):
    """`(log_pi, arguments, valid) → (value, gradient)`, compiled once."""
    return jax.jit(jax.value_and_grad(lambda log_pi, arguments, valid: loss(log_pi, *arguments, valid)))


def check_weighted(loss, multiplier, log_pi, valid, *arguments):
    """`loss(log_pi, *arguments, valid)` is the mean of `−multiplier · log π`, and that multiplier is a constant."""
    multiplier = np.zeros(log_pi.shape) + multiplier
    inside = np.ones(log_pi.shape, bool) if valid is None else valid
    value, gradient = slope(loss)(log_pi, arguments, valid)
    close(value, mean(-multiplier * log_pi, valid))
    close(gradient, np.where(inside, -multiplier, 0.0) / max(inside.sum(), 1))


def random_arguments(seed, *shape, spread=1.0):
    """`(log_pi, log_mu, advantage)` in float32."""
    rng = np.random.default_rng(seed)
    log_pi = -rng.exponential(size=shape)
    return tuple(
        x.astype(np.float32) for x in (log_pi, log_pi - spread * rng.normal(size=shape), rng.normal(size=shape))
    )
