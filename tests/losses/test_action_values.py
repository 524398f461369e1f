"""Losses of action values: values and gradients by hand and by definition, and rlax."""

import warnings

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses, ops
from tests import oracles_q
from tests.losses.action_value_cases import ACTIONS, ATOMS, EDGES, GRID, draw
from tests.losses.checks import close, mean
from tests.peers import rlax
from tests.strategies import SETTINGS, SHAPES, flags, floats

regression = jax.jit(losses.action_value_loss, static_argnames="huber")
categorical = jax.jit(losses.categorical_q_learning_loss, static_argnames="ties")
quantiles = jax.jit(losses.quantile_regression_loss, static_argnames="huber")
quantile_q_learning = jax.jit(losses.quantile_q_learning_loss)
TWO = dict(q_tm1=jnp.array([[1.0, 5.0], [2.0, 7.0]]), a_tm1=jnp.array([0, 1]), q_t=jnp.array([[2.0, 7.0], [9.0, 9.0]]))
"""Two rows, of which the second terminates."""
R_T, DISCOUNT_T = jnp.array([1.0, 3.0]), jnp.array([0.5, 0.0])


def doubled(x):
    """In float64, for the oracles."""
    return {name: y.astype(np.float64) if y.dtype == np.float32 else y for name, y in x.items()}


def by_row(x):
    """`[T * B]` rows of every argument."""
    return {name: y.reshape(-1, *y.shape[2:]) for name, y in x.items()}


# By hand


@pytest.mark.parametrize(
    ("loss", "errors"),
    [
        (lambda q: losses.q_learning_loss(q, TWO["a_tm1"], TWO["q_t"], R_T, DISCOUNT_T), (3.5, -4.0)),
        (lambda q: losses.sarsa_loss(q, TWO["a_tm1"], TWO["q_t"], jnp.array([0, 0]), R_T, DISCOUNT_T), (1.0, -4.0)),
        (
            lambda q: losses.expected_sarsa_loss(
                q, TWO["a_tm1"], TWO["q_t"], jnp.log(jnp.array([[0.8, 0.2], [0.5, 0.5]])), R_T, DISCOUNT_T
            ),
            (1.5, -4.0),
        ),
        (
            lambda q: losses.double_q_learning_loss(q, TWO["a_tm1"], TWO["q_t"], -TWO["q_t"], R_T, DISCOUNT_T),
            (1.0, -4.0),
        ),
    ],
    ids=["q-learning", "sarsa", "expected sarsa", "double"],
)
def test_values_and_gradients_are_those_worked_out_by_hand(loss, errors, x64):
    value, gradient = jax.jit(jax.value_and_grad(loss))(TWO["q_tm1"])
    close(value, (errors[0] ** 2 + errors[1] ** 2) / 4, rtol=1e-6)
    close(gradient, [[-errors[0] / 2, 0.0], [0.0, -errors[1] / 2]], rtol=1e-6)


def test_the_error_of_huber_is_squared_up_to_its_bound_and_linear_beyond():
    q, a, target = jnp.zeros((4, 1)), jnp.zeros(4, int), jnp.array([0.5, -0.5, 3.0, -1e30])
    value, gradient = jax.value_and_grad(lambda q: losses.action_value_loss(q, a, target, huber=2.0))(q)
    close(value, (0.125 + 0.125 + 4.0 + 2e30) / 4, rtol=1e-6)
    close(gradient[:, 0], [-0.125, 0.125, -0.5, 0.5], rtol=1e-6)


def test_q_sigma_of_one_step_is_expected_sarsa_and_of_more_the_return_of_ops(x64):
    x = doubled(draw(0, 6, 3))
    same = np.random.default_rng(0).random((6, 3)) < 0.8
    rows = (x["log_pi_t"], x["r_t"], x["discount_t"], x["log_pi_tm1"], x["log_mu_tm1"], same)

    @jax.jit
    def found(q_tm1):
        loss = lambda q, n: losses.q_sigma_loss(q, x["a_tm1"], x["q_t"], *rows, sigma=0.3, n=n)  # noqa: E731
        return [jax.value_and_grad(lambda q, n=n: loss(q, n))(q_tm1) for n in (1, 3, None)]

    one, three, whole = found(x["q_tm1"])
    expected = jax.jit(losses.expected_sarsa_loss)(x["q_tm1"], x["a_tm1"], x["q_t"], *rows[:3])
    close(one[0], expected)
    taken = np.take_along_axis(x["q_tm1"], x["a_tm1"][..., None], -1)[..., 0]
    v_t = np.sum(np.exp(x["log_pi_t"]) * x["q_t"], -1)
    for n, (value, gradient) in ((3, three), (None, whole)):
        target = np.stack(
            [oracles_q.q_sigma(*(y[:, i] for y in (taken, v_t, *rows[1:])), np.full(6, 0.3), 1.0, n) for i in range(3)],
            axis=1,
        )
        close(value, mean(0.5 * (target - taken) ** 2), rtol=1e-9)
        by_hand = np.where(np.arange(ACTIONS) == x["a_tm1"][..., None], ((taken - target) / taken.size)[..., None], 0.0)
        close(gradient, by_hand, rtol=1e-9)


