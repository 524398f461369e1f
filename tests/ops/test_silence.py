"""What does not count may hold anything: values behind a terminal state, other episodes, padding.

Every stream holds the same rows; all but the first are spoiled, each with a poison of its own, where a result must not
look. Values and gradients of all streams then have to be those of the first.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ops
from isjax.compat import rlax

ROWS, END = 7, 3
POISONS = np.float32([0.0, np.nan, np.inf, -np.inf, 1e30, -1e30])
"""The first is for the stream that stays as it is."""


class Data(NamedTuple):
    v_tm1: np.ndarray
    v_t: np.ndarray
    r_t: np.ndarray
    discount_t: np.ndarray
    log_rho_tm1: np.ndarray


ENDS = {
    "terminated": (0.0, True),
    "terminated, without flags": (0.0, False),
    "cut by a time limit": (0.9, True),
}
"""For each kind of end: the row's discount, and whether `same_episode_t` tells of it."""


def value(name, **fixed):
    """An operator that takes `(v_tm1, v_t, r_t, discount_t, log_rho_tm1, same_episode_t)`, with λ 0.8 unless fixed."""
    options = {"lambda_": 0.8} | fixed
    return lambda d, same, **o: getattr(ops, name)(*d, same, **options, **o)


def next_action(d):
    """What rlax's functions take: the value and log-ratio of the action taken in the state that a row leads to."""
    return [jnp.concatenate([x[1:], x[-1:]]) for x in (d.v_tm1, d.log_rho_tm1)]


def sigma_rows(d):
    """What `q_sigma` takes, with a target policy that is as likely as the trace of `tree_backup`."""
    log_pi = -jnp.abs(d.log_rho_tm1)
    return *d[:4], log_pi, log_pi - d.log_rho_tm1


def rlax_q_and_v(d, same):
    q, log_rho = next_action(d)
    c = jnp.minimum(jnp.exp(log_rho), 1.0)
    return rlax.general_off_policy_returns_from_q_and_v(q[:-1], d.v_t, d.r_t, d.discount_t, c[:-1], same_episode_t=same)


def rlax_action_values(d, same):
    _, log_rho = next_action(d)
    both = jnp.stack([d.v_t + 0.5, d.v_t - 0.5], axis=-1)
    a, pi = jnp.zeros(d.r_t.shape, int), jnp.full((*d.r_t.shape, 2), 0.5)
    c = jnp.minimum(jnp.exp(log_rho), 1.0)
    return rlax.general_off_policy_returns_from_action_values(both, a, d.r_t, d.discount_t, c, pi, same_episode_t=same)


def rlax_retrace(d, same):
    _, log_rho = next_action(d)
    both = jnp.stack([d.v_t + 0.5, d.v_t - 0.5], axis=-1)
    a, pi = jnp.zeros(d.r_t.shape, int), jnp.full((*d.r_t.shape, 2), 0.5)
    started = jnp.stack([d.v_tm1, d.v_tm1], axis=-1)
    mu = 0.5 * jnp.exp(-log_rho)
    return rlax.retrace(started, both, a, a, d.r_t, d.discount_t, pi, mu, 0.8, 1e-8, False, same_episode_t=same)


def rlax_retrace_continuous(d, same):
    q, log_rho = next_action(d)
    rows = (d.v_tm1, q[:-1], d.v_t, d.r_t, d.discount_t, log_rho[:-1], 0.8, False)
    return rlax.retrace_continuous(*rows, same_episode_t=same)


def rlax_vtrace(d, same):
    rho = jnp.exp(d.log_rho_tm1)
    return rlax.vtrace_td_error_and_advantage(
        *d[:4], rho, 0.8, 1.2, 1.1, stop_target_gradients=False, same_episode_t=same
    )


def rlax_leaky_vtrace(d, same):
    rho = jnp.exp(d.log_rho_tm1)
    return rlax.leaky_vtrace(*d[:4], rho, 0.5, 0.8, stop_target_gradients=False, same_episode_t=same)


