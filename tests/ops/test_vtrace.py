"""V-trace and leaky V-trace: against the definition, at episode ends, at extreme ratios, in padding."""

import functools

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
from tests.peers import rlax
from tests.strategies import SETTINGS, flags, random_rows, rows

# Compiled once a shape, these are many times faster than `ops.vtrace` op by op.
vtrace = jax.jit(ops.vtrace, static_argnames="associative")
leaky_vtrace = jax.jit(ops.leaky_vtrace, static_argnames="associative")
OPTIONS = st.fixed_dictionaries(
    {
        "lambda_": st.floats(0.0, 1.0),
        "clip_rho": st.floats(0.2, 5.0),
        "clip_c": st.floats(0.2, 5.0),
        "clip_pg_rho": st.floats(0.2, 5.0),
    }
)


def assert_close(actual, expected, **tolerance):
    for name, x, y in zip(ops.VTrace._fields, actual, expected, strict=True):
        np.testing.assert_allclose(x, y, err_msg=name, **tolerance)


# The definition


@hypothesis.given(data=st.data(), lambda_=st.floats(0.0, 1.0), clip=st.floats(0.2, 5.0), alpha=st.floats(0.0, 1.0))
@SETTINGS
def test_with_one_bound_for_all_it_equals_the_definition_too(x64, data, lambda_, clip, alpha):
    r = data.draw(rows())
    r = r._replace(log_rho_tm1=r.log_rho_tm1 / 4)
    bounds = {"lambda_": lambda_, "clip_rho": clip, "clip_c": clip, "clip_pg_rho": clip}
    assert_close(ops.vtrace(*r, **bounds), oracles.vtrace(*r, **bounds), rtol=1e-10, atol=1e-9)
    expected = oracles.vtrace(*r, **bounds, alpha=alpha)
    for associative in (False, True):
        leaky = functools.partial(ops.leaky_vtrace, **bounds, alpha=alpha, associative=associative)
        assert_close(leaky(*r), expected, rtol=1e-10, atol=1e-9)


@hypothesis.given(data=st.data(), options=OPTIONS, given_flags=st.booleans())
@SETTINGS
def test_it_equals_the_definition_by_sums_and_products(x64, data, options, given_flags):
    r = data.draw(rows(truncations=given_flags))
    r = r if given_flags else r._replace(same_episode_t=None)
    expected = oracles.vtrace(*r, **options)
    for corrected in (ops.vtrace, vtrace, functools.partial(vtrace, associative=True)):
        assert_close(corrected(*r, **options), expected, rtol=1e-10, atol=1e-10)


@hypothesis.given(data=st.data(), options=OPTIONS, alpha=st.floats(0.0, 1.0))
@SETTINGS
def test_leaky_vtrace_equals_the_definition_by_sums_and_products(x64, data, options, alpha):
    r = data.draw(rows())
    r = r._replace(log_rho_tm1=r.log_rho_tm1 / 4)  # Products of unclipped ratios grow: the sums would cancel.
    expected = oracles.vtrace(*r, **options, alpha=alpha)
    for corrected in (ops.leaky_vtrace, leaky_vtrace):
        assert_close(corrected(*r, **options, alpha=alpha), expected, rtol=1e-10, atol=1e-9)


