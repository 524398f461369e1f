import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from isjax.environments.distributions import UNBOUNDED, Categorical, Gaussian


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


@pytest.mark.parametrize("actions", [2, 8, 18, 361, 10_000])
def test_an_excluded_action_is_never_drawn_at_any_edge_of_the_cumulative_distribution(actions):
    """A float32 cumulative sum is not monotone from some hundred actions on; 30 % of the actions are legal."""
    rng = np.random.default_rng(actions)
    rows = 64
    logits = rng.normal(size=(rows, actions)).astype(np.float32)
    logits[rng.random((rows, actions)) > 0.3] = -np.inf
    logits[np.arange(rows), rng.integers(actions, size=rows)] = 0.0
    cumulative = jnp.cumsum(jnp.exp(logits - logits.max(1, keepdims=True)), axis=1)
    edges = np.asarray(cumulative / cumulative[:, -1:])
    sample = jax.jit(Categorical(actions).sample)
    largest = np.float32(1.0 - 2.0**-24)
    for column in np.unique(np.linspace(0, actions - 1, 150).astype(int)):
        for noise in (edges[:, column], np.nextafter(edges[:, column], np.float32(0.0)), edges[:, column] * 0, None):
            noise = np.full(rows, largest) if noise is None else np.clip(noise, np.float32(0.0), largest)
            drawn = np.asarray(sample(logits, noise))
            assert np.isfinite(logits[np.arange(rows), drawn]).all()


def test_an_action_whose_probability_is_0_in_float32_is_never_drawn():
    logits = jnp.array([[-200.0, 0.0, -200.0, 0.0, -200.0]])
    noise = jnp.array([0.0, 0.25, 0.5, 0.75, 1.0 - 2.0**-24])
    drawn = Categorical(5).sample(jnp.broadcast_to(logits, (5, 5)), noise)
    np.testing.assert_array_equal(drawn, [1, 1, 3, 3, 3])


def test_draws_among_a_few_actions_are_those_of_the_inverse_cumulative_distribution():
    rng = np.random.default_rng(0)
    logits, noise = rng.normal(size=(2000, 6)).astype(np.float32), rng.random(2000, np.float32)
    p = np.exp(logits.astype(np.float64))
    cumulative = np.cumsum(p, 1) / p.sum(1, keepdims=True)
    expected = (cumulative <= noise[:, None]).sum(1)
    drawn = np.asarray(Categorical(6).sample(jnp.asarray(logits), jnp.asarray(noise)))
    assert (drawn == expected)[np.abs(cumulative - noise[:, None]).min(1) > 1e-6].all()


@pytest.mark.parametrize("excluded", [0, 3])
def test_a_policy_of_nan_still_draws_a_legal_action_and_its_log_probability_is_nan(excluded):
    logits = jnp.full((1, 4), jnp.nan).at[0, excluded].set(-jnp.inf)
    drawn = Categorical(4).sample(logits, jnp.array([0.5]))
    assert drawn[0] != excluded
    assert np.isnan(Categorical(4).log_prob(logits, drawn))[0]


def test_a_divergence_is_finite_where_an_action_has_no_probability_in_float32():
    logits = jnp.array([[0.0, 0.0, -200.0]])
    assert Categorical(3).kl(logits, jnp.array([[0.0, 0.0, -jnp.inf]]))[0] == 0.0


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


INF = np.inf
LARGE = float(np.finfo(np.float32).max)
BOXES = {
    "both": (-1.0, 2.0),
    "below": (0.5, INF),
    "above": (-INF, 0.5),
    "none": (-INF, INF),
    "float32": (-LARGE, LARGE),
    "below float32": (-1.0, LARGE),
}


