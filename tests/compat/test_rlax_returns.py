"""compat.rlax beyond V-trace: rlax's results and gradients; and the right results at time limits."""

import functools
import inspect
import operator
from typing import NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ops
from isjax.compat import rlax as ours
from tests.peers import rlax
from tests.strategies import SETTINGS, floats, rows

ACTIONS = 3


class Data(NamedTuple):
    """`[T, *B]`, `[T, *B, A]` where values are of all actions. Where an episode ends, what belongs to the
    action `a_t` is anything.
    """

    v_tm1: np.ndarray
    v_t: np.ndarray
    r_t: np.ndarray
    discount_t: np.ndarray
    rho_tm1: np.ndarray
    same_episode_t: np.ndarray
    q_tm1: np.ndarray
    q_t: np.ndarray
    pi_t: np.ndarray
    a_tm1: np.ndarray
    a_t: np.ndarray
    q_a_tm1: np.ndarray
    q_a_t: np.ndarray
    mu_t: np.ndarray
    log_rho_t: np.ndarray
    c_t: np.ndarray

    def where(self, row):
        return Data(*(x[row] for x in self))


RULED = ("v_tm1", "v_t", "r_t", "discount_t", "same_episode_t")
"""What episode ends make differ."""


@st.composite
def data(draw, lengths=(1, 5), truncations=True):
    r = draw(rows(st.sampled_from([(length,) for length in lengths]), truncations))
    more = random_data(draw(st.integers(0, 2**32 - 1)), *r.r_t.shape)._asdict()
    return Data(**more | {"rho_tm1": np.exp(r.log_rho_tm1 / 4)} | {x: getattr(r, x) for x in RULED})


def random_data(seed, rows, *batch):
    """Data in the middle of one episode, without Hypothesis."""
    rng = np.random.default_rng(seed)
    shape = (rows, *batch)
    v_tm1, v_t, r_t, q_a_tm1, q_a_t, log_rho_t = rng.normal(size=(6, *shape))
    rho_tm1, mu_t, c_t = rng.uniform(0.1, 1.5, (3, *shape))
    q_tm1, q_t = rng.normal(size=(2, *shape, ACTIONS))
    a_tm1, a_t = rng.integers(0, ACTIONS, (2, *shape))
    pi_t = rng.dirichlet(np.ones(ACTIONS), shape)
    v_t[:-1] = v_tm1[1:]
    going_on = np.ones(shape, bool)
    return Data(
        v_tm1, v_t, r_t, np.full(shape, 0.9), rho_tm1, going_on, q_tm1, q_t, pi_t, a_tm1, a_t, q_a_tm1, q_a_t, mu_t,
        log_rho_t, c_t,
    )  # fmt: skip


def values(d):
    """States in a row, as rlax has them: a place for each, whether an episode ended between them or not."""
    return jnp.concatenate([d.v_tm1, d.v_t[-1:]])


ROW = operator.attrgetter("r_t", "discount_t")
ARGUMENTS = {
    "importance_corrected_td_errors": lambda d, lambda_: (*ROW(d), d.rho_tm1, lambda_, values(d)),
    "truncated_generalized_advantage_estimation": lambda d, lambda_: (*ROW(d), lambda_, values(d)),
    "general_off_policy_returns_from_q_and_v": lambda d, lambda_: (
        *(d.q_a_t[:-1], d.v_t, *ROW(d), d.c_t[:-1] * lambda_),
    ),
    "general_off_policy_returns_from_action_values": lambda d, lambda_: (
        *(d.q_t, d.a_t, *ROW(d), d.c_t * lambda_, d.pi_t),
    ),
    "retrace": lambda d, lambda_: (d.q_tm1, d.q_t, d.a_tm1, d.a_t, *ROW(d), d.pi_t, d.mu_t, lambda_),
    "retrace_continuous": lambda d, lambda_: (*(d.q_a_tm1, d.q_a_t[:-1], d.v_t, *ROW(d), d.log_rho_t[:-1], lambda_),),
    "lambda_returns": lambda d, lambda_: (*ROW(d), d.v_t, lambda_),
    "n_step_bootstrapped_returns": lambda d, lambda_: (*ROW(d), d.v_t, 3, lambda_),
    "td_lambda": lambda d, lambda_: (d.v_tm1, *ROW(d), d.v_t, lambda_),
    "sarsa_lambda": lambda d, lambda_: (d.q_tm1, d.a_tm1, *ROW(d), d.q_t, d.a_t, lambda_),
    "q_lambda": lambda d, lambda_: (d.q_tm1, d.a_tm1, *ROW(d), d.q_t, lambda_),
}
"""For each function its arguments in rlax's order, from data and λ."""
NAMES = list(ARGUMENTS)
EACH = pytest.mark.parametrize("name", NAMES)
OF_VALUES = NAMES[:2]


