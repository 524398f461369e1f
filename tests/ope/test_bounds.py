"""Lower bounds hold as often as they promise, are numbers worked by hand, and refuse what they are not for."""

import jax
import numpy as np
import pytest

from isjax import ope
from isjax.ope import bounds

UNIT = {"low": 0.0, "high": 1.0}
KINDS = {
    "truncated": lambda w, g, **k: ope.truncated_lower_bound(w, g, low=0.0, **k),
    "self-normalized": lambda w, g, **k: ope.self_normalized_lower_bound(w, g, **UNIT, **k),
    "empirical likelihood": lambda w, g, **k: ope.empirical_likelihood_lower_bound(w, g, low=0.0, **k),
    "confidence sequence": lambda w, g, **k: ope.lower_confidence_sequence(w, g, **UNIT, **k)[-1],
}
EACH = pytest.mark.parametrize("kind", KINDS)


def bandit(rng, n, mu=(0.7, 0.3), pi=(0.2, 0.8), q=(0.3, 0.6)):
    """Log-weights and rewards; the target is worth .54."""
    action = rng.choice(2, n, p=mu)
    return np.log(np.array(pi) / mu)[action], 1.0 * (rng.random(n) < np.array(q)[action])


@EACH
def test_a_bound_of_80_percent_holds_in_at_least_so_many_logs(kind):
    """Of 60 logs at least 40: with a chance of .8 each, fewer hold once in 150."""
    rng = np.random.default_rng(1)
    held = [KINDS[kind](*bandit(rng, 80), level=0.8) <= 0.54 for _ in range(60)]
    assert sum(held) >= 40


@EACH
def test_bounds_come_closer_with_episodes_and_fall_with_the_level(kind):
    log_weight, reward = bandit(np.random.default_rng(0), 5000)
    mean = {n: np.mean(np.exp(log_weight[:n]) * reward[:n]) for n in (300, 5000)}
    few, many = (mean[n] - KINDS[kind](log_weight[:n], reward[:n]) for n in mean)
    assert few > many > 0.0
    levels = [KINDS[kind](log_weight, reward, level=level) for level in (0.999, 0.95, 0.7)]
    assert levels == sorted(levels)
    assert levels[0] < levels[2]


def test_the_truncated_bound_is_the_formula_at_the_threshold_chosen():
    """Theorem 1 of Thomas et al. 2015 in plain sums, the threshold searched over the same grid."""
    log_weight, reward = bandit(np.random.default_rng(3), 400)
    x = np.exp(log_weight) * reward
    tuning, rest = x[::20], np.delete(x, np.arange(0, 400, 20))
    n, log_inverse = len(rest), np.log(2 / 0.05)

    def bound(y, c):
        y = np.minimum(y, c)
        pairs = sum((a - b) ** 2 for a in y for b in y) * (n / len(y)) ** 2 * (len(y) / (len(y) - 1)) * (n - 1) / n
        return y.mean() - 7 * c * log_inverse / (3 * (n - 1)) - np.sqrt(log_inverse / (n - 1) * pairs) / n

    grid = np.geomspace(x[x > 0].min(), x.max(), 200)
    best = max(grid, key=lambda c: bound(tuning, c))
    np.testing.assert_allclose(ope.truncated_lower_bound(log_weight, reward, low=0.0), bound(rest, best), rtol=1e-9)


def test_the_truncated_bound_holds_for_weights_of_infinite_variance():
    rng = np.random.default_rng(0)
    log_weight = np.log(0.5 * (rng.pareto(1.5, 5000) + 1.0) / 1.5)  # The mean is 1.
    assert 0.2 < ope.truncated_lower_bound(log_weight, np.ones(5000), low=0.0) < 1.0


