"""compat.rlax's V-trace: rlax's results and gradients; and the right results where rlax is wrong."""

import functools
import inspect

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ops
from isjax.compat import rlax as ours
from tests.peers import rlax
from tests.strategies import SETTINGS, flags, random_rows, rows

NAMES = ["vtrace", "leaky_vtrace", "vtrace_td_error_and_advantage", "leaky_vtrace_td_error_and_advantage"]
EACH = pytest.mark.parametrize("name", NAMES)


def streams(seed, batch=16, length=6):
    """`[B, T]` inputs of rlax's functions under `vmap`; next rows' values are not always `v_t`."""
    r = random_rows(seed, length, batch)
    return tuple(np.asarray(x).T for x in (*r[:4], np.exp(r.log_rho_tm1)))


def leak(name):
    """The settings that only the leaky functions have."""
    alpha = "alpha" if "advantage" in name else "alpha_"
    return {alpha: 0.7} if name.startswith("leaky") else {}


def pair(name, **settings):
    return [jax.jit(jax.vmap(functools.partial(getattr(m, name), **leak(name), **settings))) for m in (ours, rlax)]


def assert_close(actual, expected, **tolerance):
    jax.tree.map(functools.partial(np.testing.assert_allclose, **tolerance), tuple(actual), tuple(expected))


@EACH
def test_arguments_their_order_and_defaults_are_those_of_rlax_and_one_more(name):
    mine, theirs = (list(inspect.signature(getattr(m, name)).parameters.values()) for m in (ours, rlax))
    assert [(p.name, p.default) for p in mine[:-1]] == [(p.name, p.default) for p in theirs]
    assert (mine[-1].name, mine[-1].default, mine[-1].kind) == ("same_episode_t", None, mine[-1].KEYWORD_ONLY)


def test_the_output_has_the_fields_of_rlax():
    zero = jnp.zeros(3)
    theirs = rlax.vtrace_td_error_and_advantage(zero, zero, zero, zero, zero)
    assert ours.VTraceOutput._fields == theirs._fields


@EACH
@pytest.mark.parametrize(("stop_target_gradients", "masked"), [(True, False), (False, True)])
def test_results_and_gradients_are_those_of_rlax(x64, name, stop_target_gradients, masked):
    lambda_ = np.random.default_rng(0).random(6)
    settings = {"lambda_": lambda_, "clip_rho_threshold": 1.4, "stop_target_gradients": stop_target_gradients}
    settings |= {"clip_pg_rho_threshold": 1.7} if "advantage" in name else {}
    arrays = streams(1)
    mask = np.random.default_rng(2).random(arrays[0].shape) < 0.6 if masked else None

    def results(m, *arrays):
        function = functools.partial(getattr(m, name), **leak(name), **settings)
        mapped = lambda *x: jax.vmap(lambda mask, *x: function(*x, sample_mask=mask))(mask, *x)  # noqa: E731
        value, pull = jax.vjp(mapped, *arrays)
        weights = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), value)
        return jax.tree.leaves(value), pull(weights)

    mine, theirs = (jax.jit(functools.partial(results, m))(*arrays) for m in (ours, rlax))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), mine, theirs)


@EACH
def test_a_masked_row_takes_over_the_error_of_the_next(name):
    arrays = [x[0] for x in streams(3)]
    mask = np.array([True, False, True, False, False, True])
    results = jax.jit(getattr(ours, name))(*arrays, sample_mask=mask, stop_target_gradients=False)
    errors = jax.tree.leaves(results)[0]
    np.testing.assert_array_equal(errors[jnp.array([1, 3, 4])], errors[jnp.array([2, 5, 5])])
    assert len(set(errors.tolist())) == 3


def test_alpha_changes_something():
    arrays = [x[0] for x in streams(5)]
    assert np.any(ours.leaky_vtrace(*arrays, 0.5) != ours.leaky_vtrace(*arrays, 1.0))
    mixed, clipped = (ours.leaky_vtrace_td_error_and_advantage(*arrays, alpha) for alpha in (0.5, 1.0))
    assert np.any(mixed.pg_advantage != clipped.pg_advantage)


# Time limits


def two_right_episodes():
    """Two episodes whose values are right, the first cut by a time limit after two steps."""
    value = jnp.array([1.0, 1.0, 100.0, 100.0])
    return value, value, jnp.zeros(4), jnp.ones(4), jnp.ones(4), jnp.array([True, False, True, True])


def test_told_of_the_time_limit_it_finds_nothing_to_correct():
    *arrays, same_episode = two_right_episodes()
    result = ours.vtrace_td_error_and_advantage(*arrays, same_episode_t=same_episode)
    np.testing.assert_array_equal(result.errors, np.zeros(4))
    np.testing.assert_array_equal(result.pg_advantage, np.zeros(4))
    np.testing.assert_array_equal(result.q_estimate, arrays[0])