def find(module, name):
    """rlax 0.1.9 does not export `importance_corrected_td_errors`."""
    return getattr(module, name) if hasattr(module, name) else getattr(module._src.multistep, name)


def call(module, name, d, lambda_, stop, **options):
    return find(module, name)(*ARGUMENTS[name](d, lambda_), stop_target_gradients=stop, **options)


@functools.partial(jax.jit, static_argnums=0)
def told(name, d, lambda_=0.8, stop=False):
    v_t = {"v_t": d.v_t} if name in OF_VALUES else {}
    return call(ours, name, d, lambda_, stop, same_episode_t=d.same_episode_t, **v_t)


def differentiable(d):
    """Data in two: what has gradients, and the rest."""
    is_float = [jnp.issubdtype(x.dtype, jnp.floating) for x in d]
    floating = [x if yes else None for x, yes in zip(d, is_float, strict=True)]
    return floating, [None if yes else x for x, yes in zip(d, is_float, strict=True)]


def with_gradients(function, d, *arguments):
    """The result, and the gradient of a sum of it with weights to all floating data and arguments."""
    floating, rest = differentiable(d)

    def result(floating, *arguments):
        return function(Data(*(y if x is None else x for x, y in zip(floating, rest, strict=True))), *arguments)

    value, pull = jax.vjp(result, floating, *arguments)
    return value, pull(jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape))


@functools.partial(jax.jit, static_argnums=(0, 1))
def not_told_with_gradients(is_ours, name, d, lambda_, stop):
    module = ours if is_ours else rlax
    return with_gradients(lambda d, lambda_: call(module, name, d, lambda_, stop), d, lambda_)


def assert_close(actual, expected, **tolerance):
    jax.tree.map(functools.partial(np.testing.assert_allclose, **tolerance), actual, expected)


# As in rlax


@pytest.mark.parametrize("name", [*NAMES, "clipped_surrogate_pg_loss"])
def test_arguments_their_order_and_defaults_are_those_of_rlax_and_some_by_name_alone(name):
    mine, theirs = (list(inspect.signature(find(m, name)).parameters.values()) for m in (ours, rlax))
    assert [(p.name, p.default) for p in mine[: len(theirs)]] == [(p.name, p.default) for p in theirs]
    more = ["is_valid_t"] if name == "clipped_surrogate_pg_loss" else ["same_episode_t"]
    more += ["v_t"] if name in OF_VALUES else []
    assert [(p.name, p.default, p.kind) for p in mine[len(theirs) :]] == [
        (x, None, mine[-1].KEYWORD_ONLY) for x in more
    ]


@EACH
@hypothesis.given(d=data(truncations=False), lambda_=st.floats(0.0, 1.0), stop=st.booleans())
@SETTINGS
def test_results_and_gradients_are_those_of_rlax_where_no_time_limit_is(x64, name, d, lambda_, stop):
    mine, theirs = (not_told_with_gradients(m, name, d, lambda_, stop) for m in (True, False))
    assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(told(name, d, lambda_, stop), mine[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*OF_VALUES, "retrace_continuous", "lambda_returns", "n_step_bootstrapped_returns"])
