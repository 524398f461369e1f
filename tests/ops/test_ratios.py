"""Log-ratios, clipped ratios, products of ratios, and the two facts about episode ends."""

import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from isjax import ops
from tests import oracles
from tests.strategies import SETTINGS, SHAPES, flags, floats

EXTREMES = np.array([-np.inf, -1000.0, -100.0, -1.0, 0.0, 1.0, 100.0, 1000.0, np.inf], np.float32)


# log_ratios


def test_the_log_ratio_is_target_minus_behavior():
    np.testing.assert_allclose(ops.log_ratios(jnp.array([-1.0]), jnp.array([-3.0])), [2.0])


def test_equal_policies_give_a_log_ratio_of_exactly_zero():
    log_pi = -np.random.default_rng(0).exponential(size=1000).astype(np.float32)
    np.testing.assert_array_equal(ops.log_ratios(log_pi, log_pi), np.zeros(1000))


def test_an_action_impossible_under_both_policies_has_log_ratio_zero_and_no_gradient():
    impossible = jnp.array([-jnp.inf, -1.0])
    value, gradient = jax.value_and_grad(lambda x, y: jnp.sum(ops.log_ratios(x, y)), (0, 1))(impossible, impossible)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, [[0.0, 1.0], [0.0, -1.0]])


def test_an_action_impossible_under_the_target_alone_has_a_ratio_of_zero():
    log_rho = ops.log_ratios(jnp.array([-jnp.inf]), jnp.array([-1.0]))
    np.testing.assert_array_equal(ops.clipped_ratio(log_rho, 1.0), [0.0])


def test_log_ratios_widen_bfloat16_before_subtracting():
    log_pi, log_mu = jnp.array([-8.0], jnp.bfloat16), jnp.array([-0.01], jnp.bfloat16)
    log_rho = ops.log_ratios(log_pi, log_mu)
    assert log_rho.dtype == jnp.float32
    np.testing.assert_allclose(log_rho, -8.0 - log_mu.astype(jnp.float32), rtol=1e-6)


def test_log_ratios_name_shapes_that_differ():
    with pytest.raises(ValueError, match=r"log_pi_tm1 \[2\], log_mu_tm1 \[3\]"):
        ops.log_ratios(jnp.zeros(2), jnp.zeros(3))


# clipped_ratio


@hypothesis.given(log_rho=floats((5,)), clip=st.floats(0.1, 10.0))
@SETTINGS
def test_the_clipped_ratio_is_the_lesser_of_clip_and_ratio(x64, log_rho, clip):
    np.testing.assert_allclose(ops.clipped_ratio(log_rho, clip), np.minimum(clip, np.exp(log_rho)), rtol=1e-10)


