"""The one backward recurrence."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from isjax import ops
from tests import oracles
from tests.strategies import SETTINGS, SHAPES, floats

COMPILED = jax.jit(ops.backward_affine, static_argnames="associative")
BOTH_FORMS = pytest.mark.parametrize("associative", [False, True])


def series(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@BOTH_FORMS
@hypothesis.given(data=st.data())
@SETTINGS
def test_it_equals_the_sum_of_products(x64, associative, data):
    shape = data.draw(SHAPES)
    gain, bias = data.draw(floats(shape, -1.5, 1.5)), data.draw(floats(shape))
    expected = oracles.backward_affine(gain, bias)
    for solve in (ops.backward_affine, COMPILED):
        np.testing.assert_allclose(solve(gain, bias, associative=associative), expected, rtol=1e-10, atol=1e-10)


@BOTH_FORMS
def test_float32_stays_float32_and_close_to_the_sum_of_products(associative):
    gain, bias = series(0, 2, 20, 3).astype(np.float32)
    x = COMPILED(gain, bias, associative=associative)
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, oracles.backward_affine(gain, bias), rtol=1e-4, atol=1e-5)


@BOTH_FORMS
def test_a_gain_of_zero_hides_everything_later(associative):
    gain, bias = series(1, 2, 6)
    gain[2] = 0.0
    changed = bias.copy()
    changed[3:] = 1e6
    before = COMPILED(gain, bias, associative=associative)
    after = COMPILED(gain, changed, associative=associative)
    np.testing.assert_array_equal(before[:3], after[:3])
    assert np.all(before[3:] != after[3:])


@BOTH_FORMS
@pytest.mark.parametrize("large", [1e30, -1e30])
def test_gains_whose_product_overflows_beyond_a_zero_stay_there(associative, large):
    gain, bias = np.full(11, large, np.float32), np.zeros(11, np.float32)
    gain[[0, 3]], bias[1] = (0.5, 0.0), 2.0
    x = COMPILED(gain, bias, associative=associative)
    np.testing.assert_array_equal(x, [1.0, 2.0, *np.zeros(9)])


@BOTH_FORMS
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_a_gain_of_zero_hides_what_is_no_number_and_gradients_do_not_see_it(associative, garbage):
    gain, bias = np.float32([[0.5, 0.5, 0.0, 0.5], [1.0, 2.0, 3.0, 4.0]])
    spoiled = np.where(np.arange(4) == 3, np.float32(garbage), [gain, bias])

    def before(gain, bias):
        return jnp.sum(ops.backward_affine(gain, bias, associative=associative)[:3])

    value, (to_gain, to_bias) = jax.value_and_grad(before, (0, 1))(*spoiled)
    np.testing.assert_allclose(value, 2.75 + 3.5 + 3.0)
    np.testing.assert_allclose(to_gain[:3], [3.5, 4.5, 0.0])
    np.testing.assert_allclose(to_bias, [1.0, 1.5, 1.75, 0.0])


@BOTH_FORMS
def test_the_gradient_of_a_gain_at_zero_is_what_follows(associative):
    slope = jax.grad(lambda x: ops.gae(*4 * [jnp.ones(3)], lambda_=x, associative=associative)[0])(0.0)
    assert slope == 1.0


@BOTH_FORMS
@pytest.mark.parametrize(
    ("gain", "last", "first"), [(1e30, 1e-5, np.inf), (1e30, 0.0, 0.0), (1e-30, np.nan, np.nan), (1e-30, 1.0, 0.0)]
)
def test_both_forms_agree_where_products_of_gains_overflow_or_vanish(associative, gain, last, first):
    x = COMPILED(np.float32([gain, gain, 1.0, 1.0]), np.float32([0.0, 0.0, 0.0, last]), associative=associative)
    np.testing.assert_allclose(x[0], first, atol=1e-30)


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_by_default_steps_on_a_cpu_and_sweeps_on_accelerators(monkeypatch, platform):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    traced = jax.make_jaxpr(lambda *x: ops.backward_affine(*x))(*np.ones((2, 6), np.float32))
    assert any(equation.primitive.name == "scan" for equation in traced.eqns) == (platform == "cpu")


@BOTH_FORMS
def test_all_axes_but_the_first_are_a_batch(associative):
    gain, bias = series(2, 2, 4, 3, 2)
    whole = COMPILED(gain, bias, associative=associative)
    for i, j in np.ndindex(3, 2):
        alone = COMPILED(gain[:, i, j], bias[:, i, j], associative=associative)
        np.testing.assert_allclose(whole[:, i, j], alone, rtol=1e-6)


@BOTH_FORMS
def test_bfloat16_is_computed_in_float32(associative):
    gain, bias = (jnp.asarray(x, jnp.bfloat16) for x in (np.full((256, 2), 0.99), series(3, 256, 2)))
    narrow = COMPILED(gain, bias, associative=associative)
    wide = COMPILED(gain.astype(jnp.float32), bias.astype(jnp.float32), associative=associative)
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, wide, rtol=1e-5)


@BOTH_FORMS
def test_gradients_agree_with_finite_differences(x64, associative):
    gain, bias = series(4, 2, 4, 2)
    solve = functools.partial(COMPILED, associative=associative)
    check_grads(solve, (jnp.asarray(gain), jnp.asarray(bias)), order=1)


@BOTH_FORMS
def test_vmap_equals_a_loop(associative):
    gain, bias = series(5, 2, 3, 4, 2)
    solve = functools.partial(COMPILED, associative=associative)
    looped = np.stack([solve(g, b) for g, b in zip(gain, bias, strict=True)])
    np.testing.assert_allclose(jax.vmap(solve)(gain, bias), looped, rtol=1e-5)


@BOTH_FORMS
@pytest.mark.parametrize("varies", [v for v in itertools.product([False, True], repeat=2) if any(v)])
def test_shard_map_takes_it_with_its_default_checks_whichever_inputs_vary(associative, varies):
    mesh = jax.make_mesh((8,), ("env",), axis_types=(AxisType.Auto,))
    arrays = [series(6 + i, 5, 8 if v else 1).astype(np.float32) for i, v in enumerate(varies)]
    specs = tuple(P(None, "env") if v else P() for v in varies)
    solve = functools.partial(ops.backward_affine, associative=associative)
    sharded = jax.jit(jax.shard_map(solve, mesh=mesh, in_specs=specs, out_specs=P(None, "env")))(*arrays)
    expected = solve(*(np.broadcast_to(x, (5, 8)) for x in arrays))
    np.testing.assert_allclose(sharded, expected, rtol=1e-5, atol=1e-5)


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"share one shape.*gain_t \[3\], bias_t \[4\]"):
        ops.backward_affine(jnp.ones(3), jnp.ones(4))


def test_an_array_without_rows_is_refused():
    with pytest.raises(ValueError, match=r"gain_t must be \[T, \*B\] with T ≥ 1, but its shape is \[0, 2\]"):
        ops.backward_affine(jnp.ones((0, 2)), jnp.ones((0, 2)))


def test_scalars_are_refused():
    with pytest.raises(ValueError, match=r"gain_t must be \[T, \*B\]"):
        ops.backward_affine(jnp.float32(1.0), jnp.float32(1.0))


def test_integers_are_refused():
    with pytest.raises(TypeError, match="bias_t must be floating, but its dtype is int32"):
        ops.backward_affine(jnp.ones(3), jnp.ones(3, jnp.int32))