def test_empirical_likelihood_is_wilks_at_the_bound():
    """Weights 0 and 2 in equal numbers, rewards of 0 and 1: with the mean weight given, a binomial of the rewards."""
    weight = np.repeat([0.0, 2.0], 100)
    reward = np.concatenate([np.zeros(100), np.ones(60), np.zeros(40)])
    with np.errstate(divide="ignore"):
        bound = ope.empirical_likelihood_lower_bound(np.log(weight), reward, low=0.0, level=0.95)
    log_ratio = 60 * np.log(bound / 0.6) + 40 * np.log((1 - bound) / 0.4)
    np.testing.assert_allclose(-2.0 * log_ratio, 1.6448536**2, rtol=1e-4)


def test_empirical_likelihood_knows_nothing_where_weights_never_average_to_one():
    assert ope.empirical_likelihood_lower_bound(np.full(50, -1.0), np.ones(50), low=0.25) == 0.25


def test_a_confidence_sequence_never_falls_and_holds_at_all_times_at_once():
    rng = np.random.default_rng(2)
    ever = 0
    for _ in range(40):
        found = ope.lower_confidence_sequence(*bandit(rng, 400), **UNIT, level=0.8)
        assert np.all(np.diff(found) >= 0)
        ever += found[-1] > 0.54  # The last is the largest.
    assert ever <= 16  # Each with a chance of at most .2: 16 or more once in 1,000.


def test_a_confidence_sequence_in_parts_is_that_of_one(monkeypatch):
    log_weight, reward = bandit(np.random.default_rng(0), 500)
    whole = ope.lower_confidence_sequence(log_weight, reward, **UNIT)
    monkeypatch.setattr(bounds, "ROWS_AT_ONCE", 64)
    np.testing.assert_array_equal(ope.lower_confidence_sequence(log_weight, reward, **UNIT), whole)


def test_bounds_move_and_stretch_with_the_returns():
    log_weight, reward = bandit(np.random.default_rng(0), 2000)
    for kind in (ope.self_normalized_lower_bound, ope.lower_confidence_sequence):
        base = np.max(kind(log_weight, reward, **UNIT))
        moved = np.max(kind(log_weight, 5.0 * reward - 7.0, low=-7.0, high=-2.0))
        np.testing.assert_allclose(moved, 5.0 * base - 7.0, rtol=1e-9)


def test_student_and_the_bootstrap_are_the_lower_ends_of_intervals():
    log_weight, reward = (np.float32(x)[None] for x in bandit(np.random.default_rng(0), 200))
    estimate = ope.weighted_is(log_weight, reward, 1.0)
    assert ope.student_lower_bound(estimate, level=0.95) == ope.student_interval(estimate, level=0.9).low
    key, arrays = jax.random.key(0), (ope.weighted_is, log_weight, reward, 1.0)
    options = {"resamples": 20, "method": "percentile"}
    bound = ope.bootstrap_lower_bound(key, *arrays, level=0.95, **options)
    np.testing.assert_allclose(bound, ope.bootstrap_interval(key, *arrays, level=0.9, **options).low, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"returns": np.full(50, 1.5)}, r"returns must lie in \[0.0, 1.0\], but one is 1.5"),
        ({"returns": np.ones(49)}, r"must both be \[N\] with N ≥ 2, but got: log_weight \[50\], returns \[49\]"),
        ({"log_weight": np.full(50, np.nan)}, "log_weight must hold finite numbers"),
        ({"low": 1.0}, "low must be below high, but they are 1.0 and 1.0"),
        ({"level": 1.0}, r"level must lie in \(0, 1\), but it is 1.0"),
    ],
)
def test_what_bounds_are_not_for_is_refused(change, message):
    given = {"log_weight": np.zeros(50), "returns": np.ones(50), **UNIT} | change
    with pytest.raises(ValueError, match=message):
        ope.self_normalized_lower_bound(given.pop("log_weight"), given.pop("returns"), **given)


def test_one_sided_levels_are_above_one_half():
    with pytest.raises(ValueError, match=r"level must lie in \(0.5, 1\), but it is 0.3"):
        ope.student_lower_bound(None, level=0.3)
    with pytest.raises(ValueError, match="with N ≥ 40"):
        ope.truncated_lower_bound(np.zeros(20), np.ones(20), low=0.0)
