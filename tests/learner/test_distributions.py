import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from isjax.learner.distributions import Categorical, Gaussian


def test_categorical_samples_follow_the_probabilities():
    logits = jnp.array([0.3, -1.0, 2.0, 0.0])
    actions = Categorical(4)
    n = 20_000
    samples = actions.sample(jnp.broadcast_to(logits, (n, 4)), actions.noise(jax.random.key(0), (n,)))
    counts = np.bincount(np.asarray(samples), minlength=4)
    assert stats.chisquare(counts, n * np.asarray(jax.nn.softmax(logits), np.float64), sum_check=False).pvalue > 1e-3


@pytest.mark.parametrize("excluded", [0, 1, 2])
def test_an_excluded_action_is_never_sampled_and_its_entropy_is_finite(excluded):
    logits = jnp.zeros(3).at[excluded].set(-jnp.inf)
    noise = jnp.array([0.0, 0.25, 0.5, 0.75, np.nextafter(np.float32(1.0), np.float32(0.0))])
    samples = Categorical(3).sample(jnp.broadcast_to(logits, (5, 3)), noise)
    assert excluded not in np.asarray(samples)
    entropy, gradient = jax.value_and_grad(Categorical(3).entropy)(logits)
    np.testing.assert_allclose(entropy, np.log(2.0), rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_categorical_log_prob_entropy_and_mode_follow_their_definitions():
    logits = np.array([[0.3, -1.0, 2.0], [1.0, 1.5, 0.0]])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    actions = Categorical(3)
    np.testing.assert_allclose(
        actions.log_prob(jnp.asarray(logits), jnp.array([2, 0])), np.log(p[[0, 1], [2, 0]]), rtol=1e-5
    )
    np.testing.assert_allclose(actions.entropy(jnp.asarray(logits)), -(p * np.log(p)).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(actions.mode(jnp.asarray(logits)), [2, 1])


def _executed_density(distribution: Gaussian, policy: jax.Array, u: np.ndarray) -> np.ndarray:
    """Density of the executed action by the definition: how much probability falls on how short an interval."""
    mean, log_std = np.split(np.asarray(policy, np.float64), 2)
    cdf = stats.norm(mean, np.exp(log_std)).cdf
    low, high = distribution.low[0], distribution.high[0]
    executed = low + (high - low) * 0.5 * (np.tanh(u) + 1.0)
    h = 1e-5
    wider = low + (high - low) * 0.5 * (np.tanh(u + h) + 1.0)
    return np.log((cdf(u + h) - cdf(u)) / (wider - executed))


def test_squashed_log_prob_is_that_of_the_action_executed():
    distribution = Gaussian((1,), (-2.0,), (3.0,), into="tanh")
    policy = jnp.array([0.4, -0.3])
    u = np.linspace(-2.0, 2.0, 9)
    ours = distribution.log_prob(jnp.broadcast_to(policy, (9, 2)), jnp.asarray(u, jnp.float32)[:, None])
    np.testing.assert_allclose(ours, _executed_density(distribution, policy, u), rtol=1e-3, atol=1e-3)


def test_squashed_log_prob_is_finite_far_out():
    distribution = Gaussian((1,), (-2.0,), (3.0,), into="tanh")
    u = jnp.array([[-40.0], [40.0]])
    log_prob = distribution.log_prob(jnp.zeros((2, 2)), u)
    assert np.isfinite(log_prob).all()
    assert np.all(np.abs(distribution.execute(u)) <= 3.0)


def test_clipped_log_probs_are_masses_at_the_bounds_and_add_up_to_one():
    distribution = Gaussian((1,), (-1.0,), (0.5,), into="clip")
    policy = jnp.array([0.2, 0.1])
    inside = np.linspace(-1.0, 0.5, 4001)[1:-1]
    density = np.exp(
        distribution.log_prob(jnp.broadcast_to(policy, (len(inside), 2)), jnp.asarray(inside, jnp.float32)[:, None])
    )
    at_bounds = np.exp(distribution.log_prob(jnp.broadcast_to(policy, (2, 2)), jnp.array([[-7.0], [4.0]])))
    assert at_bounds.sum() + np.trapezoid(density, inside) == pytest.approx(1.0, abs=2e-3)
    np.testing.assert_array_equal(
        distribution.execute(jnp.array([[-7.0], [0.1], [4.0]]))[:, 0], np.float32([-1.0, 0.1, 0.5])
    )


def test_unbounded_gaussian_executes_what_it_sampled():
    distribution = Gaussian((2,), None, None)
    policy = jnp.array([[0.5, -0.5, 0.1, 0.2]])
    action = distribution.sample(policy, jnp.array([[1.0, -1.0]]))
    expected = stats.norm([0.5, -0.5], np.exp([0.1, 0.2])).logpdf(np.asarray(action)).sum()
    np.testing.assert_allclose(distribution.log_prob(policy, action)[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(distribution.execute(action), action)


def test_gaussian_entropy_is_that_before_bounds():
    policy = jnp.array([0.5, -0.5, 0.1, 0.2])
    expected = stats.norm(0, np.exp([0.1, 0.2])).entropy().sum()
    np.testing.assert_allclose(Gaussian((2,), (-1.0,) * 2, (1.0,) * 2).entropy(policy), expected, rtol=1e-6)
