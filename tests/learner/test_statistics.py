import jax.numpy as jnp
import numpy as np

from isjax.learner.statistics import Moments, discounted_past


def test_moments_merged_in_batches_are_those_of_all_the_data():
    data = np.random.default_rng(0).normal(3.0, 2.0, (60, 4)).astype(np.float32)
    moments = Moments.start((4,))
    for batch in (data[:10], data[10:40].reshape(5, 6, 4), data[40:]):
        moments = moments.merged(jnp.asarray(batch))
    np.testing.assert_allclose(moments.size, 60)
    np.testing.assert_allclose(moments.mean, data.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.variance, data.var(0), rtol=1e-4)
    np.testing.assert_allclose(moments.standardize(jnp.asarray(data)).mean(0), 0.0, atol=1e-5)


def test_scaling_keeps_zero_and_sign_and_ignores_the_mean():
    moments = Moments(jnp.float32(10), jnp.float32(5.0), jnp.float32(4.0))
    np.testing.assert_allclose(moments.scale(jnp.array([-1.0, 0.0, 1.0])), [-0.5, 0.0, 0.5], rtol=1e-6)


def test_discounted_past_starts_anew_after_an_episode():
    r = jnp.array([[1.0], [2.0], [4.0]])
    same = jnp.array([[True], [False], [True]])
    after, rows = discounted_past(jnp.array([10.0]), r, same, jnp.float32(0.5))
    np.testing.assert_allclose(rows[:, 0], [1 + 5, 2 + 3, 4])
    np.testing.assert_allclose(after, [4.0])