@pytest.mark.parametrize("into", ["tanh", "clip"])
@pytest.mark.parametrize("box", BOXES)
def test_the_density_of_what_is_executed_is_that_of_its_bounds_and_adds_up_to_one(box, into):
    """Probabilities of short intervals by the Gaussian's cumulative distribution, over what they are executed to."""
    low, high = BOXES[box]
    distribution = Gaussian((1,), (low,), (high,), into)
    policy = jnp.array([0.3, -0.2])
    u = np.linspace(-9.0, 9.0, 4001, dtype=np.float32)[:, None]
    log_prob = np.asarray(distribution.log_prob(jnp.broadcast_to(policy, (len(u), 2)), jnp.asarray(u)), np.float64)
    executed = np.asarray(distribution.execute(jnp.asarray(u)), np.float64)[:, 0]
    assert ((executed >= low) & (executed <= high)).all()
    assert (np.diff(executed) >= -1e-6).all()
    inside = (executed > low) & (executed < high) if into == "clip" else np.ones(len(u), bool)
    mass = np.trapezoid(np.exp(log_prob[inside]), executed[inside])
    at_bounds = [np.exp(log_prob[executed == bound][:1]).sum() for bound in (low, high) if into == "clip"]
    assert mass + sum(at_bounds) == pytest.approx(1.0, abs=5e-3)
    middle = np.abs(u[:, 0]) < 3
    exact = stats.norm(0.3, np.exp(-0.2)).cdf
    step = 1e-3
    shifted = [np.asarray(distribution.execute(jnp.asarray(u + sign * step)), np.float64)[:, 0] for sign in (-1, 1)]
    density = (exact(u + step) - exact(u - step))[:, 0] / np.maximum(shifted[1] - shifted[0], 1e-12)
    near = middle & (inside if into == "tanh" else (shifted[0] > low) & (shifted[1] < high))
    np.testing.assert_allclose(np.exp(log_prob[near]), density[near], rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("into", ["tanh", "clip"])
def test_every_dimension_of_a_box_has_its_own_bounds(into):
    """One bounded, two half-open, one without bounds, one constant: the log-density is the sum of theirs."""
    low, high = (-1.0, 0.0, -INF, -LARGE, 0.5), (1.0, INF, 0.0, LARGE, 0.5)
    distribution = Gaussian((5,), low, high, into)
    rng = np.random.default_rng(0)
    policy = jnp.asarray(rng.normal(size=(200, 10)), jnp.float32)
    action = distribution.sample(policy, jnp.asarray(rng.normal(size=(200, 5)) * 3, jnp.float32))
    executed = distribution.execute(action)
    assert ((np.asarray(executed) >= np.float32(low)) & (np.asarray(executed) <= np.float32(high))).all()
    np.testing.assert_array_equal(executed[:, 4], 0.5)
    alone = sum(
        Gaussian((1,), low[i : i + 1], high[i : i + 1], into).log_prob(policy[:, i::5], action[:, i : i + 1])
        for i in range(4)
    )
    np.testing.assert_allclose(distribution.log_prob(policy, action), alone, rtol=1e-5, atol=1e-4)


def test_a_constant_dimension_counts_neither_in_probabilities_nor_in_entropy_and_divergence():
    constant, free = Gaussian((2,), (-1.0, 3.0), (1.0, 3.0)), Gaussian((1,), (-1.0,), (1.0,))
    policy, other = jnp.array([0.3, 5.0, -0.2, 2.0]), jnp.array([-0.3, -7.0, 0.2, 1.0])
    action = jnp.array([0.4, 1.0])
    mine = jnp.array([0, 2])
    np.testing.assert_allclose(constant.log_prob(policy, action), free.log_prob(policy[mine], action[:1]), rtol=1e-6)
    np.testing.assert_allclose(constant.entropy(policy), free.entropy(policy[mine]), rtol=1e-6)
    np.testing.assert_allclose(constant.kl(policy, other), free.kl(policy[mine], other[mine]), rtol=1e-6)
    gradient = jax.grad(lambda policy: constant.log_prob(policy, action))(policy)
    np.testing.assert_array_equal(gradient[jnp.array([1, 3])], 0.0)


@pytest.mark.parametrize("into", ["tanh", "clip"])
@pytest.mark.parametrize(("low", "high"), [*BOXES.values(), (2.0, 2.0), (-1e18, 1e18), (0.0, 1e-44), (1e10, INF)])
def test_log_densities_and_their_gradients_are_finite_at_the_extremes(low, high, into):
    distribution = Gaussian((1,), (low,), (high,), into)
    policy = jnp.array([[0.0, 0.0], [30.0, -20.0], [-30.0, 9.0], [1e4, 0.0], [-1e4, -10.0]])[:, None]
    u = policy[..., :1] + jnp.array([-60.0, -1.0, 0.0, 1.0, 60.0])[None, :, None] * jnp.exp(
        jnp.clip(policy[..., 1:], -10, 4)
    )
    rows = jnp.broadcast_to(policy, (5, 5, 2))
    value, gradient = jax.value_and_grad(lambda rows: jnp.sum(distribution.log_prob(rows, u)))(rows)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    executed = np.asarray(distribution.execute(u))
    assert ((executed >= np.float32(low)) & (executed <= np.float32(high))).all()


@pytest.mark.parametrize(("low", "high"), [(1.0, -1.0), (np.nan, 1.0), (0.0, np.nan), (INF, INF), (-INF, -INF)])
def test_bounds_that_hold_no_number_are_refused(low, high):
    with pytest.raises(ValueError, match="low ≤ high, but in dimension 1 of 2 they are"):
        Gaussian((2,), (0.0, low), (1.0, high))


def test_a_box_is_bounded_only_where_all_its_dimensions_are():
    assert Gaussian((2,), (-1.0, 3.0), (1.0, 3.0)).is_bounded
    assert not Gaussian((2,), (-1.0, 0.0), (1.0, 2 * UNBOUNDED)).is_bounded
    assert not Gaussian((2,), None, None).is_bounded
