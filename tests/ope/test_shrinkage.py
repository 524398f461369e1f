"""Shrunk weights, fewer ratios, and the choice among them: against loops, and what they become at their ends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ope, ops
from tests import oracles_ope as oracle

FORMULAS = {
    "clip": lambda w, x: min(w, x),
    "switch": lambda w, x: w if w <= x else 0.0,
    "optimistic": lambda w, x: x * w / (w**2 + x),
    "subgaussian": lambda w, x: w / (1 - x + x * w),
}
PARAMETERS = {"clip": 1.5, "switch": 1.5, "optimistic": 2.0, "subgaussian": 0.3}
NOTHING = {"clip": np.inf, "switch": np.inf, "optimistic": np.inf, "subgaussian": 0.0}
KINDS = pytest.mark.parametrize("kind", FORMULAS)


@functools.partial(jax.jit, static_argnames=("name", "kind", "parameter", "window"))
def estimated(name, log_rho, r, is_valid=None, v=None, q=None, **options):
    model = {} if v is None else {"v_tm1": v, "q_tm1": q}
    return getattr(ope, name)(log_rho, r, 0.9, is_valid, **model, **options)


@KINDS
def test_weights_are_those_of_the_formulas_and_finite_at_the_extremes(kind, x64):
    w = np.array([0.0, 1e-6, 0.5, 1.0, 1.4, 2.0, 1e6])
    with np.errstate(divide="ignore"):
        found = jnp.exp(ope.shrunk_weights(jnp.log(w), kind=kind, parameter=PARAMETERS[kind]))
    np.testing.assert_allclose(found, [FORMULAS[kind](x, PARAMETERS[kind]) for x in w], rtol=1e-10)
    extreme = jnp.array([-jnp.inf, -1e5, 1e5])
    slope = jax.jacobian(lambda x: jnp.exp(ope.shrunk_weights(x, kind=kind, parameter=PARAMETERS[kind])))(extreme)
    assert np.isfinite(slope).all()


@KINDS
def test_without_shrinkage_weights_stay(kind, x64):
    log_w = jnp.array([-2.0, 0.0, 3.0, -jnp.inf])
    found = ope.shrunk_weights(log_w, kind=kind, parameter=NOTHING[kind])
    np.testing.assert_allclose(found, log_w, rtol=1e-12)


def by_definition(episodes, shrink):
    """`(1/N) Σ γ^t (f(ρ_{0:t}) (r − q) + f(ρ_{0:t−1}) v)`; the first weight is 1."""
    total = 0.0
    for e in episodes:
        for t in range(len(e[1])):
            before = shrink(oracle.ratio(e, t - 1)) if t else 1.0
            total += 0.9**t * (shrink(oracle.ratio(e, t)) * (e[1][t] - e[3][t]) + before * e[2][t])
    return total / len(episodes)


@KINDS
@pytest.mark.parametrize("has_model", [False, True])
def test_estimates_are_those_of_the_definition_whatever_the_padding_holds(kind, has_model, x64):
    episodes = oracle.random_episodes(0)
    if not has_model:
        episodes = [(*e[:2], 0.0 * e[2], 0.0 * e[3]) for e in episodes]
    log_rho, r, v, q, is_valid = oracle.pad(episodes, 6)
    model = (v, q) if has_model else ()
    found = estimated("shrunk_is", log_rho, r, is_valid, *model, kind=kind, parameter=PARAMETERS[kind])
    expected = by_definition(episodes, lambda w: FORMULAS[kind](w, PARAMETERS[kind]))
    np.testing.assert_allclose(found.value, expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(jnp.mean(found.per_episode), found.value, rtol=1e-10)


def test_pareto_smoothing_replaces_the_largest_weights_of_each_step(x64):
    log_rho = 2.0 * np.random.default_rng(0).normal(size=(1, 200))
    found = estimated("shrunk_is", log_rho, np.ones((1, 200)), kind="pareto")
    smoothed = np.exp(np.asarray(ops.pareto_smoothed(log_rho[0]).log_weights) + log_rho.max())
    np.testing.assert_allclose(found.per_episode, smoothed, rtol=1e-10)
    assert not np.allclose(smoothed, np.exp(log_rho[0]))


def first_that_does_not_meet(values, widths):
    chosen = 0
    for i in range(len(values)):
        if any(abs(values[i] - values[j]) > widths[i] + (6**0.5 - 1) * widths[j] for j in range(i)):
            break
        chosen = i
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_slope_takes_the_last_estimate_that_meets_all_before_it(seed):
    rng = np.random.default_rng(seed)
    values, widths = np.cumsum(rng.exponential(size=8)), np.sort(rng.exponential(2.0, size=8))[::-1]
    found = ope.slope_choice(jnp.asarray(values), jnp.asarray(widths))
    assert found == first_that_does_not_meet(values, widths)


def test_slope_by_hand_and_at_its_ends():
    assert ope.slope_choice(jnp.array([0.0, 9.0, 0.0]), jnp.array([1.0, 0.5, 0.1])) == 0
    assert ope.slope_choice(jnp.array([0.0, 0.1, 0.2]), jnp.array([1.0, 0.5, 0.1])) == 2
    assert ope.slope_choice(jnp.array([0.0, 1e9]), jnp.array([jnp.inf, 1.0])) == 1


def heavy(rng, count):
    """One step: rewards are 1, and weights of mean 1 have a heavy tail."""
    return np.log(rng.pareto(1.3, size=(1, count)) * 0.3 + 1e-9), np.ones((1, count))


@pytest.mark.parametrize("kind", ["optimistic", "clip"])
def test_a_parameter_chosen_by_slope_beats_none_where_weights_have_heavy_tails(kind):
    logs = [heavy(np.random.default_rng(seed), 200) for seed in range(60)]
    log_rho, r = (np.stack(x) for x in zip(*logs, strict=True))
    chosen = jax.jit(jax.vmap(lambda *x: ope.slope_is(*x, 1.0, kind=kind).value))(log_rho, r)
    plain = np.exp(log_rho).mean((1, 2))
    assert np.mean((chosen - 1.0) ** 2) < 0.7 * np.mean((plain - 1.0) ** 2)


@pytest.mark.parametrize("window", [1, 2, 6])
def test_windows_take_the_last_ratios_alone(window, x64):
    episodes = oracle.random_episodes(3)
    log_rho, r, _, _, is_valid = oracle.pad(episodes, 6)
    found = estimated("windowed_is", log_rho, r, is_valid, window=window)
    terms = [
        0.9**t * np.exp(np.sum(e[0][max(t - window + 1, 0) : t + 1])) * e[1][t]
        for e in episodes
        for t in range(len(e[1]))
    ]
    np.testing.assert_allclose(found.value, np.sum(terms) / len(episodes), rtol=1e-10)
    if window == 6:
        np.testing.assert_allclose(found.value, oracle.per_decision_is(episodes, 0.9), rtol=1e-10)


def test_an_impossible_action_leaves_the_window_with_time():
    log_rho = jnp.array([[-jnp.inf], [0.0], [0.0]])
    found = [float(ope.windowed_is(log_rho, jnp.ones((3, 1)), 1.0, window=h).value) for h in (1, 2, 3)]
    assert found == [2.0, 1.0, 0.0]


def test_incremental_weights_minimize_the_estimated_error_of_each_reward(x64):
    rng = np.random.default_rng(0)
    log_rho, r = 0.7 * rng.normal(size=(4, 50)), rng.normal(size=(4, 50)) + 1.0
    expected = 0.0
    for t in range(4):
        errors = []
        for k in range(t + 1):
            dropped, kept = np.exp(log_rho[:k].sum(0)), np.exp(log_rho[k : t + 1].sum(0)) * r[t]
            bias = np.mean(dropped * kept) - np.mean(dropped) * np.mean(kept)
            errors.append((bias**2 + np.var(kept) / 49, np.mean(kept)))
        expected += 0.9**t * min(errors)[1]
    found = estimated("incremental_is", log_rho, r)
    np.testing.assert_allclose(found.value, expected, rtol=1e-10)


def test_incremental_weights_drop_ratios_that_do_not_matter():
    rng = np.random.default_rng(1)
    log_rho, r = 0.8 * rng.normal(size=(12, 500)) - 0.32, rng.normal(size=(12, 500))
    full, fewer = estimated("per_decision_is", log_rho, r), estimated("incremental_is", log_rho, r)
    assert fewer.standard_error < 0.9 * full.standard_error


def test_weights_are_normalized_within_each_length(x64):
    episodes = oracle.random_episodes(4, count=9, longest=3)
    log_rho, r, _, _, is_valid = oracle.pad(episodes, 4)
    expected = 0.0
    for length in {len(e[1]) for e in episodes}:
        those = [e for e in episodes if len(e[1]) == length]
        expected += len(those) / 9 * oracle.weighted_is(those, 0.9)
    found = estimated("per_horizon_weighted_is", log_rho, r, is_valid)
    np.testing.assert_allclose(found.value, expected, rtol=1e-10)
    np.testing.assert_allclose(jnp.mean(found.per_episode), found.value, rtol=1e-10)
    far = estimated("per_horizon_weighted_is", np.where(is_valid, log_rho + 500.0, 0.0), r, is_valid)
    np.testing.assert_allclose(far.value, expected, rtol=1e-8)


def test_a_horizon_is_chosen_from_per_decision_down_to_one_ratio_or_the_model(x64):
    rng = np.random.default_rng(2)
    log_rho = 1.2 * rng.normal(size=(8, 300)) - 0.72
    r = 0.1 * rng.normal(size=(8, 300)) + 1.0
    found = estimated("slope_horizon_is", log_rho, r)
    plain = estimated("per_decision_is", log_rho, r)
    true = np.sum(0.9 ** np.arange(8))
    assert found.standard_error < plain.standard_error
    assert abs(found.value - true) < abs(plain.value - true)
    v = np.broadcast_to(np.cumsum(0.9 ** np.arange(8))[::-1][:, None], r.shape)
    model = estimated("slope_horizon_is", log_rho, r, None, v, v)
    np.testing.assert_allclose(model.value, true, rtol=0.05)
    assert model.standard_error < 1e-10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ope.shrunk_is(x, x, 0.9, kind="less", parameter=1.0), "kind must be one of clip, .* 'less'"),
        (lambda x: ope.shrunk_is(x, x, 0.9), "parameter must be given for optimistic"),
        (lambda x: ope.shrunk_is(x, x, 0.9, kind="pareto", parameter=1.0), "parameter must be left out for pareto"),
        (lambda x: ope.shrunk_is(x, x, 0.9, kind="clip", parameter=0.0), "parameter must be greater than 0"),
        (lambda x: ope.shrunk_is(x, x, 0.9, kind="subgaussian", parameter=2.0), r"parameter must lie in \[0, 1\]"),
        (lambda x: ope.shrunk_is(x, x, 0.9, parameter=1.0, v_tm1=x), "v_tm1 and q_tm1 must be given together"),
        (lambda x: ope.slope_is(x, x, 0.9, parameters=()), "parameters must be at least one"),
        (lambda x: ope.slope_is(x, x, 0.9, level=2.0), r"level must lie in \(0, 1\)"),
        (lambda x: ope.windowed_is(x, x, 0.9, window=0), "window must be at least 1"),
        (lambda x: ope.slope_horizon_is(x, x, 0.9, q_tm1=x), "v_tm1 and q_tm1 must be given together"),
    ],
)
def test_wrong_options_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.zeros((2, 3)))