@pytest.mark.parametrize("clip", [1.0, 5.0, np.inf])
def test_clipped_ratios_and_their_gradients_are_finite_at_any_log_ratio(clip):
    value, gradient = jax.vmap(jax.value_and_grad(lambda x: ops.clipped_ratio(x, clip)))(EXTREMES)
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[-2:], [0.0, 0.0])
    np.testing.assert_allclose(gradient[3], np.exp(-1.0), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_unclipped_ratios_are_finite_for_narrow_floats(dtype):
    ratio = ops.clipped_ratio(jnp.array([1000.0], dtype), jnp.inf)
    assert ratio.dtype == jnp.float32
    np.testing.assert_allclose(ratio, np.exp(80.0), rtol=1e-5)


# product_of_ratios

COMPILED_PRODUCTS = jax.jit(ops.product_of_ratios)


@hypothesis.given(data=st.data())
@SETTINGS
def test_log_products_are_sums_within_an_episode_over_valid_rows(x64, data):
    shape = data.draw(SHAPES)
    log_rho, same, valid = data.draw(floats(shape)), data.draw(flags(shape)), data.draw(flags(shape))
    same, valid = data.draw(st.sampled_from([(None, None), (same, None), (None, valid), (same, valid)]))
    expected = oracles.log_products(log_rho, same, valid)
    for products in (ops.product_of_ratios, COMPILED_PRODUCTS):
        result = products(log_rho, valid, same_episode_t=same)
        np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("ratio", [1.1, 0.9])
def test_a_product_of_a_thousand_ratios_neither_overflows_nor_vanishes(ratio):
    log_products = ops.product_of_ratios(jnp.full(1000, np.log(ratio), jnp.float32))
    np.testing.assert_allclose(log_products[-1], 1000 * np.log(ratio), rtol=1e-4)


def test_a_new_episode_starts_a_new_product():
    log_products = ops.product_of_ratios(jnp.ones(4), same_episode_t=jnp.array([True, False, True, True]))
    np.testing.assert_array_equal(log_products, [1.0, 2.0, 1.0, 2.0])


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_what_stands_in_padding_changes_neither_products_nor_gradients(garbage):
    valid = jnp.array([True, True, False, False])
    log_rho = jnp.array([0.5, -1.0, garbage, garbage])
    value, pull = jax.vjp(lambda x: ops.product_of_ratios(x, valid), log_rho)
    np.testing.assert_allclose(value, [0.5, -0.5, -0.5, -0.5])
    np.testing.assert_array_equal(pull(jnp.ones(4))[0], [4.0, 3.0, 0.0, 0.0])


def test_the_gradient_of_a_log_product_counts_the_rows_it_enters():
    same = jnp.array([True, False, True, True])
    gradient = jax.grad(lambda x: jnp.sum(ops.product_of_ratios(x, same_episode_t=same)))(jnp.zeros(4))
    np.testing.assert_array_equal(gradient, [2.0, 1.0, 2.0, 1.0])


def test_products_of_bfloat16_are_summed_in_float32():
    log_rho = jnp.full(1000, 0.01, jnp.bfloat16)
    log_products = ops.product_of_ratios(log_rho)
    assert log_products.dtype == jnp.float32
    np.testing.assert_allclose(log_products[-1], 1000 * float(log_rho[0]), rtol=1e-5)


def test_vmap_of_products_equals_a_loop():
    rng = np.random.default_rng(0)
    log_rho, same = rng.normal(size=(3, 4, 2)).astype(np.float32), rng.random((3, 4, 2)) < 0.5
    products = lambda x, s: ops.product_of_ratios(x, same_episode_t=s)  # noqa: E731
    looped = [products(x, s) for x, s in zip(log_rho, same, strict=True)]
    np.testing.assert_allclose(jax.vmap(products)(log_rho, same), looped, rtol=1e-6)


@pytest.mark.parametrize("varies", [v for v in itertools.product([False, True], repeat=3) if any(v)])
def test_shard_map_takes_products_with_its_default_checks_whichever_inputs_vary(varies):
    mesh = jax.make_mesh((8,), ("env",), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(1)
    log_rho, valid, same = (rng.normal(size=(5, 8 if v else 1)).astype(np.float32) for v in varies)
    arrays = [log_rho, valid > 0, same > 0]
    specs = tuple(P(None, "env") if v else P() for v in varies)
    products = lambda x, v, s: ops.product_of_ratios(x, v, same_episode_t=s)  # noqa: E731
    sharded = jax.jit(jax.shard_map(products, mesh=mesh, in_specs=specs, out_specs=P(None, "env")))(*arrays)
    expected = products(*(np.broadcast_to(x, (5, 8)) for x in arrays))
    np.testing.assert_allclose(sharded, expected, rtol=1e-5)


def test_shard_map_takes_products_of_whole_rows():
    mesh = jax.make_mesh((8,), ("env",), axis_types=(AxisType.Auto,))
    log_rho = np.random.default_rng(2).normal(size=(5, 8)).astype(np.float32)
    specs = P(None, "env")
    sharded = jax.jit(jax.shard_map(ops.product_of_ratios, mesh=mesh, in_specs=specs, out_specs=specs))(log_rho)
    np.testing.assert_allclose(sharded, np.cumsum(log_rho, axis=0), rtol=1e-5, atol=1e-6)


def test_products_refuse_flags_that_are_not_boolean():
    with pytest.raises(TypeError, match="is_valid_t must be boolean, but its dtype is float32"):
        ops.product_of_ratios(jnp.zeros(3), jnp.ones(3))
    with pytest.raises(TypeError, match="same_episode_t must be boolean, but its dtype is int32"):
        ops.product_of_ratios(jnp.zeros(3), same_episode_t=jnp.ones(3, jnp.int32))


def test_products_name_shapes_that_differ():
    with pytest.raises(ValueError, match=r"log_rho_tm1 \[3\], same_episode_t \[2\]"):
        ops.product_of_ratios(jnp.zeros(3), same_episode_t=jnp.ones(2, bool))
    with pytest.raises(ValueError, match=r"log_rho_tm1 \[3\], is_valid_t \[2\]"):
        ops.product_of_ratios(jnp.zeros(3), jnp.ones(2, bool))


# ratio_levels


@pytest.mark.parametrize("level", ["step", "sequence", "geometric"])
@hypothesis.given(data=st.data())
@SETTINGS
def test_levels_are_the_ratio_the_product_and_the_geometric_mean(x64, level, data):
    shape = data.draw(SHAPES)
    log_rho, valid = data.draw(floats(shape)), data.draw(st.one_of(st.none(), flags(shape)))
    inside = np.ones(shape, bool) if valid is None else valid
    rho = np.exp(log_rho)
    product = np.prod(np.where(inside, rho, 1.0), axis=0)
    expected = {
        "step": rho,
        "sequence": np.broadcast_to(product, shape),
        "geometric": np.broadcast_to(product ** (1 / np.maximum(inside.sum(axis=0), 1)), shape),
    }[level]
    log_level = ops.ratio_levels(log_rho, valid, level=level)
    np.testing.assert_allclose(np.exp(log_level), np.where(inside, expected, 1.0), rtol=1e-9)


def test_levels_tell_a_sum_of_logarithms_from_a_sum_of_ratios():
    log_rho = jnp.log(jnp.array([2.0, 8.0]))
    np.testing.assert_allclose(jnp.exp(ops.ratio_levels(log_rho, level="sequence")), [16.0, 16.0], rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(ops.ratio_levels(log_rho, level="geometric")), [4.0, 4.0], rtol=1e-5)


@pytest.mark.parametrize("level", ["step", "sequence", "geometric"])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_padding_enters_no_level_and_gets_no_gradient(level, garbage):
    valid = jnp.array([True, True, False])
    value, pull = jax.vjp(lambda x: ops.ratio_levels(x, valid, level=level), jnp.array([0.5, -1.5, garbage]))
    np.testing.assert_allclose(
        value, {"step": [0.5, -1.5, 0], "sequence": [-1, -1, 0], "geometric": [-0.5, -0.5, 0]}[level]
    )
    np.testing.assert_allclose(pull(jnp.ones(3))[0], [2.0, 2.0, 0.0] if level == "sequence" else [1.0, 1.0, 0.0])


@pytest.mark.parametrize("level", ["sequence", "geometric"])
def test_one_action_that_pi_excludes_takes_the_whole_sequence_and_no_gradient_is_nan(level):
    log_rho = jnp.array([[0.5, 0.5], [-jnp.inf, 1.0]])
    ratio = lambda x: ops.clipped_ratio(ops.ratio_levels(x, level=level), jnp.inf)  # noqa: E731
    value, pull = jax.vjp(ratio, log_rho)
    np.testing.assert_array_equal(value[:, 0], [0.0, 0.0])
    assert np.all(value[:, 1] > 1.0)
    np.testing.assert_array_equal(pull(jnp.ones((2, 2)))[0][:, 0], [0.0, 0.0])


def test_levels_of_bfloat16_are_summed_in_float32():
    log_rho = jnp.full(1000, 0.01, jnp.bfloat16)
    log_level = ops.ratio_levels(log_rho, level="sequence")
    assert log_level.dtype == jnp.float32
    np.testing.assert_allclose(log_level, np.full(1000, 1000 * float(log_rho[0])), rtol=1e-5)


def test_a_level_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="level must be one of step, sequence, geometric, but it is 'token'"):
        ops.ratio_levels(jnp.zeros(3), level="token")
    with pytest.raises(ValueError, match=r"log_rho_tm1 \[3\], is_valid_t \[2\]"):
        ops.ratio_levels(jnp.zeros(3), jnp.ones(2, bool), level="step")


# endings


def test_only_a_termination_zeroes_the_discount_and_either_ending_ends_the_episode():
    terminated = jnp.array([False, True, False, True])
    truncated = jnp.array([False, False, True, True])
    discount_t, same_episode_t = ops.endings(terminated, truncated, 0.9)
    np.testing.assert_allclose(discount_t, [0.9, 0.0, 0.9, 0.0])
    np.testing.assert_array_equal(same_episode_t, [True, False, False, False])


def test_the_discount_of_endings_may_be_traced():
    no = jnp.zeros((3, 2), bool)
    discounts = jax.vmap(lambda gamma: ops.endings(no, no, gamma)[0])(jnp.array([0.9, 0.99]))
    np.testing.assert_allclose(discounts, np.broadcast_to([[[0.9]], [[0.99]]], (2, 3, 2)), rtol=1e-6)


def test_endings_refuse_flags_that_are_not_boolean():
    with pytest.raises(TypeError, match="truncated_t must be boolean"):
        ops.endings(jnp.zeros(2, bool), jnp.zeros(2), 0.9)


def test_endings_refuse_a_discount_above_one():
    with pytest.raises(ValueError, match=r"discount must lie in \[0, 1\], but it is 1.5"):
        ops.endings(jnp.zeros(2, bool), jnp.zeros(2, bool), 1.5)