def test_lambda_of_each_row_is_that_of_rlax(x64, name):
    d, lambda_ = random_data(0, 5), np.linspace(0.1, 0.9, 5)
    lambda_ = lambda_[:-1] if name == "retrace_continuous" else lambda_
    mine, theirs = (not_told_with_gradients(m, name, d, lambda_, False) for m in (True, False))
    assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@EACH
def test_by_default_gradients_stop_where_they_do_in_rlax(x64, name):
    d = random_data(1, 5)
    mine, theirs = (
        jax.jit(functools.partial(with_gradients, lambda d, m=m: find(m, name)(*ARGUMENTS[name](d, 0.7))))(d)
        for m in (ours, rlax)
    )
    assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


STOPPED = {
    "importance_corrected_td_errors": {"v_tm1": -1.0},
    "retrace": {"q_tm1": -1.0},
    "retrace_continuous": {"q_a_tm1": -1.0},
    "td_lambda": {"v_tm1": -1.0},
    "sarsa_lambda": {"q_tm1": -1.0},
    "q_lambda": {"q_tm1": -1.0},
}
"""What gradients reach, and as which multiple of the weights, where targets are constants."""


@EACH
def test_of_constant_targets_only_the_estimates_to_learn_get_gradients(x64, name):
    d = random_data(2, 5)
    value, (gradients,) = with_gradients(lambda d: call(ours, name, d, 0.7, True), d)
    weights = np.cos(np.arange(value.size))
    for field, gradient in zip(Data._fields, gradients, strict=True):
        expected = STOPPED.get(name, {}).get(field, 0.0) * weights
        if gradient is not None:
            total = gradient.sum(-1) if gradient.ndim == 2 else gradient
            np.testing.assert_allclose(total, expected, err_msg=field, atol=1e-12)


def test_importance_corrected_errors_are_what_control_variate_returns_correct(x64):
    d = random_data(3, 6, 2)
    returns = ops.per_decision_control_variate(*d[:4], np.log(d.rho_tm1), d.same_episode_t, lambda_=0.8)
    np.testing.assert_allclose(told("importance_corrected_td_errors", d), returns - d.v_tm1, rtol=1e-10)


def test_continuous_retrace_is_the_operator_where_one_network_gives_all_values(x64):
    d = random_data(3, 6, 2)
    d.same_episode_t[2] = False
    log_rho_tm1 = np.concatenate([d.log_rho_t[:1], d.log_rho_t[:-1]])
    d = d._replace(q_a_tm1=np.concatenate([d.q_a_tm1[:1], d.q_a_t[:-1]]))
    returns = ops.retrace(d.q_a_tm1, d.v_t, d.r_t, d.discount_t, log_rho_tm1, d.same_episode_t, lambda_=0.8)
    np.testing.assert_allclose(told("retrace_continuous", d), returns - d.q_a_tm1, rtol=1e-10)


# Time limits