def test_quantiles_move_towards_their_fractions_of_the_target():
    """θ = 0 below, 4 above a target of 2: slopes ¼ up and ¼ down, so that both come nearer."""
    theta = jnp.array([[0.0, 4.0]])
    loss = lambda theta: losses.quantile_regression_loss(theta, jnp.array([[2.0]]), huber=None)  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(theta)
    assert value == 0.25 * 2.0 + 0.25 * 2.0
    np.testing.assert_array_equal(gradient, [[-0.25, 0.25]])


def test_the_best_quantiles_are_those_of_the_sample():
    """At the quantiles of four equally likely numbers no step along any of them makes the loss smaller."""
    target = jnp.array([[-3.0, 0.0, 1.0, 10.0]])
    loss = jax.jit(lambda theta: losses.quantile_regression_loss(theta, target, huber=None))
    least = loss(target)
    for i in range(4):
        for step in (-0.5, 0.5):
            assert loss(target.at[0, i].add(step)) > least


def test_the_gradient_of_cross_entropy_is_the_gap_of_the_probabilities():
    logits, target = jnp.array([[0.0, jnp.log(3.0)]]), jnp.array([[0.5, 0.5]])
    gradient = jax.grad(losses.categorical_loss)(logits, target)
    close(gradient, [[0.25 - 0.5, 0.75 - 0.5]], rtol=1e-6)


# By definition


@hypothesis.given(data=st.data())
@SETTINGS
def test_regression_is_its_definition(x64, data):
    shape = data.draw(SHAPES)
    q, target = data.draw(floats((*shape, ACTIONS))), data.draw(floats(shape))
    a = np.random.default_rng(0).integers(0, ACTIONS, shape)
    valid, huber = data.draw(st.one_of(st.none(), flags(shape))), data.draw(st.sampled_from([None, 0.5]))
    taken = np.take_along_axis(q, a[..., None], -1)[..., 0]
    cost = np.vectorize(lambda u: 0.5 * u**2 if huber is None else oracles_q.huber(u, huber))(target - taken)
    close(regression(q, a, target, valid, huber=huber), mean(cost, valid))


@pytest.mark.parametrize("kappa", [None, 0.5])
@pytest.mark.parametrize("form", ["midpoints", "given", "of each row"])
def test_quantile_regression_is_its_definition(kappa, form, x64):
    x = doubled(draw(1, 4, 2))
    midpoints, given = (np.arange(ATOMS) + 0.5) / ATOMS, np.array([0.1, 0.3, 0.6, 0.95])
    tau = {"midpoints": None, "given": given, "of each row": np.broadcast_to(given, (4, 2, ATOMS))}[form]
    expected = [
        oracles_q.quantile_cost(theta, target, midpoints if tau is None else given, kappa)
        for theta, target in zip(*(by_row(x)[name] for name in ("one_theta_tm1", "samples_tm1")), strict=True)
    ]
    found = quantiles(x["one_theta_tm1"], x["samples_tm1"], tau=tau, huber=kappa)
    close(found, np.mean(expected))


@pytest.mark.parametrize("double", [False, True])
def test_categorical_q_learning_is_its_definition(double, x64):
    x = doubled(draw(2, 4, 2))
    grid = np.linspace(-2.0, 2.0, ATOMS)
    probs = np.exp(x["theta_t"]) / np.exp(x["theta_t"]).sum(-1, keepdims=True)
    log_p = x["theta_tm1"] - np.log(np.exp(x["theta_tm1"]).sum(-1, keepdims=True))
    costs = []
    for t in np.ndindex(4, 2):
        scores = x["selector_t"][t] if double else probs[t] @ grid
        target = oracles_q.c51(probs[t][np.argmax(scores)], x["r_t"][t] + x["discount_t"][t] * grid, grid)
        costs.append(-target @ log_p[t][x["a_tm1"][t]])
    selector = x["selector_t"] if double else None
    rows = (x[name] for name in ("theta_tm1", "a_tm1", "theta_t", "r_t", "discount_t"))
    close(categorical(*rows, grid, selector_t=selector), np.mean(costs), rtol=1e-9)


def test_hl_gauss_is_cross_entropy_with_the_mass_of_each_bin(x64):
    x = doubled(draw(3, 4, 2))
    edges = np.linspace(-2.0, 2.0, ATOMS + 1)
    log_p = x["one_theta_tm1"] - np.log(np.exp(x["one_theta_tm1"]).sum(-1, keepdims=True))
    inside = np.clip(x["target_tm1"], -2.0, 2.0)
    costs = [-oracles_q.hl_gauss(inside[t], edges, 0.75) @ log_p[t] for t in np.ndindex(4, 2)]
    close(jax.jit(losses.hl_gauss_loss)(x["one_theta_tm1"], x["target_tm1"], edges), np.mean(costs), rtol=1e-9)