def with_values(function, first):
    """rlax's functions of `values` `[T + 1]`, which need `v_t` and the flags to tell an end's value from the next."""

    def call(d, same):
        same = d.discount_t != 0 if same is None else same
        values = jnp.concatenate([d.v_tm1, d.v_t[-1:]])
        return function(d.r_t, d.discount_t, *first(d), 0.8, values, same_episode_t=same, v_t=d.v_t)

    return call


OPERATORS = {
    "vtrace": value("vtrace"),
    "vtrace of three bounds": value("vtrace", clip_rho=1.5, clip_c=1.2, clip_pg_rho=2.0),
    "leaky_vtrace": value("leaky_vtrace", alpha=0.5),
    "gae": lambda d, same, **o: ops.gae(*d[:4], same, lambda_=0.8, **o),
    "lambda_returns": lambda d, same, **o: ops.lambda_returns(*d[1:4], same, lambda_=0.8, **o),
    "per_decision_control_variate": value("per_decision_control_variate"),
    "retrace": value("retrace"),
    "importance_sampled_q": value("importance_sampled_q"),
    "tree_backup": lambda d, same, **o: ops.tree_backup(*d[:4], -jnp.abs(d.log_rho_tm1), same, **o),
    "q_lambda": lambda d, same, **o: ops.q_lambda(*d[:4], same, lambda_=0.8, **o),
    "general_off_policy_q": lambda d, same, **o: ops.general_off_policy_q(*d, same, **o),
    "rbis": value("rbis"),
    "q_sigma": lambda d, same, **o: ops.q_sigma(*sigma_rows(d), same, sigma=0.5, n=3, **o),
} | {
    f"n_step_off_policy {kind}": lambda d, same, kind=kind, **o: ops.n_step_off_policy(
        *d[1:], same, n=3, kind=kind, **o
    )
    for kind in ("state", "sarsa", "expected_sarsa")
}
RLAX = {
    "rlax vtrace": rlax_vtrace,
    "rlax leaky_vtrace": rlax_leaky_vtrace,
    "rlax importance_corrected_td_errors": with_values(
        rlax.importance_corrected_td_errors, lambda d: (jnp.exp(d.log_rho_tm1),)
    ),
    "rlax truncated_generalized_advantage_estimation": with_values(
        rlax.truncated_generalized_advantage_estimation, lambda d: ()
    ),
    "rlax general_off_policy_returns_from_q_and_v": rlax_q_and_v,
    "rlax general_off_policy_returns_from_action_values": rlax_action_values,
    "rlax retrace": rlax_retrace,
    "rlax retrace_continuous": rlax_retrace_continuous,
}
ALL = OPERATORS | RLAX
FORMS = ("cpu", "gpu")
"""Recurrences are solved step by step on the one, in parallel sweeps on the other."""
EACH = pytest.mark.parametrize(
    ("name", "form"), [*((name, form) for name in OPERATORS for form in FORMS), *((name, "cpu") for name in RLAX)]
)
EACH_END = pytest.mark.parametrize("end", ENDS)


def rows(end="terminated"):
    """`(data, same_episode_t)`, the same rows in every stream, with one end in the middle and none else."""
    v_tm1, v_t, r_t, log_rho = np.random.default_rng(0).normal(size=(4, ROWS, 1)).astype(np.float32)
    discount, has_flags = ENDS[end]
    discount_t, same = np.full((ROWS, 1), 0.9, np.float32), np.ones((ROWS, 1), bool)
    discount_t[END], same[END] = discount, False
    # A value belongs to a state: that of the state reached is that of the next row, but for the end.
    v_t[:-1] = np.where(same[:-1], v_tm1[1:], v_t[:-1])
    copies = [np.repeat(x, len(POISONS), axis=1) for x in (v_tm1, v_t, r_t, discount_t, log_rho, same)]
    return Data(*copies[:5]), copies[5] if has_flags else None


def spoiled(d, where, fields=Data._fields):
    """The rows with each stream's poison in the fields named, the first stream's without."""
    where = np.broadcast_to(where, d.r_t.shape) & (np.arange(len(POISONS)) > 0)
    return d._replace(**{name: np.where(where, POISONS, getattr(d, name)) for name in fields})