@EACH
@hypothesis.given(d=data(lengths=(5,)), lambda_=st.floats(0.0, 1.0))
@SETTINGS
def test_told_of_episode_ends_it_is_rlax_on_each_episode_alone(x64, name, d, lambda_):
    ends = [t + 1 for t in range(5) if not d.same_episode_t[t] or t == 4]
    alone = [
        not_told_with_gradients(False, name, d.where(slice(start, end)), lambda_, False)[0]
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
    np.testing.assert_allclose(told(name, d, lambda_), np.concatenate(alone), rtol=1e-9, atol=1e-9)


@EACH
@pytest.mark.parametrize("terminated", [False, True])
def test_two_episodes_in_a_row_are_corrected_as_each_alone(x64, name, terminated):
    a, b = random_data(4, 3, 2), random_data(5, 4, 2)
    a.same_episode_t[-1] = False
    if terminated:
        a.discount_t[-1] = 0.0
    both = told(name, Data(*(np.concatenate(x) for x in zip(a, b, strict=True))))
    np.testing.assert_allclose(both, np.concatenate([told(name, x) for x in (a, b)]), rtol=1e-12)


OF_THE_RESET = ("v_tm1", "q_tm1", "q_a_tm1", "rho_tm1", "r_t")
OF_NO_ACTION = ("q_a_t", "mu_t", "log_rho_t", "c_t")


@EACH
def test_what_the_reset_led_to_changes_neither_values_nor_gradients_before_it(name):
    d = Data(*(jnp.asarray(x) for x in random_data(6, 5)))
    d = d._replace(same_episode_t=d.same_episode_t.at[2].set(False))
    changed = {field: getattr(d, field).at[3:].set(7.0) for field in OF_THE_RESET}
    changed |= {field: getattr(d, field).at[2].set(np.nan) for field in OF_NO_ACTION}
    # SARSA has nothing else to bootstrap from than an action that the policy draws there.
    changed = d._replace(**changed, a_t=d.a_t if name == "sarsa_lambda" else d.a_t.at[2].set(99))
    results = [with_gradients(lambda d: told(name, d)[:3], x) for x in (d, changed)]
    assert_close(*results, rtol=0)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(results))
    assert np.all(told(name, d)[3:] != told(name, changed)[3:])


@EACH
def test_what_a_terminal_state_is_worth_changes_neither_values_nor_gradients(name):
    d = Data(*(jnp.asarray(x) for x in random_data(18, 5)))
    d = d._replace(discount_t=d.discount_t.at[2].set(0.0), same_episode_t=d.same_episode_t.at[2].set(False))
    fields = ("v_t", "q_t", "pi_t", *OF_NO_ACTION)
    unknown = d._replace(**{field: getattr(d, field).at[2].set(np.nan) for field in fields})
    # Gradients say how the results would change with the discount: that does depend on it.
    constant = lambda d: d._replace(discount_t=jax.lax.stop_gradient(d.discount_t))  # noqa: E731
    results = [with_gradients(lambda d: told(name, constant(d)), x) for x in (d, unknown)]
    assert_close(*results, rtol=0)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(results))


@pytest.mark.parametrize("name", OF_VALUES)
def test_two_right_episodes_with_a_time_limit_between_leave_nothing_to_correct(name):
    d = random_data(7, 4)
    value, zero, one = np.array([1.0, 1.0, 100.0, 100.0]), np.zeros(4), np.ones(4)
    d = d._replace(v_tm1=value, v_t=value, r_t=zero, discount_t=one, rho_tm1=one)
    for module in (ours, rlax):  # Not told of it, one is as wrong as the other.
        np.testing.assert_array_equal(call(module, name, d, 0.0, False), [0.0, 99.0, 0.0, 0.0])
    d.same_episode_t[1] = False
    np.testing.assert_array_equal(told(name, d, 1.0), zero)


@pytest.mark.parametrize("name", OF_VALUES)
@pytest.mark.parametrize("field", ["v_t", "same_episode_t"])
def test_functions_of_values_in_a_row_refuse_one_half_of_what_a_time_limit_needs(name, field):
    d = random_data(8, 4)
    with pytest.raises(ValueError, match="v_t and same_episode_t go together"):
        call(ours, name, d, 0.9, False, **{field: getattr(d, field)})


# Ratios


EXTREME = {
    "importance_corrected_td_errors": ("rho_tm1", [0.0, 1e-45, np.inf]),
    "general_off_policy_returns_from_q_and_v": ("c_t", [0.0, np.inf]),
    "general_off_policy_returns_from_action_values": ("c_t", [0.0, np.inf]),
    "retrace_continuous": ("log_rho_t", [-np.inf, -1000.0, 1000.0, np.inf]),
    "retrace": ("mu_t", [0.0, 1e-45]),
}