def test_equally_good_actions_mix_their_distributions_or_the_first_is_taken(x64):
    """Two actions of mean 0, one sure and one a coin."""
    atoms, tiny = np.array([-1.0, 0.0, 1.0]), -1e9
    sure, coin = np.array([tiny, 0.0, tiny]), np.array([0.0, tiny, 0.0])
    rows = (np.log([[[0.2, 0.5, 0.3]] * 2]), np.array([0]), np.stack([sure, coin])[None], np.zeros(1), np.ones(1))
    mixed, first = (categorical(*rows, atoms, ties=ties) for ties in ("average", "first"))
    close(mixed, -(0.25 * np.log(0.2) + 0.5 * np.log(0.5) + 0.25 * np.log(0.3)))
    close(first, -np.log(0.5))


def test_of_equally_good_actions_quantiles_are_those_of_the_first(x64):
    theta_t = np.array([[[-1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [-1.0, 1.0]]])
    rows = (np.zeros((2, 2, 2)), np.zeros(2, int), theta_t, np.zeros(2), np.ones(2))
    each = [jax.jit(losses.quantile_q_learning_loss)(*(x[i : i + 1] for x in rows)) for i in range(2)]
    close(each[0], oracles_q.quantile_cost([0.0, 0.0], [-1.0, 1.0], [0.25, 0.75], 1.0))
    assert each[1] == 0.0


# rlax


def test_the_losses_are_those_of_rlax():
    x = draw(4, 6, 3)
    r = by_row(x)
    names = ("q_tm1", "a_tm1", "r_t", "discount_t", "q_t")
    error = jax.jit(jax.vmap(rlax.q_learning))(*(r[name] for name in names))
    ours = losses.q_learning_loss(*(x[name] for name in ("q_tm1", "a_tm1", "q_t", "r_t", "discount_t")), huber=0.7)
    close(ours, np.mean(rlax.huber_loss(error, 0.7)), rtol=1e-5)
    rows = ("theta_tm1", "a_tm1", "theta_t", "r_t", "discount_t")
    tau = (jnp.arange(ATOMS) + 0.5) / ATOMS
    dist_tm1, dist_t = (np.swapaxes(r[name], -1, -2) for name in ("theta_tm1", "theta_t"))
    theirs = jax.jit(jax.vmap(lambda q, a, g, d, t: rlax.quantile_q_learning(q, tau, a, g, d, t, t, 1.0)))
    quantile = theirs(dist_tm1, r["a_tm1"], r["r_t"], r["discount_t"], dist_t)
    close(quantile_q_learning(*(x[name] for name in rows)), np.mean(quantile), rtol=1e-5)
    q_and_t = ("theta_tm1", "a_tm1", "r_t", "discount_t", "theta_t")
    theirs = jax.jit(jax.vmap(lambda q, a, g, d, t: rlax.categorical_q_learning(GRID, q, a, g, d, GRID, t)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # rlax warns of its own functions.
        theirs = theirs(*(r[name] for name in q_and_t))
    close(categorical(*(x[name] for name in rows), GRID), np.mean(theirs), rtol=1e-5)


# What fits what


def test_a_network_of_bins_learns_by_any_target_of_ops():
    x = draw(5, 6, 3)
    centers = (EDGES[1:] + EDGES[:-1]) / 2

    @jax.jit
    @jax.grad
    def learned(logits_tm1):
        target = ops.q_learning_target(ops.categorical_mean(x["theta_t"], centers), x["r_t"], x["discount_t"])
        return losses.hl_gauss_loss(ops.at_action(logits_tm1, x["a_tm1"]), target, EDGES)

    gradient = learned(x["theta_tm1"])
    is_taken = np.arange(ACTIONS) == x["a_tm1"][..., None]
    np.testing.assert_array_equal(np.any(gradient != 0.0, -1), is_taken)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: losses.action_value_loss(x["q_tm1"], x["a_tm1"], x["r_t"], huber=0.0),
            "huber must be greater than 0",
        ),
        (
            lambda x: losses.q_learning_loss(x["q_tm1"], x["a_tm1"], x["q_t"][..., :2], x["r_t"], x["r_t"]),
            r"q_t \[4, 2, 2\]",
        ),
        (
            lambda x: losses.quantile_regression_loss(x["one_theta_tm1"], x["samples_tm1"], tau=jnp.ones(3)),
            r"tau must be \[4\]",
        ),
        (lambda x: losses.hl_gauss_loss(x["one_theta_tm1"], x["r_t"], EDGES[1:]), "a bin between two edges"),
        (
            lambda x: losses.hl_gauss_loss(x["one_theta_tm1"], x["r_t"], EDGES, deviation=0.0),
            "deviation must be greater",
        ),
        (lambda x: losses.hl_gauss_loss(x["one_theta_tm1"], x["r_t"], EDGES[:1]), "edges must be a list of at least 2"),
        (
            lambda x: losses.categorical_q_learning_loss(
                x["theta_tm1"], x["a_tm1"], x["theta_t"], x["r_t"], x["r_t"], GRID[1:]
            ),
            r"logits must be \[..., K\] and atoms \[K\]",
        ),
    ],
)
def test_wrong_options_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(draw(6, 4, 2))
