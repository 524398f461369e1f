"""The clipped value loss; the plain one is among the parts of `test_losses.py`."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses
from tests.losses.checks import close, draw_rows, mean
from tests.strategies import SETTINGS


@jax.jit
def clipped(v, old, target, valid):
    loss = lambda *x: losses.clipped_value_loss(*x, valid, clip_epsilon=0.5)  # noqa: E731
    return jax.value_and_grad(loss, (0, 1, 2))(v, old, target)


@hypothesis.given(data=st.data())
@SETTINGS
def test_the_clipped_value_loss_takes_the_larger_error_and_its_gradient(x64, data):
    v, old, target, valid = draw_rows(data)
    inside = np.ones(v.shape, bool) if valid is None else valid
    near = np.clip(v, old - 0.5, old + 0.5)
    far_counts = (target - near) ** 2 > (target - v) ** 2
    expected = np.where(far_counts & (near != v), 0.0, v - target)
    value, (to_v, to_old, to_target) = clipped(v, old, target, valid)
    close(value, mean(0.5 * np.maximum((target - v) ** 2, (target - near) ** 2), valid))
    ties = np.isclose((target - near) ** 2, (target - v) ** 2) & (near != v) | np.isclose(np.abs(v - old), 0.5)
    assert np.all(np.isclose(to_v, np.where(inside, expected, 0.0) / max(inside.sum(), 1)) | ties)
    np.testing.assert_array_equal(to_old, np.zeros(v.shape))
    np.testing.assert_array_equal(to_target, np.zeros(v.shape))


def test_values_that_have_not_moved_have_the_plain_loss():
    rng = np.random.default_rng(0)
    v, target = rng.normal(size=(2, 6, 3)).astype(np.float32)
    for run in (lambda f: f(v), lambda f: jax.grad(f)(v)):
        clipped = run(lambda x: losses.clipped_value_loss(x, v, target, clip_epsilon=0.1))
        np.testing.assert_allclose(clipped, run(lambda x: losses.value_loss(x, target)), rtol=1e-6)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_padding_of_the_clipped_value_loss_is_inert(garbage):
    x, y, z = (jnp.array([a, b, garbage]) for a, b in ((1.0, 2.0), (0.5, 2.5), (3.0, -1.0)))
    valid = jnp.array([True, True, False])
    loss = lambda v: losses.clipped_value_loss(v, y, z, valid, clip_epsilon=0.2)  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(x)
    assert np.isfinite(value)
    assert gradient[2] == 0.0
    np.testing.assert_allclose(value, losses.clipped_value_loss(x[:2], y[:2], z[:2], clip_epsilon=0.2), rtol=1e-6)


def test_the_clipped_value_loss_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"v_old_tm1 \[2\]"):
        losses.clipped_value_loss(jnp.ones(3), jnp.ones(2), jnp.ones(3), clip_epsilon=0.2)
    with pytest.raises(ValueError, match="clip_epsilon must be greater than 0"):
        losses.clipped_value_loss(jnp.ones(3), jnp.ones(3), jnp.ones(3), clip_epsilon=0.0)
