"""Wrong arguments are named in one line, whatever they are."""

import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ops

ROWS = [jnp.ones((3, 2))] * 5


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"lambda_": np.float32(1.5)}, r"lambda_ must lie in \[0, 1\], but it is 1\.5"),
        ({"lambda_": np.array([0.5, 2.0, 0.5])}, r"lambda_ must lie in \[0, 1\], but it is 2\.0"),
        ({"lambda_": np.nan}, r"lambda_ must lie in \[0, 1\], but it is nan"),
        ({"clip_rho": np.float32(-1.0)}, r"clip_rho must be greater than 0, but it is -1\.0"),
        ({"clip_c": np.float64(0.0)}, r"clip_c must be greater than 0, but it is 0\.0"),
        ({"clip_rho": jnp.ones(2)}, r"clip_rho must be a scalar, but its shape is \[2\]"),
    ],
)
def test_options_out_of_range_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        ops.vtrace(*ROWS, **option)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"lambda_": "1"}, "lambda_ must be a number, but it is a str"),
        ({"lambda_": None}, "lambda_ must be a number, but it is a NoneType"),
        ({"clip_rho": "1"}, "clip_rho must be a number, but it is a str"),
        ({"is_valid_t": [[True] * 2] * 3}, "is_valid_t must be an array, but it is a list"),
    ],
)
def test_options_of_another_type_are_named(option, message):
    with pytest.raises(TypeError, match=message):
        ops.vtrace(*ROWS, **option)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([1.0, 2.0], "v_t must be an array, but it is a list"),
        (None, "v_t must be an array, but it is a NoneType"),
        ("ab", "v_t must be an array, but it is a str"),
        (np.arange(2), "v_t must be floating, but its dtype is int"),
        (np.ones(2, complex), "v_t must be floating, but its dtype is complex"),
        (np.array([None, 1.0]), "v_t must be floating, but its dtype is object"),
    ],
)
def test_what_is_no_array_of_floats_is_named(array, message):
    x = jnp.ones(2)
    with pytest.raises(TypeError, match=message):
        ops.vtrace(x, array, x, x, x)


@pytest.mark.parametrize("n", [2.0, "2", None])
def test_numbers_of_steps_that_are_no_integers_are_refused(n):
    with pytest.raises(TypeError, match="n must be an integer, but it is"):
        ops.n_step_off_policy(*ROWS[:4], n=n)


@pytest.mark.parametrize("associative", [False, True])
@pytest.mark.parametrize("shape", [(1,), (1, 2), (3, 0), (1, 0, 2)])
def test_one_row_and_no_stream_are_shapes_like_others(shape, associative):
    x = jnp.ones(shape)
    assert ops.vtrace(*[x] * 5, associative=associative).target_tm1.shape == shape
    for operator, count in ((ops.gae, 4), (ops.lambda_returns, 3), (ops.retrace, 5), (ops.q_lambda, 4)):
        assert operator(*[x] * count, associative=associative).shape == shape
    assert ops.rbis(*[x] * 5).shape == shape
    assert ops.n_step_off_policy(*[x] * 4, n=3).return_tm1.shape == shape