@hypothesis.given(data=st.data(), options=OPTIONS)
@SETTINGS
def test_padded_rows_are_zero_and_rows_before_them_bootstrap(x64, data, options):
    r = data.draw(rows())
    valid = data.draw(flags(r.r_t.shape))
    assert_close(vtrace(*r, is_valid_t=valid, **options), oracles.vtrace(*r, valid, **options), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("along", [(5,), (5, 2)])
def test_lambda_may_change_along_time_and_belongs_to_its_own_row(x64, along):
    r = random_rows(0, 5, 2)
    lambda_ = np.random.default_rng(1).random(along)
    assert_close(vtrace(*r, lambda_=lambda_), oracles.vtrace(*r, lambda_=lambda_), rtol=1e-10)


def test_float32_is_close_to_the_definition():
    r = random_rows(2, 20, 4)
    result = vtrace(*(jnp.asarray(x) for x in r))
    assert result.target_tm1.dtype == result.advantage_tm1.dtype == jnp.float32
    assert_close(result, oracles.vtrace(*r), rtol=1e-4, atol=1e-4)


def test_bfloat16_is_computed_in_float32():
    rng = np.random.default_rng(3)
    v, r = rng.normal(size=257), rng.normal(size=256)
    arrays = [jnp.asarray(x, jnp.bfloat16) for x in (v[:-1], v[1:], r, np.full(256, 0.99), np.zeros(256))]
    narrow, wide = vtrace(*arrays), vtrace(*(x.astype(jnp.float32) for x in arrays))
    assert narrow.target_tm1.dtype == jnp.float32
    assert_close(narrow, wide, rtol=1e-5, atol=1e-5)


# Episode ends


def test_two_episodes_worth_what_their_values_say_have_no_advantages_although_a_time_limit_lies_between():
    value = jnp.array([1.0, 1.0, 100.0, 100.0])
    zero, one = jnp.zeros(4), jnp.ones(4)
    same_episode = jnp.array([True, False, True, True])
    result = vtrace(value, value, zero, one, zero, same_episode)
    assert_close(result, (value, zero), atol=0)
    # rlax bootstraps the first episode from the second one's first state, or takes the cut for a termination.
    for discount, advantage in ((one, [0.0, 99.0, 0.0, 0.0]), (one.at[1].set(0.0), [-1.0, -1.0, 0.0, 0.0])):
        theirs = rlax.vtrace_td_error_and_advantage(value, value, zero, discount, one)
        np.testing.assert_array_equal(theirs.pg_advantage, advantage)


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("terminated", [False, True])
def test_two_episodes_in_a_row_are_corrected_as_each_alone(x64, lambda_, terminated):
    a, b = (random_rows(seed, n, 3) for seed, n in ((4, 3), (5, 4)))
    a.same_episode_t[-1] = False
    if terminated:
        a.discount_t[-1] = 0.0
    both = vtrace(*(np.concatenate(x) for x in zip(a, b, strict=True)), lambda_=lambda_)
    alone = [vtrace(*x, lambda_=lambda_) for x in (a, b)]
    assert_close(both, [np.concatenate(x) for x in zip(*alone, strict=True)], rtol=1e-12)


@pytest.mark.parametrize("name", ["v_tm1", "v_t", "r_t", "log_rho_tm1"])
def test_nothing_of_the_next_episode_enters_the_one_that_was_cut(name):
    r = random_rows(6, 6)
    r.same_episode_t[2] = False
    before = vtrace(*r)
    getattr(r, name)[3:] += 1.0
    after = vtrace(*r)
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x[:3], y[:3])
        assert np.any(x[3:] != y[3:])


def test_terminated_and_truncated_at_once_means_that_nothing_follows():
    discount, same = ops.endings(jnp.array([False, True, False]), jnp.array([False, True, False]), 0.9)
    v_t = jnp.array([1.0, 1e6, 2.0])
    result = vtrace(jnp.ones(3), v_t, jnp.ones(3), discount, jnp.zeros(3), same)
    np.testing.assert_allclose(result.target_tm1, [1.9, 1.0, 2.8], rtol=1e-6)
    np.testing.assert_allclose(result.advantage_tm1, [0.9, 0.0, 1.8], rtol=1e-6)


def test_advantage_bootstraps_from_the_final_state_at_a_time_limit():
    _, advantage = vtrace(
        jnp.array([1.0, 50.0]),
        jnp.array([7.0, 50.0]),
        jnp.zeros(2),
        jnp.full(2, 0.5),
        jnp.zeros(2),
        jnp.array([False, True]),
    )
    np.testing.assert_allclose(advantage[0], 0.5 * 7.0 - 1.0)