@pytest.mark.parametrize(("name", "field", "x"), [(n, f, x) for n, (f, xs) in EXTREME.items() for x in xs])
def test_values_and_gradients_are_finite_for_one_extreme_ratio(name, field, x):
    d = Data(*(jnp.asarray(x) for x in random_data(9, 5)))
    d = d._replace(**{field: getattr(d, field).at[2].set(x)})
    result = jax.jit(functools.partial(with_gradients, functools.partial(told, name)))(d)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(result))


@pytest.mark.parametrize(("pi", "mu"), [(0.5, 0.0), (0.0, 0.0), (0.5, 1e-30)])
def test_retrace_needs_no_epsilon_where_the_behavior_policy_never_acts_so(pi, mu):
    q, a, r = jnp.zeros((2, 2)), jnp.zeros(2, int), jnp.ones(2)

    def errors(pi_t, mu_t):
        return ours.retrace(q, q, a, a, r, r, pi_t, mu_t, 1.0, 0.0, False)

    policies = jnp.array([[pi, 1.0 - pi]] * 2), jnp.full(2, mu)
    np.testing.assert_array_equal(jax.jit(errors)(*policies), [2.0, 1.0])
    gradients = jax.jit(jax.jacobian(errors, (0, 1)))(*policies)
    assert all(np.all(np.isfinite(x)) for x in gradients)


def test_bfloat16_is_computed_in_float32():
    d = random_data(10, 40)
    narrow = Data(*(jnp.asarray(x, jnp.bfloat16) if x.dtype == float else jnp.asarray(x) for x in d))
    wide = Data(*(x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x for x in narrow))
    for name in NAMES:
        x, y = (told(name, d, jnp.float32(1.0)) for d in (narrow, wide))
        assert x.dtype == jnp.float32
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)


# The clipped surrogate


@hypothesis.given(
    log_rho=floats((7,), -1.0, 1.0), advantage=floats((7,)), epsilon=st.floats(0.05, 0.9), stop=st.booleans()
)
@SETTINGS
def test_the_clipped_surrogate_and_its_gradients_are_those_of_rlax(x64, log_rho, advantage, epsilon, stop):
    mine, theirs = (SURROGATE[m](np.exp(log_rho), advantage, epsilon, stop) for m in (ours, rlax))
    assert_close(mine, theirs, rtol=1e-12, atol=1e-14)


SURROGATE = {m: jax.jit(jax.value_and_grad(m.clipped_surrogate_pg_loss, (0, 1))) for m in (ours, rlax)}


def test_advantages_are_constants_to_the_surrogate_by_default():
    x = jnp.array([0.5, 1.0, 2.0])
    loss = functools.partial(ours.clipped_surrogate_pg_loss, x, epsilon=0.2)
    np.testing.assert_array_equal(jax.grad(loss)(x), jnp.zeros(3))
    np.testing.assert_allclose(jax.grad(lambda a: loss(a, use_stop_gradient=False))(x), [-0.5 / 3, -1 / 3, -0.4])


def test_padded_rows_are_not_in_the_surrogates_mean_and_get_no_gradient():
    rho, advantage = jnp.array([0.5, np.nan, 2.0, np.inf]), jnp.array([1.0, np.nan, -1.0, np.inf])
    valid = jnp.array([True, False, True, False])
    loss = functools.partial(ours.clipped_surrogate_pg_loss, epsilon=0.2, use_stop_gradient=False)
    value, gradients = jax.value_and_grad(loss, (0, 1))(rho, advantage, is_valid_t=valid)
    expected = jax.value_and_grad(loss, (0, 1))(rho[valid], advantage[valid])
    np.testing.assert_allclose(value, expected[0])
    for x, y in zip(gradients, expected[1], strict=True):
        np.testing.assert_allclose(x[valid], y)
        np.testing.assert_array_equal(x[~valid], [0.0, 0.0])