@functools.cache
def compiled(name, form, has_flags, has_mask):
    """`(data, same_episode_t, is_valid_t, rows that count) → (results that count, gradients of their sum)`."""

    def total(d, same, valid, counts):
        results = ALL[name](d, same, **({"is_valid_t": valid} if has_mask else {}))
        results = [jnp.where(counts, x, 0.0) for x in jax.tree.leaves(results)]
        return sum(jnp.sum(x) for x in results), results

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def evaluate(monkeypatch, name, form, d, same, counts, valid=None):
    monkeypatch.setattr(jax, "default_backend", lambda: form)
    counts = np.broadcast_to(counts, d.r_t.shape)
    (_, results), gradients = compiled(name, form, same is not None, valid is not None)(d, same, valid, counts)
    return results, gradients


def assert_streams_agree(results, gradients, rows=slice(None)):
    for x in results:
        assert np.all(np.isfinite(x[:, 0]))
        np.testing.assert_array_equal(x, np.broadcast_to(x[:, :1], x.shape))
    for name, x in zip(Data._fields, gradients, strict=True):
        np.testing.assert_array_equal(x[rows], np.broadcast_to(x[rows, :1], x[rows].shape), err_msg=name)


ROW = np.arange(ROWS)[:, None]


@EACH
@pytest.mark.parametrize("end", ["terminated", "terminated, without flags"])
def test_the_value_of_a_terminal_state_does_not_count(monkeypatch, name, form, end):
    d, same = rows(end)
    results, gradients = evaluate(monkeypatch, name, form, spoiled(d, ROW == END, ["v_t"]), same, ROW >= 0)
    # What a discount of 0 would do if it were another is asked of a number only.
    assert np.all(np.isfinite(gradients.discount_t[END]))
    same_discounts = gradients.discount_t.at[END].set(0.0)
    assert_streams_agree(results, gradients._replace(discount_t=same_discounts))


@EACH
@EACH_END
def test_nothing_behind_an_end_counts(monkeypatch, name, form, end):
    d, same = rows(end)
    results, gradients = evaluate(monkeypatch, name, form, spoiled(d, ROW > END), same, ROW <= END)
    if end == "terminated, without flags":
        assert np.all(np.isfinite(gradients.discount_t[END]))
        gradients = gradients._replace(discount_t=gradients.discount_t.at[END].set(0.0))
    assert_streams_agree(results, gradients, slice(END + 1))


@EACH
@pytest.mark.parametrize("end", ["terminated", "cut by a time limit"])
def test_nothing_of_the_episode_before_counts(monkeypatch, name, form, end):
    d, same = rows(end)
    poisoned = spoiled(d, ROW <= END)._replace(discount_t=d.discount_t)
    results, gradients = evaluate(monkeypatch, name, form, poisoned, same, ROW > END)
    assert_streams_agree(results, gradients, slice(END + 1, None))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("padding", [ROW > END, ROW < 2, ROW == END - 1], ids=["behind", "before", "between"])
def test_padding_does_not_count(monkeypatch, name, form, padding):
    d, same = rows()
    valid = np.broadcast_to(~padding, d.r_t.shape)
    assert_streams_agree(*evaluate(monkeypatch, name, form, spoiled(d, padding), same, ROW >= 0, valid))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("end", [2, 3])
def test_both_forms_agree_where_ratios_behind_an_end_overflow(monkeypatch, name, end):
    one = np.ones((6, 1), np.float32)
    log_rho, same = np.float32([0, 0, 0, 60, 60, 60])[:, None], (np.arange(6) != end)[:, None]
    results = []
    for form in FORMS:
        monkeypatch.setattr(jax, "default_backend", lambda form=form: form)
        results.append(jax.tree.leaves(ALL[name](Data(one, one, one, 0.9 * one, log_rho), same)))
    for by_steps, in_sweeps in zip(*results, strict=True):
        np.testing.assert_allclose(by_steps, in_sweeps, rtol=1e-5)