def test_the_last_row_bootstraps_from_the_value_it_leads_to_and_counts_its_reward_once():
    zero = jnp.zeros(3)
    v_t = jnp.array([0.0, 0.0, 10.0])
    result = vtrace(zero, v_t, jnp.array([0.0, 0.0, 4.0]), jnp.full(3, 0.5), zero)
    np.testing.assert_allclose(result.target_tm1, [2.25, 4.5, 9.0])
    np.testing.assert_allclose(result.advantage_tm1, [2.25, 4.5, 9.0])


# Identities


@hypothesis.given(r=rows(), lambda_=st.floats(0.0, 1.0))
@SETTINGS
def test_on_policy_it_is_the_lambda_return(x64, r, lambda_):
    target, advantage = vtrace(*r._replace(log_rho_tm1=0 * r.r_t), lambda_=lambda_)
    expected = oracles.lambda_return(r.v_t, r.r_t, r.discount_t, r.same_episode_t, lambda_)
    np.testing.assert_allclose(target, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(advantage, expected - r.v_tm1, rtol=1e-10, atol=1e-10)


def test_with_a_lambda_of_zero_it_is_the_clipped_one_step_target(x64):
    r = random_rows(7, 6, 2)
    rho = np.minimum(np.exp(r.log_rho_tm1), 1.0)
    delta = r.r_t + r.discount_t * r.v_t - r.v_tm1
    assert_close(vtrace(*r, lambda_=0.0), (r.v_tm1 + rho * delta, rho * delta), rtol=1e-10)


def test_leaky_vtrace_with_alpha_one_is_vtrace_and_with_alpha_zero_is_unclipped(x64):
    r = random_rows(8, 6, 2)
    assert_close(leaky_vtrace(*r, alpha=1.0), vtrace(*r), rtol=1e-12)
    unclipped = vtrace(*r, clip_rho=np.inf, clip_c=np.inf, clip_pg_rho=np.inf)
    assert_close(leaky_vtrace(*r, alpha=0.0), unclipped, rtol=1e-12)
    assert np.any(np.abs(unclipped.target_tm1 - vtrace(*r).target_tm1) > 0.1)


@pytest.mark.parametrize("lambda_", [0.6, 1.0])
def test_it_equals_rlax_where_no_episode_is_cut_by_a_time_limit(x64, lambda_):
    r = random_rows(9, 8, 16)
    discount = np.where(r.same_episode_t, r.discount_t, 0.0)
    v_t = np.concatenate([r.v_tm1[1:], r.v_t[-1:]])
    theirs = jax.vmap(
        functools.partial(
            rlax.vtrace_td_error_and_advantage, lambda_=lambda_, clip_rho_threshold=1.3, clip_pg_rho_threshold=2.0
        ),
        in_axes=1,
        out_axes=1,
    )(r.v_tm1, v_t, r.r_t, discount, np.exp(r.log_rho_tm1))
    ours = vtrace(r.v_tm1, v_t, r.r_t, discount, r.log_rho_tm1, lambda_=lambda_, clip_rho=1.3, clip_pg_rho=2.0)
    assert_close(ours, (theirs.errors + r.v_tm1, theirs.pg_advantage), rtol=1e-10, atol=1e-12)


# Invariances


def test_streams_do_not_mix(x64):
    r = random_rows(10, 5, 4)
    order = np.array([2, 0, 3, 1])
    permuted = vtrace(*(x[:, order] for x in r))
    assert_close(permuted, [x[:, order] for x in vtrace(*r)], rtol=1e-12)


def test_rewards_and_values_in_other_units_give_targets_in_those_units(x64):
    r = random_rows(11, 5, 4)
    scaled = vtrace(*r._replace(v_tm1=3 * r.v_tm1, v_t=3 * r.v_t, r_t=3 * r.r_t))
    assert_close(scaled, [3 * x for x in vtrace(*r)], rtol=1e-10)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_garbage_in_padding_changes_neither_values_nor_gradients(garbage):
    r = random_rows(12, 5, 2)
    valid = np.array([[1, 1], [1, 1], [1, 1], [0, 1], [0, 0]], bool)
    lambda_ = np.full(r.r_t.shape, 0.9)

    def total(arrays, lambda_):
        return sum(jnp.sum(jnp.square(x)) for x in vtrace(*arrays, r.same_episode_t, is_valid_t=valid, lambda_=lambda_))

    clean, dirty = (
        jax.value_and_grad(total, (0, 1))([jnp.where(valid, x, fill) for x in r[:5]], jnp.where(valid, lambda_, fill))
        for fill in (0.0, garbage)
    )
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(dirty))
    assert np.all(dirty[1][0][0][~valid] == 0.0)


