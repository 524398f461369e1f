"""The estimators against their definitions, exhaustive enumeration, and each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isjax import ope
from isjax.ope.precision import in_float64
from tests import oracles_ope as oracle

PLAIN = ("ordinary_is", "truncated_is", "per_decision_is", "discounting_aware_is")
WEIGHTED = (
    "weighted_is",
    "weighted_per_decision_is",
    "weighted_per_decision_is_ratio_form",
    "weighted_discounting_aware_is",
)
MODEL = ("doubly_robust", "weighted_doubly_robust", "magic")
FINITE = (*WEIGHTED, "weighted_doubly_robust", "magic")
ALL = PLAIN + WEIGHTED + MODEL
UNBIASED = ("ordinary_is", "per_decision_is", "discounting_aware_is", "doubly_robust")
DISCOUNTS = (0.0, 0.6, 1.0)


def call(name, log_rho, r, discount, is_valid=None, v=None, q=None):
    model = {} if name not in MODEL else {"v_tm1": jnp.zeros_like(r) if v is None else v}
    if model:
        model["q_tm1"] = jnp.zeros_like(r) if q is None else q
    return getattr(ope, name)(log_rho, r, discount, is_valid, **model)


compiled = functools.partial(jax.jit, static_argnums=0)(call)


@functools.partial(jax.jit, static_argnums=0)
def gradients(name, floats, discount, is_valid):
    """Of the value, with respect to log-ratios, rewards and model values; and the estimate."""

    def value(floats):
        log_rho, r, v, q = floats
        estimate = call(name, log_rho, r, discount, is_valid, v, q)
        return estimate.value, estimate

    return jax.grad(value, has_aux=True)(floats)


def case(seed, **options):
    """`(log_rho, r, v, q, is_valid)`, `[7, 6]` with NaN for padding, and the episodes: one shape compiles once."""
    episodes = oracle.random_episodes(seed, **options)
    return *oracle.pad(episodes, 7), episodes


@pytest.mark.parametrize("name", [name for name in ALL if name != "magic"])
@given(seed=st.integers(0, 2**32 - 1), discount=st.sampled_from(DISCOUNTS))
@settings(max_examples=25, deadline=None)
def test_value_is_that_of_the_definition_whatever_the_padding_holds(name, seed, discount):
    log_rho, r, v, q, is_valid, episodes = case(seed)
    with jax.enable_x64(True):
        estimate = compiled(name, log_rho, r, discount, is_valid, v, q)
        np.testing.assert_allclose(estimate.value, getattr(oracle, name)(episodes, discount), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(jnp.mean(estimate.per_episode), estimate.value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", UNBIASED)
@pytest.mark.parametrize("discount", DISCOUNTS)
def test_mean_over_all_trajectories_of_a_small_process_is_the_value(name, discount, x64):
    process = oracle.Mdp.random(1, gamma=discount)
    rng = np.random.default_rng(0)
    model = rng.normal(size=(4, 3)), rng.normal(size=(4, 3, 2))
    # A control variate has to be the expectation of the other.
    model = np.sum(process.pi * model[1], -1), model[1]
    trajectories = process.trajectories()
    log_rho, r, v, q, is_valid = oracle.pad([process.episode(*rest, model) for _, *rest in trajectories], 3)
    per_episode = compiled(name, log_rho, r, discount, is_valid, v, q).per_episode
    probability = np.array([p for p, *_ in trajectories])
    assert np.sum(probability) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(probability @ per_episode, process.values(3)[0][0], rtol=1e-10)


@pytest.mark.parametrize("name", ["doubly_robust", "weighted_doubly_robust", "magic"])
def test_an_exact_model_of_a_deterministic_process_leaves_no_variance(name, x64):
    process = oracle.Mdp.random(2)
    process = process._replace(transition=np.eye(3)[np.array([[1, 0], [2, 0], [2, 2]])])
    model = tuple(np.array(x) for x in zip(*(process.values(k) for k in range(4)), strict=True))
    episodes = [process.episode(*rest, model) for _, *rest in process.trajectories()]
    log_rho, r, v, q, is_valid = oracle.pad(episodes, 3)
    estimate = compiled(name, log_rho, r, 0.9, is_valid, v, q)
    np.testing.assert_allclose(estimate.value, process.values(3)[0][0], rtol=1e-12)
    np.testing.assert_allclose(estimate.standard_error, 0.0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in ALL if "ratio_form" not in name])
def test_without_a_difference_of_policies_it_is_the_mean_return(name, x64):
    episodes = [(0.0 * e[0], e[1], 0.0 * e[2], 0.0 * e[3]) for e in oracle.random_episodes(3)]
    log_rho, r, v, q, is_valid = oracle.pad(episodes, 7)
    estimate = compiled(name, log_rho, r, 0.7, is_valid, v, q)
    g = np.array([oracle.returns(e, 0.7) for e in episodes])
    if name != "magic":
        np.testing.assert_allclose(estimate.value, np.mean(g), rtol=1e-12)
    np.testing.assert_allclose(estimate.effective_sample_size, len(g), rtol=1e-12)
    if name in ("ordinary_is", "weighted_is", "per_decision_is", "weighted_per_decision_is", "doubly_robust"):
        np.testing.assert_allclose(estimate.standard_error, np.std(g, ddof=1) / np.sqrt(len(g)), rtol=1e-12)


@pytest.mark.parametrize("name", FINITE)
def test_a_common_factor_of_all_weights_changes_nothing_in_a_weighted_estimate(name, x64):
    log_rho, r, v, q, is_valid, _ = case(4)
    shifted = np.array(log_rho)
    shifted[0] += 700.0
    one, other = (compiled(name, x, r, 0.9, is_valid, v, q) for x in (log_rho, shifted))
    np.testing.assert_allclose(one.value, other.value, rtol=1e-10)
    np.testing.assert_allclose(one.standard_error, other.standard_error, rtol=1e-9)


def test_with_one_step_ordinary_per_decision_and_discounting_aware_agree(x64):
    log_rho, r, v, q, is_valid, _ = case(5, longest=1)
    values = [compiled(name, log_rho, r, 0.9, is_valid, v, q).value for name in UNBIASED[:3]]
    np.testing.assert_allclose(values, values[0], rtol=1e-12)


@pytest.mark.parametrize("prefix", ["", "weighted_"])
def test_discounting_aware_is_trajectory_wise_at_a_discount_of_one(prefix, x64):
    log_rho, r, v, q, is_valid, _ = case(6)
    whole = compiled("weighted_is" if prefix else "ordinary_is", log_rho, r, 1.0, is_valid, v, q)
    aware = compiled(prefix + "discounting_aware_is", log_rho, r, 1.0, is_valid, v, q)
    for one, other in zip(whole[:4], aware[:4], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_discounting_aware_takes_the_first_ratio_alone_at_a_discount_of_zero(x64):
    log_rho, r, v, q, is_valid, _ = case(7)
    aware = compiled("discounting_aware_is", log_rho, r, 0.0, is_valid, v, q)
    np.testing.assert_allclose(aware.per_episode, np.exp(log_rho[0]) * r[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("with_model", "without"),
    [("doubly_robust", "per_decision_is"), ("weighted_doubly_robust", "weighted_per_decision_is")],
)
def test_a_model_of_zeros_changes_nothing(with_model, without, x64):
    log_rho, r, v, q, is_valid, _ = case(8)
    one, other = (compiled(name, log_rho, r, 0.9, is_valid, 0.0 * v, 0.0 * q) for name in (with_model, without))
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10)


@pytest.mark.parametrize("name", ["weighted_is", "weighted_doubly_robust"])
def test_eager_and_compiled_agree(name):
    log_rho, r, v, q, is_valid, _ = case(15)
    both = (function(name, log_rho, r, 0.9, is_valid, v, q) for function in (call, compiled))
    for x, y in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)


def test_one_weighted_episode_gives_its_own_return_and_an_infinite_standard_error():
    estimate = ope.weighted_is(jnp.array([[5.0], [-9.0]]), jnp.array([[1.0], [2.0]]), 0.5)
    assert float(estimate.value) == 2.0
    assert float(estimate.standard_error) == np.inf


@pytest.mark.parametrize("name", ALL)
def test_all_weights_zero_give_zero_without_nan(name):
    _, r, v, q, is_valid, _ = case(0)
    nothing = [jnp.asarray(x, jnp.float32) for x in (0.0 * r - np.inf, r, 0.0 * v, 0.0 * q)]
    gradient, estimate = gradients(name, nothing, 0.9, jnp.asarray(is_valid))
    assert float(estimate.value) == 0.0
    assert float(estimate.effective_sample_size) == 0.0
    assert float(estimate.standard_error) == np.inf
    np.testing.assert_array_equal(gradient[0], 0.0)
    np.testing.assert_array_equal(gradient[1], 0.0)


@pytest.mark.parametrize("name", ALL)
def test_a_discount_of_zero_silences_everything_behind_the_first_step(name):
    log_rho, r, v, q = (jnp.asarray(x, jnp.float32) for x in np.random.default_rng(1).normal(size=(4, 3, 6)))
    noise = [jnp.concatenate([x[:1], jnp.full((2, 6), garbage)]) for x, garbage in ((r, jnp.nan), (v, jnp.inf), (q, 1))]
    zeros = [jnp.concatenate([x[:1], jnp.zeros((2, 6))]) for x in (r, v, q)]
    gradient, one = gradients(name, [log_rho, *noise], 0.0, r < jnp.inf)
    _, other = gradients(name, [log_rho, *zeros], 0.0, r < jnp.inf)
    for x, y in zip(one[:4], other[:4], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)
    assert all(np.isfinite(x).all() for x in gradient)


@pytest.mark.parametrize("name", ALL)
def test_an_episode_of_weight_zero_is_silent_whatever_it_was_rewarded(name):
    log_rho, r, v, q = (jnp.asarray(x, jnp.float32) for x in np.random.default_rng(2).normal(size=(4, 1, 6)))
    log_rho = log_rho.at[:, 2].set(-jnp.inf)
    one, other = (compiled(name, log_rho, r.at[:, 2].set(x), 0.9, r < jnp.inf, v, q) for x in (jnp.nan, 0.0))
    for x, y in zip(one[:4], other[:4], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_magic_blends_alike_whatever_the_unit_of_rewards(size):
    log_rho, r, v, q, is_valid, _ = case(16)
    one, other = (
        compiled("magic", log_rho, *(x * unit for x in (r,)), 0.9, is_valid, v * unit, q * unit) for unit in (1, size)
    )
    np.testing.assert_allclose(other.value / size, one.value, rtol=1e-3)


def test_a_discount_that_float32_rounds_to_one_is_refused():
    x = jnp.zeros((3, 1))
    with pytest.raises(ValueError, match=r"discount must be 1, or far enough from it for float32 .* 0.999999999"):
        ope.ordinary_is(x, x, 0.999999999)
    with in_float64():
        wide = jnp.ones((1000, 1), jnp.float64)
        estimate = ope.ordinary_is(0.0 * wide, wide, 0.999999999)
    np.testing.assert_allclose(estimate.value, 1000.0 - 1000.0 * 999.0 / 2.0 * 1e-9, rtol=1e-12)


@pytest.mark.parametrize("name", FINITE)
def test_weighted_estimates_and_gradients_are_finite_at_ten_thousand_steps_of_extreme_ratios(name):
    rng = np.random.default_rng(0)
    log_rho = jnp.asarray(rng.choice([-1000.0, 1000.0], (10_000, 3)), jnp.float32)
    r = jnp.asarray(rng.normal(size=log_rho.shape), jnp.float32)
    gradient, estimate = gradients(name, [log_rho, r, 0.0 * r, 0.0 * r], 1.0, r < jnp.inf)
    assert all(np.isfinite(x).all() for x in (*gradient, *estimate[:4]))


@pytest.mark.parametrize("name", PLAIN)
def test_plain_means_saturate_where_the_weights_overflow(name):
    ones = jnp.ones((7, 6))
    gradient, estimate = gradients(name, [1000.0 * ones, ones, ones, ones], 1.0, ones > 0)
    np.testing.assert_allclose(estimate.value, 7.0 * np.exp(80.0), rtol=1e-5)
    assert np.isfinite(gradient[0]).all()
    assert np.isfinite(estimate.per_episode).all()
    assert np.isfinite(estimate.standard_error)


@pytest.mark.parametrize("name", ["ordinary_is", "discounting_aware_is", "doubly_robust", *FINITE[1:4], "magic"])
def test_padding_is_inert_in_values_and_gradients(name):
    episodes = oracle.random_episodes(9)
    tight = [jnp.asarray(x, x.dtype if x.dtype == bool else "float32") for x in oracle.pad(episodes, 7, garbage=0.0)]
    extra = (0, 3), (0, 2)
    wide = [jnp.pad(jnp.where(tight[4], x, jnp.nan), extra, constant_values=jnp.nan) for x in tight[:4]]
    tight_gradient, tight_estimate = gradients(name, tight[:4], 0.9, tight[4])
    wide_gradient, wide_estimate = gradients(name, wide, 0.9, jnp.pad(tight[4], extra))
    rtol = 1e-4 if name == "magic" else 1e-5
    for x, y in zip(tight_estimate[:3], wide_estimate[:3], strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol)
    np.testing.assert_allclose(tight_estimate.per_episode, wide_estimate.per_episode[:-2], rtol=1e-3, atol=1e-5)
    for x, y in zip(tight_gradient, wide_gradient, strict=True):
        np.testing.assert_allclose(np.pad(x, extra), y, rtol=1e-3, atol=1e-5)


def test_gradients_of_ordinary_and_weighted_estimates_are_the_derived_ones(x64):
    log_rho, r = np.random.default_rng(10).normal(size=(2, 7, 6))
    w, g = np.exp(log_rho.sum(0)), (0.9 ** np.arange(7)) @ r
    share = w / w.sum()
    for name, derived in (("ordinary_is", w * g / 6), ("weighted_is", share * (g - share @ g))):
        (gradient, *_), _ = gradients(name, [log_rho, r, r, r], 0.9, r < np.inf)
        np.testing.assert_allclose(gradient, np.broadcast_to(derived, r.shape), rtol=1e-9)


@pytest.mark.parametrize("name", ["truncated_is", "weighted_is", "doubly_robust", "magic"])
def test_batched_over_logs_it_is_the_same_as_one_by_one(name):
    log_rho, r, v, q, is_valid = (np.stack(x) for x in zip(case(11)[:5], case(12)[:5], strict=True))
    batched = jax.jit(jax.vmap(lambda *x: call(name, x[0], x[1], 0.9, *x[2:])))
    together = batched(log_rho, r, is_valid, v, q)
    for i in range(2):
        alone = compiled(name, log_rho[i], r[i], 0.9, is_valid[i], v[i], q[i])
        for x, y in zip(together[:4], alone[:4], strict=True):
            np.testing.assert_allclose(x[i], y, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ordinary_is", *FINITE[:5]])
def test_standard_error_is_the_spread_of_the_estimate(name):
    process = oracle.Mdp.random(13, horizon=4)
    rng = np.random.default_rng(0)
    log_rho, r, is_valid = (x.reshape(4, 400, 300).swapaxes(0, 1) for x in process.sample(rng, 400 * 300))
    estimates = jax.jit(jax.vmap(lambda *x: call(name, x[0], x[1], 0.9, x[2])))(log_rho, r, is_valid)
    spread = np.std(estimates.value)
    np.testing.assert_allclose(np.mean(estimates.standard_error), spread, rtol=0.15)


def test_per_step_normalization_is_consistent_and_the_ratio_form_is_not():
    process = oracle.Mdp.random(14, horizon=4)
    log_rho, r, is_valid = process.sample(np.random.default_rng(0), 50_000)
    value = process.values(4)[0][0]
    good = compiled("weighted_per_decision_is", log_rho, r, 0.9, is_valid)
    bad = compiled("weighted_per_decision_is_ratio_form", log_rho, r, 0.9, is_valid)
    assert abs(good.value - value) < 5 * good.standard_error
    assert abs(bad.value - value) > 20 * bad.standard_error


def test_truncation_at_a_given_weight_binds_there():
    estimate = ope.truncated_is(jnp.log(jnp.array([[8.0, 0.5]])), jnp.array([[1.0, 2.0]]), 1.0, clip=3.0)
    np.testing.assert_allclose(estimate.per_episode, [3.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_arrays_of_different_shapes_are_refused_by_name(name):
    with pytest.raises(ValueError, match=r"log_rho_tm1 \[2, 3\], r_t \[2, 4\]"):
        call(name, jnp.zeros((2, 3)), jnp.zeros((2, 4)), 0.9)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((jnp.zeros(3), jnp.zeros(3), 0.9), ValueError, r"log_rho_tm1 must be \[T, N\]"),
        ((jnp.zeros((3, 0)), jnp.zeros((3, 0)), 0.9), ValueError, r"log_rho_tm1 must be \[T, N\]"),
        ((jnp.zeros((3, 1)), jnp.zeros((3, 1)), 1.1), ValueError, r"discount must lie in \[0, 1\]"),
        ((jnp.zeros((3, 1)), jnp.zeros((3, 1)), jnp.ones((3, 1))), ValueError, "discount must be a scalar"),
        ((jnp.zeros((3, 1)), jnp.zeros((3, 1), int), 0.9), TypeError, "r_t must be floating"),
        ((jnp.zeros((3, 1)), jnp.zeros((3, 1)), 0.9, jnp.ones((3, 1))), TypeError, "is_valid_t must be boolean"),
    ],
)
def test_wrong_input_is_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        ope.ordinary_is(*arguments)


def test_wrong_options_are_refused_by_name():
    x = jnp.zeros((3, 1))
    with pytest.raises(ValueError, match="clip must be greater than 0"):
        ope.truncated_is(x, x, 0.9, clip=0.0)
    with pytest.raises(ValueError, match="lengths must lie in 0 … T = 3"):
        ope.magic(x, x, 0.9, v_tm1=x, q_tm1=x, lengths=(4,))
    with pytest.raises(ValueError, match=r"v_tm1 \[2, 1\]"):
        ope.doubly_robust(x, x, 0.9, v_tm1=x[:2], q_tm1=x)