@pytest.mark.parametrize("module", [rlax, ours])
def test_not_told_of_the_time_limit_it_is_as_wrong_as_rlax(module):
    *arrays, same_episode = two_right_episodes()
    result = module.vtrace_td_error_and_advantage(*arrays)
    np.testing.assert_array_equal(result.pg_advantage, [0.0, 99.0, 0.0, 0.0])
    arrays[3] = jnp.where(same_episode, 1.0, 0.0)  # The cut taken for a termination.
    result = module.vtrace_td_error_and_advantage(*arrays)
    np.testing.assert_array_equal(result.pg_advantage, [-1.0, -1.0, 0.0, 0.0])


@hypothesis.given(r=rows(), alpha=st.floats(0.0, 1.0), lambda_=st.floats(0.0, 1.0), clip=st.floats(0.5, 2.0))
@SETTINGS
def test_told_of_episode_ends_it_is_the_operator_that_takes_log_ratios(x64, r, alpha, lambda_, clip):
    r = r._replace(log_rho_tm1=r.log_rho_tm1 / 4)
    compat, operator = COMPILED
    *arrays, log_rho, same = r
    mine = compat(*arrays, np.exp(log_rho), alpha, lambda_, clip, 1.0, same_episode_t=same)
    target, advantage = operator(*r, alpha=alpha, lambda_=lambda_, clip_rho=clip)
    np.testing.assert_allclose(mine.errors, target - r.v_tm1, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mine.pg_advantage, advantage, rtol=1e-9, atol=1e-9)


COMPILED = jax.jit(ours.leaky_vtrace_td_error_and_advantage), jax.jit(ops.leaky_vtrace)


@hypothesis.given(r=rows(st.just((5,))), mask=flags((5,)))
@SETTINGS
def test_a_masked_row_that_ends_its_episode_takes_over_nothing_of_the_next(x64, r, mask):
    *arrays, log_rho, same = r
    compat = functools.partial(COMPILED[0], sample_mask=mask, same_episode_t=same)
    before = compat(*arrays, np.exp(log_rho))
    arrays[2] = arrays[2] + np.where(np.cumsum(~same) - ~same > 0, 100.0, 0.0)  # Rewards after the first end.
    after = compat(*arrays, np.exp(log_rho))
    first = np.cumsum(~same) - ~same == 0
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x[first], y[first])


# Ratios


@pytest.mark.parametrize("rho", [0.0, 1e-45, 1e38, np.inf])
@pytest.mark.parametrize("function", [ours.vtrace, ours.vtrace_td_error_and_advantage])
def test_values_and_gradients_are_finite_for_any_ratio(function, rho):
    arrays = [jnp.asarray(x[0], jnp.float32) for x in streams(6)]
    arrays[4] = jnp.full(6, rho, jnp.float32)

    def values_and_gradients(*arrays):
        values, pull = jax.vjp(function, *arrays)
        return values, pull(jax.tree.map(jnp.ones_like, values))

    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(jax.jit(values_and_gradients)(*arrays)))


@pytest.mark.parametrize("rho", [0.0, np.inf])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_one_infinite_or_zero_ratio_leaves_leaky_vtrace_finite(rho, alpha):
    arrays = [jnp.asarray(x[0], jnp.float32) for x in streams(7)]
    arrays[4] = jnp.ones(6).at[2].set(rho)
    assert all(np.all(np.isfinite(x)) for x in COMPILED[0](*arrays, alpha))


# Wrong input, and more than rlax takes


@EACH
def test_all_axes_but_the_first_are_a_batch(name):
    arrays = [x.astype(np.float32) for x in streams(8, 3)]
    function, _ = pair(name)
    whole = getattr(ours, name)(*(x.T for x in arrays), **leak(name))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x.T, y, rtol=1e-5, atol=1e-5), whole, function(*arrays))


@EACH
def test_shapes_that_differ_are_named(name):
    arrays = [jnp.ones(3)] * 4
    with pytest.raises(ValueError, match=r"share one shape, but got: .*rho_tm1 \[2\]"):
        getattr(ours, name)(*arrays, jnp.ones(2))


@EACH
@pytest.mark.parametrize("flag", ["sample_mask", "same_episode_t"])
def test_flags_that_are_not_boolean_are_refused(name, flag):
    with pytest.raises(TypeError, match=f"{flag} must be boolean, but its dtype is float32"):
        getattr(ours, name)(*[jnp.ones(3)] * 5, **{flag: jnp.ones(3)})