# Extreme ratios


LEVELS = np.array([-np.inf, -1000.0, -100.0, 100.0, 1000.0, np.inf])


@pytest.mark.parametrize("clip", [0.5, 1.0, 3.0])
def test_values_and_gradients_are_finite_at_extreme_ratios_and_are_those_of_the_limit(clip):
    ordinary = np.full(6, 0.1)
    r = random_rows(13, 4, 6)._replace(log_rho_tm1=np.stack([LEVELS, ordinary, LEVELS, LEVELS]))
    clips = {"clip_rho": clip, "clip_c": clip, "clip_pg_rho": clip}
    values, pull = jax.vjp(
        lambda *x: vtrace(*x, r.same_episode_t, **clips), *(jnp.asarray(x, jnp.float32) for x in r[:5])
    )
    gradients = pull(jax.tree.map(jnp.ones_like, values))
    assert all(np.all(np.isfinite(x)) for x in (*values, *gradients))
    np.testing.assert_array_equal(gradients[4][jnp.array([0, 2, 3])], 0.0)
    limit = r._replace(log_rho_tm1=np.clip(r.log_rho_tm1, -50.0, 50.0))
    assert_close(values, oracles.vtrace(*limit, **clips), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_one_row_of_leaky_vtrace_is_finite_at_extreme_ratios(alpha):
    one = jnp.ones((1, 6))
    values, pull = jax.vjp(lambda *x: leaky_vtrace(*x, alpha=alpha), one, one, one, one, jnp.asarray(LEVELS)[None])
    assert all(np.all(np.isfinite(x)) for x in (*values, *pull(jax.tree.map(jnp.ones_like, values))))


def test_leaky_vtrace_with_alpha_one_is_finite_over_many_extreme_ratios():
    r = random_rows(14, 20)._replace(log_rho_tm1=np.full(20, 1000.0))
    assert all(np.all(np.isfinite(x)) for x in leaky_vtrace(*r, alpha=1.0))


# Gradients


def test_gradients_of_every_input_and_option_agree_with_finite_differences(x64):
    *arrays, same = (jnp.asarray(x) for x in random_rows(15, 4, 2))

    def leaky(arrays, lambda_, alpha, clip):
        return leaky_vtrace(*arrays, same, lambda_=lambda_, alpha=alpha, clip_rho=clip, clip_c=0.9, clip_pg_rho=2.0)

    check_grads(leaky, (arrays, 0.8, 0.6, 1.3), order=1)


def test_no_gradient_is_stopped():
    one = jnp.ones(1)
    target = jax.grad(lambda *x: vtrace(*x, clip_rho=2.0).target_tm1[0], tuple(range(5)))
    # target = v + ρ (r + γ v' − v) with v = 1, v' = 1, r = 1, γ = ½, ρ = 1.
    gradients = target(one, one, one, 0.5 * one, 0.0 * one)
    np.testing.assert_allclose(gradients, [[0.0], [0.5], [1.0], [1.0], [0.5]], rtol=1e-6)


# Transformations


def test_vmap_equals_a_loop():
    whole = random_rows(16, 5, 3, 2)
    looped = [vtrace(*(x[:, i] for x in whole)) for i in range(3)]
    mapped = jax.vmap(vtrace, in_axes=1, out_axes=1)(*whole)
    assert_close(mapped, [np.stack(x, 1) for x in zip(*looped, strict=True)], rtol=1e-5, atol=1e-6)
    assert_close(vtrace(*whole), mapped, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("option", ["lambda_", "clip_rho", "clip_c", "clip_pg_rho", "alpha"])
def test_every_number_among_the_options_may_be_traced_and_mapped_over(x64, option):
    r = random_rows(17, 5, 2)
    settings = jnp.array([0.3, 0.9])
    mapped = jax.vmap(lambda x: leaky_vtrace(*r, **{"alpha": 0.8} | {option: x}))(settings)
    looped = [oracles.vtrace(*r, **{"alpha": 0.8} | {option: float(x)}) for x in settings]
    assert_close(mapped, [np.stack(x) for x in zip(*looped, strict=True)], rtol=1e-10)
    assert np.any(mapped.target_tm1[0] != mapped.target_tm1[1]) or option == "clip_pg_rho"


def test_other_settings_do_not_compile_again():
    traces = []

    @jax.jit
    def corrected(r, lambda_, clip):
        traces.append(1)
        return ops.vtrace(*r, lambda_=lambda_, clip_rho=clip)

    r = random_rows(18, 5, 2)
    for lambda_, clip in ((1.0, 1.0), (0.5, 2.0)):
        corrected(r, lambda_, clip)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("varying", "associative"),
    [
        *((name, False) for name in ("v_tm1", "v_t", "r_t", "discount_t", "log_rho_tm1", "same_episode_t", "all")),
        *((name, True) for name in ("v_tm1", "same_episode_t", "all")),
    ],
)
def test_shard_map_takes_it_with_its_default_checks_whichever_input_varies(varying, associative):
    mesh = jax.make_mesh((8,), ("env",), axis_types=(AxisType.Auto,))
    whole = random_rows(19, 5, 8)
    whole = type(whole)(*(x.astype(np.float32) if x.dtype != bool else x for x in whole))
    varies = [varying in (name, "all") for name in whole._fields]
    arrays = [x if v else x[:, :1] for x, v in zip(whole, varies, strict=True)]
    specs = tuple(P(None, "env") if v else P() for v in varies)
    corrected = functools.partial(ops.vtrace, associative=associative)
    sharded = jax.jit(jax.shard_map(corrected, mesh=mesh, in_specs=specs, out_specs=P(None, "env")))(*arrays)
    assert_close(sharded, vtrace(*(np.broadcast_to(x, (5, 8)) for x in arrays)), rtol=1e-4, atol=1e-5)


# The fixed point


@pytest.mark.parametrize(("clip_rho", "clip_c", "lambda_"), [(1.0, 1.0, 1.0), (0.7, 0.5, 0.9), (100.0, 1.0, 1.0)])
def test_on_a_small_decision_process_it_contracts_to_the_value_of_the_clipped_policy(x64, clip_rho, clip_c, lambda_):
    states, actions, gamma, length = 3, 2, 0.9, 2
    rng = np.random.default_rng(20)
    transition = rng.dirichlet(np.ones(states), (states, actions))
    reward = rng.normal(size=(states, actions))
    mu, pi = rng.dirichlet(2 * np.ones(actions), (2, states))
    clipped = np.minimum(clip_rho * mu, pi)
    fixed_point = oracles.policy_value(transition, reward, gamma, clipped / clipped.sum(1, keepdims=True))

    # Every trajectory of two steps is a stream; its probability under μ is its weight.
    s0, a0, s1, a1, s2 = (x.ravel() for x in np.indices((states, actions, states, actions, states)))
    weight = mu[s0, a0] * transition[s0, a0, s1] * mu[s1, a1] * transition[s1, a1, s2]
    s_tm1, s_t, a_tm1 = np.stack([s0, s1]), np.stack([s1, s2]), np.stack([a0, a1])
    log_rho = np.log(pi / mu)[s_tm1, a_tm1]
    discount = np.full((length, s0.size), gamma)

    def expected_target(v):
        targets = vtrace(
            v[s_tm1],
            v[s_t],
            reward[s_tm1, a_tm1],
            discount,
            log_rho,
            lambda_=lambda_,
            clip_rho=clip_rho,
            clip_c=clip_c,
        )
        return jnp.zeros(states).at[s0].add(weight * targets.target_tm1[0])

    def iterate(v, _):
        return expected_target(v), jnp.max(jnp.abs(v - fixed_point))

    v, errors = jax.lax.scan(iterate, jnp.zeros(states), length=500)
    np.testing.assert_allclose(v, fixed_point, rtol=1e-8)
    # Theorem 1 of Espeholt et al. 2018 for one step; more steps contract no worse.
    rate = 1 - (1 - gamma) * np.min(np.sum(np.minimum(clip_rho * mu, pi), 1))
    assert np.all(errors[1:30] <= rate * errors[:29] + 1e-12)


# Wrong input


GOOD = dict.fromkeys(("v_tm1", "v_t", "r_t", "discount_t", "log_rho_tm1"), jnp.ones((4, 2)))


@pytest.mark.parametrize("function", [ops.vtrace, ops.leaky_vtrace])
@pytest.mark.parametrize("name", [*GOOD, "same_episode_t", "is_valid_t"])
def test_a_shape_that_differs_is_named(function, name):
    arguments = GOOD | {name: jnp.ones((3, 2), bool if name.endswith(("episode_t", "valid_t")) else float)}
    with pytest.raises(ValueError, match=rf"must share one shape, but got: .*{name} \[3, 2\]"):
        function(**arguments)


@pytest.mark.parametrize("function", [ops.vtrace, ops.leaky_vtrace])
@pytest.mark.parametrize("name", GOOD)
def test_integers_are_refused_by_name(function, name):
    with pytest.raises(TypeError, match=f"{name} must be floating, but its dtype is int32"):
        function(**GOOD | {name: jnp.ones((4, 2), jnp.int32)})


@pytest.mark.parametrize("function", [ops.vtrace, ops.leaky_vtrace])
@pytest.mark.parametrize("name", ["same_episode_t", "is_valid_t"])
def test_flags_that_are_not_boolean_are_refused_by_name(function, name):
    with pytest.raises(TypeError, match=f"{name} must be boolean, but its dtype is float32"):
        function(**GOOD | {name: jnp.ones((4, 2))})


@pytest.mark.parametrize("function", [ops.vtrace, ops.leaky_vtrace])
@pytest.mark.parametrize("name", ["clip_rho", "clip_c", "clip_pg_rho"])
@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan")])
def test_a_clip_that_is_not_positive_is_refused_by_name(function, name, clip):
    with pytest.raises(ValueError, match=f"{name} must be greater than 0, but it is {clip}"):
        function(**GOOD, **{name: clip})


@pytest.mark.parametrize("name", ["lambda_", "alpha"])
def test_a_fraction_outside_of_zero_and_one_is_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 1\], but it is 1.5"):
        ops.leaky_vtrace(**GOOD, **{name: 1.5})


def test_a_lambda_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"lambda_ must be a scalar, \[T\] or \[4, 2\], but its shape is \[2\]"):
        ops.vtrace(**GOOD, lambda_=jnp.ones(2))


def test_options_are_keywords_only():
    with pytest.raises(TypeError, match="positional"):
        ops.vtrace(*GOOD.values(), None, 1.0)