@pytest.mark.parametrize("rho", [0.0, 1e-45, 1e38, np.inf])
@pytest.mark.parametrize("advantage", [-2.0, 0.0, 2.0])
def test_the_surrogate_of_any_ratio_is_finite_and_so_are_its_gradients(rho, advantage):
    for stop in (False, True):
        loss = functools.partial(ours.clipped_surrogate_pg_loss, epsilon=0.2, use_stop_gradient=stop)
        result = jax.value_and_grad(loss, (0, 1))(jnp.full(3, rho), jnp.full(3, advantage))
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(result))


@pytest.mark.parametrize("log_rho", [-100.0, 100.0])
@pytest.mark.parametrize("advantage", [-2.0, 2.0])
def test_of_a_ratio_that_saturated_where_it_was_made_the_surrogates_gradient_is_finite(log_rho, advantage):
    def loss(log_rho):
        rho = ops.clipped_ratio(log_rho, jnp.inf)
        return ours.clipped_surrogate_pg_loss(rho, jnp.full(1, advantage), 0.2)

    assert np.isfinite(jax.grad(loss)(jnp.full(1, log_rho)))[0]


# Wrong input, and more than rlax takes


@EACH
def test_all_axes_but_the_first_are_a_batch(name):
    d = random_data(11, 5, 3)
    d.same_episode_t[2] = np.array([True, False, True])
    alone = [told(name, Data(*(x[:, i] for x in d))) for i in range(3)]
    np.testing.assert_allclose(told(name, d), np.stack(alone, 1), rtol=1e-4, atol=1e-5)


@EACH
@pytest.mark.parametrize("field", ["r_t", "discount_t", "same_episode_t"])
def test_shapes_that_differ_are_named(name, field):
    d = random_data(12, 4)
    d = d._replace(**{field: getattr(d, field)[:3]})
    with pytest.raises(ValueError, match=rf"share one shape, but got: .*{field} \[3\]|r_t \[3\], "):
        told(name, d)


@EACH
def test_flags_that_are_not_boolean_are_refused(name):
    d = random_data(13, 4)
    with pytest.raises(TypeError, match="same_episode_t must be boolean, but its dtype is float32"):
        told(name, d._replace(same_episode_t=np.ones(4, np.float32)))


@pytest.mark.parametrize("name", ["general_off_policy_returns_from_q_and_v", "retrace_continuous"])
def test_arrays_that_must_be_one_row_shorter_are_named(name):
    *arguments, last = ARGUMENTS[name](random_data(14, 4), 0.9)
    arguments[0 if name.startswith("general") else 1] = np.ones(4)
    with pytest.raises(ValueError, match=r"share one shape, but got: .*\[:-1\] \[3\], q_t \[4\]"):
        getattr(ours, name)(*arguments, last)


@pytest.mark.parametrize("name", ["general_off_policy_returns_from_action_values", "retrace"])
def test_actions_that_are_not_integers_are_refused(name):
    d = random_data(15, 4)
    with pytest.raises(TypeError, match="a_t must hold integers, but its dtype is float"):
        told(name, d._replace(a_t=d.a_t.astype(np.float32)))


@pytest.mark.parametrize("name", ["general_off_policy_returns_from_action_values", "retrace"])
def test_action_values_that_do_not_fit_are_named(name):
    d = random_data(16, 4)
    with pytest.raises(ValueError, match=r"q_t \[4, 3\], .*pi_t \[4, 2\]|q_t \[4, 3\], pi_t \[4, 2\]"):
        told(name, d._replace(pi_t=d.pi_t[:, :2]))
    with pytest.raises(ValueError, match=r"r_t \[4\], .*q_t\[\.\.\., 0\] \[\]"):
        told(name, d._replace(**{x: getattr(d, x)[:, 0] for x in ("q_t", "q_tm1", "pi_t")}))


@pytest.mark.parametrize("name", [*OF_VALUES, "retrace", "retrace_continuous"])
def test_a_lambda_out_of_range_is_refused(name):
    with pytest.raises(ValueError, match=r"lambda_ must lie in \[0, 1\], but it is 1.5"):
        call(ours, name, random_data(17, 4), 1.5, False)
