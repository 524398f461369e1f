import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.learner.statistics import Moments, RewardScale, discounted_past, inverse, power_of_two


def test_moments_merged_in_batches_are_those_of_all_the_data():
    data = np.random.default_rng(0).normal(3.0, 2.0, (60, 4)).astype(np.float32)
    moments = Moments.start((4,))
    for batch in (data[:20], data[20:40].reshape(5, 4, 4), data[40:]):
        moments = moments.merged(jnp.asarray(batch))
    assert moments.batches == 3
    np.testing.assert_allclose(moments.mean, data.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.deviation, data.std(0), rtol=1e-4)
    np.testing.assert_allclose(moments.standardize(jnp.asarray(data)).mean(0), 0.0, atol=1e-5)


@pytest.mark.parametrize("unit", [1e-30, 1e-6, 1.0, 1e20, 5e37])
def test_moments_do_not_depend_on_the_unit_of_measurement(unit):
    data = np.random.default_rng(1).normal(1.0, 2.0, (3, 20, 2))
    moments, merged = Moments.start((2,)), jax.jit(Moments.merged)
    for batch in data:
        moments = merged(moments, jnp.asarray(batch * unit, jnp.float32))
    flat = data.reshape(-1, 2)
    np.testing.assert_allclose(np.float64(moments.mean) / unit, flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(np.float64(moments.deviation) / unit, flat.std(0), rtol=1e-5)
    expected = np.clip((flat - flat.mean(0)) / flat.std(0), -10, 10)
    standardize = jax.jit(Moments.standardize)
    np.testing.assert_allclose(standardize(moments, jnp.asarray(flat * unit, jnp.float32)), expected, atol=1e-4)


def test_what_never_varies_is_zero_and_what_is_new_is_clipped():
    moments = Moments.start((2,)).merged(jnp.broadcast_to(jnp.array([0.3, 0.0]), (80, 2)))
    np.testing.assert_allclose(
        moments.standardize(jnp.array([[0.3, 0.0], [0.4, -1e-20]])), [[0, 0], [10, -10]], atol=0.05
    )


def test_the_count_of_batches_never_stands_still():
    moments = Moments(jnp.int32(2**30), jnp.float32(0.0), jnp.float32(1.0)).merged(jnp.ones((4,)))
    assert moments.batches == 2**30 + 1
    assert np.isfinite(moments.deviation)


def test_scaling_keeps_zero_and_sign_and_ignores_the_mean():
    moments = Moments(jnp.int32(10), jnp.float32(5.0), jnp.float32(2.0))
    np.testing.assert_allclose(moments.scale(jnp.array([-1.0, 0.0, 1.0])), [-0.5, 0.0, 0.5], rtol=1e-6)


def _oracle(unrolls, same, discount):
    """The deviation of the discounted return over everything seen, in float64."""
    y, kept = np.zeros(unrolls.shape[2]), []
    for r_t, same_t in zip(unrolls.reshape(-1, unrolls.shape[2]), same.reshape(-1, unrolls.shape[2]), strict=True):
        y = r_t + discount * y
        kept.append(y)
        y = np.where(same_t, y, 0.0)
    return np.std(kept)


@pytest.mark.parametrize("unit", [1e-30, 1e-6, 1.0, 1e20, 3e37])
def test_rewards_are_scaled_alike_in_every_unit_that_float32_can_hold(unit):
    rng = np.random.default_rng(2)
    unrolls, same = rng.normal(0.3, 1.0, (4, 6, 3)), rng.random((4, 6, 3)) > 0.2
    scale, observed = RewardScale.start(3), jax.jit(RewardScale.observed)
    for r_t, same_t in zip(unrolls, same, strict=True):
        scale = observed(scale, jnp.asarray(r_t * unit, jnp.float32), jnp.asarray(same_t), jnp.float32(0.99))
    expected = unrolls[0] / _oracle(unrolls, same, 0.99)
    np.testing.assert_allclose(scale.scaled(jnp.asarray(unrolls[0] * unit, jnp.float32)), expected, rtol=1e-4)


@pytest.mark.parametrize("reward", [1e20, -1e38, 3.4e38])
def test_one_reward_beyond_all_others_leaves_a_finite_scale(reward):
    ordinary, outlier = jnp.ones((4, 2)), jnp.ones((4, 2)).at[1, 0].set(reward)
    same = jnp.ones((4, 2), bool)
    scale, observed = RewardScale.start(2), jax.jit(RewardScale.observed)
    for r_t in (ordinary, outlier, ordinary):
        scale = observed(scale, r_t, same, jnp.float32(0.99))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(scale))
    scaled = jax.jit(RewardScale.scaled)(scale, outlier)
    assert 1.0 < abs(scaled[1, 0]) <= 10.0
    assert np.sign(scaled[1, 0]) == np.sign(reward)
    assert (np.abs(scaled[0]) < 1e-15).all()


def test_rewards_that_were_always_zero_stay_zero():
    scale = RewardScale.start(2).observed(jnp.zeros((4, 2)), jnp.ones((4, 2), bool), jnp.float32(0.99))
    np.testing.assert_array_equal(scale.scaled(jnp.zeros((4, 2))), 0.0)
    compiled = jax.jit(lambda scale, r_t: (scale.observed(r_t, r_t == 0, 0.9), scale.scaled(r_t)))
    assert all(
        (np.asarray(x) == 0).all() for x in jax.tree.leaves(compiled(RewardScale.start(2), jnp.zeros((4, 2)))[1])
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(compiled(scale, jnp.zeros((4, 2)))))
    scale = scale.observed(jnp.zeros((4, 2)).at[0, 0].set(1e-20), jnp.ones((4, 2), bool), jnp.float32(0.0))
    np.testing.assert_allclose(scale.scaled(jnp.float32([1e-20])), 1 / np.std([0] * 15 + [1]), rtol=1e-5)


def test_powers_of_two_are_at_or_below():
    x = np.float32([1e-38, 1e-30, 0.1, 1.0, 1.999, 2.0, 1e20, 3.4e38])
    expected = np.clip(2.0 ** np.floor(np.log2(x)), 2.0**-126, 2.0**126)
    np.testing.assert_array_equal(power_of_two(jnp.asarray(x)), expected)
    np.testing.assert_array_equal(inverse(jnp.asarray(expected, jnp.float32)), 1 / expected)
    assert np.isnan(power_of_two(jnp.array([np.inf, np.nan]))).all()


def test_discounted_past_starts_anew_after_an_episode():
    r = jnp.array([[1.0], [2.0], [4.0]])
    same = jnp.array([[True], [False], [True]])
    after, rows = discounted_past(jnp.array([10.0]), r, same, jnp.float32(0.5))
    np.testing.assert_allclose(rows[:, 0], [1 + 5, 2 + 3, 4])
    np.testing.assert_allclose(after, [4.0])
