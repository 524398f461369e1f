"""TRPO's parts against dense linear algebra, and its step against the constraint that it promises to keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from isjax import losses, ops
from tests.ops.test_bounds import ACTIONS, GAMMA, STATES, process, states_at, total_variation

# conjugate_gradient


def positive_definite(seed, size):
    root = np.random.default_rng(seed).normal(size=(size, size))
    return root @ root.T + 0.1 * np.eye(size)


@pytest.mark.parametrize("seed", range(5))
def test_the_conjugate_gradient_solves_in_as_many_products_as_there_are_dimensions(seed, x64):
    a, b = positive_definite(seed, 6), np.random.default_rng(seed + 10).normal(size=6)
    x = losses.conjugate_gradient(lambda v: a @ v, jnp.asarray(b), iterations=8, tolerance=1e-14)
    np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=1e-6)


def test_the_conjugate_gradient_takes_pytrees(x64):
    a, b = positive_definite(0, 6), np.random.default_rng(1).normal(size=6)

    def matvec(tree):
        flat = a @ jnp.concatenate([tree["x"], tree["y"].ravel()])
        return {"x": flat[:2], "y": flat[2:].reshape(2, 2)}

    tree = {"x": jnp.asarray(b[:2]), "y": jnp.asarray(b[2:].reshape(2, 2))}
    solution = losses.conjugate_gradient(matvec, tree, iterations=8, tolerance=1e-14)
    expected = np.linalg.solve(a, b)
    np.testing.assert_allclose(solution["x"], expected[:2], rtol=1e-6)
    np.testing.assert_allclose(solution["y"], expected[2:].reshape(2, 2), rtol=1e-6)


def test_each_product_brings_the_solution_nearer_in_the_norm_of_the_matrix(x64):
    a, b = positive_definite(2, 6), np.random.default_rng(3).normal(size=6)
    exact = np.linalg.solve(a, b)
    errors = []
    for iterations in range(1, 6):
        x = losses.conjugate_gradient(lambda v: a @ v, jnp.asarray(b), iterations=iterations, tolerance=0.0)
        errors.append((x - exact) @ a @ (x - exact))
    assert np.all(np.diff(errors) < 0)
    # One product is steepest descent with the best step.
    step = b * (b @ b) / (b @ a @ b)
    np.testing.assert_allclose(errors[0], (step - exact) @ a @ (step - exact), rtol=1e-9)


def test_the_conjugate_gradient_stops_at_its_tolerance(x64):
    a, b = positive_definite(4, 6), np.random.default_rng(5).normal(size=6)
    rough = losses.conjugate_gradient(lambda v: a @ v, jnp.asarray(b), iterations=50, tolerance=0.5)
    residual = np.linalg.norm(a @ rough - b) / np.linalg.norm(b)
    assert 1e-6 < residual <= 0.5


def test_more_products_than_needed_leave_the_solution_as_it_is():
    a = jnp.diag(jnp.array([1.0, 2.0, 3.0]))
    x = losses.conjugate_gradient(lambda v: a @ v, jnp.ones(3), iterations=200, tolerance=0.0)
    np.testing.assert_allclose(x, [1.0, 0.5, 1 / 3], rtol=1e-5)


def test_without_a_right_hand_side_the_solution_is_zero():
    np.testing.assert_array_equal(losses.conjugate_gradient(lambda v: 2.0 * v, jnp.zeros(3)), np.zeros(3))


@pytest.mark.parametrize("diagonal", [[-1.0, -2.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_a_matrix_that_is_not_positive_gives_no_direction_and_no_nan(diagonal):
    x = losses.conjugate_gradient(lambda v: jnp.array(diagonal) * v, jnp.ones(2))
    np.testing.assert_array_equal(x, np.zeros(2))


def test_an_indefinite_matrix_leaves_the_solution_at_the_last_good_one():
    a, b = jnp.diag(jnp.array([3.0, -1.0])), jnp.array([2.0, 1.0])
    x = losses.conjugate_gradient(lambda v: a @ v, b, iterations=10)
    np.testing.assert_allclose(x, b * 5.0 / 11.0, rtol=1e-5)


def test_sums_over_bfloat16_parameters_are_taken_in_float32():
    # 259 and 388.5 would be rounded, to a quotient that is the next number after 2/3.
    x = losses.conjugate_gradient(lambda v: 1.5 * v, jnp.ones(259, jnp.bfloat16), iterations=1)
    assert x.dtype == jnp.bfloat16
    np.testing.assert_array_equal(x, jnp.full(259, 2 / 3, jnp.bfloat16))


def test_the_conjugate_gradient_refuses_to_take_no_product():
    with pytest.raises(ValueError, match="iterations must be at least 1, but it is 0"):
        losses.conjugate_gradient(lambda v: v, jnp.ones(2), iterations=0)


# fisher_vector_product


def categorical(logits):
    """`KL(π_old‖π)`, the mean over states; π_old has `logits`."""
    old = jax.nn.log_softmax(logits)
    return lambda new: jnp.mean(jnp.sum(jnp.exp(old) * (old - jax.nn.log_softmax(new)), axis=-1))


def categorical_fisher(logits):
    """`diag(p) − p pᵀ` for each state, over the number of states."""
    states, actions = logits.shape
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    fisher = np.zeros((states, actions, states, actions))
    for s in range(states):
        fisher[s, :, s] = (np.diag(p[s]) - np.outer(p[s], p[s])) / states
    return fisher.reshape(states * actions, states * actions)


def test_the_product_is_that_of_the_fisher_matrix_of_a_categorical_policy(x64):
    logits, vector = np.random.default_rng(0).normal(size=(2, 4, 3))
    product = losses.fisher_vector_product(categorical(logits), jnp.asarray(logits), jnp.asarray(vector), damping=0.3)
    expected = categorical_fisher(logits) @ vector.ravel() + 0.3 * vector.ravel()
    np.testing.assert_allclose(product.ravel(), expected, rtol=1e-9)


def test_the_product_is_that_of_the_fisher_matrix_of_a_gaussian_policy(x64):
    mean, log_std = np.array([0.5, -1.0]), np.array([0.2, -0.7])
    old = {"mean": jnp.asarray(mean), "log_std": jnp.asarray(log_std)}

    def kl(new):
        variances = jnp.exp(2 * log_std) + (mean - new["mean"]) ** 2
        return jnp.sum(new["log_std"] - log_std + variances / (2 * jnp.exp(2 * new["log_std"])) - 0.5)

    vector = {"mean": jnp.array([1.0, 2.0]), "log_std": jnp.array([-1.0, 0.5])}
    product = losses.fisher_vector_product(kl, old, vector)
    np.testing.assert_allclose(product["mean"], np.array([1.0, 2.0]) / np.exp(2 * log_std), rtol=1e-9)
    np.testing.assert_allclose(product["log_std"], 2 * np.array([-1.0, 0.5]), rtol=1e-9)


# trust_region_step


def problem(seed, states=6, actions=4):
    """`(surrogate, kl, params)` of a softmax policy on sampled advantages."""
    rng = np.random.default_rng(seed)
    logits, advantage = (jnp.asarray(x) for x in rng.normal(size=(2, states, actions)))
    mu = jax.nn.softmax(logits)

    def surrogate(params):
        return jnp.mean(jnp.sum(mu * jnp.exp(jax.nn.log_softmax(params) - jnp.log(mu)) * advantage, axis=-1))

    return surrogate, categorical(logits), logits


@pytest.mark.parametrize("max_kl", [1e-4, 0.01, 0.5])
def test_every_accepted_step_improves_within_the_region(max_kl, x64):
    for seed in range(8):
        surrogate, kl, params = problem(seed)
        step = losses.trust_region_step(surrogate, kl, params, max_kl=max_kl)
        assert step.accepted
        assert 0.0 < float(kl(step.params)) <= max_kl
        assert float(surrogate(step.params)) > float(surrogate(params))
        np.testing.assert_allclose(step.kl, kl(step.params), rtol=1e-9)
        np.testing.assert_allclose(step.improvement, surrogate(step.params) - surrogate(params), rtol=1e-9)


def test_the_step_is_the_natural_gradient_as_long_as_the_region_allows(x64):
    surrogate, kl, params = problem(0)
    fisher = categorical_fisher(np.asarray(params)) + 0.1 * np.eye(params.size)
    gradient = np.asarray(jax.grad(surrogate)(params)).ravel()
    direction = np.linalg.solve(fisher, gradient)
    expected = direction * np.sqrt(2 * 1e-4 / (direction @ fisher @ direction))
    step = losses.trust_region_step(surrogate, kl, params, max_kl=1e-4, iterations=30)
    assert step.backtracks == 0
    np.testing.assert_allclose((step.params - params).ravel(), expected, rtol=1e-4, atol=1e-8)


def test_the_step_is_shortened_until_the_divergence_fits(x64):
    # The quadratic part of this divergence allows a step of 1; the quartic one, only ¼ of it.
    step = losses.trust_region_step(
        lambda x: x, lambda x: 0.5 * x**2 + 20.0 * x**4, jnp.zeros(()), max_kl=0.5, damping=0.0, shrink=0.5
    )
    assert step.accepted
    assert step.backtracks == 2
    np.testing.assert_allclose(step.params, 0.25, rtol=1e-9)


def test_the_step_is_shortened_until_the_surrogate_improves(x64):
    step = losses.trust_region_step(
        lambda x: x - 3.0 * x**2, lambda x: 0.5 * x**2, jnp.zeros(()), max_kl=0.49999, damping=0.00001, shrink=0.5
    )
    assert step.accepted
    assert step.backtracks == 2
    np.testing.assert_allclose(step.improvement, 0.25 - 3.0 / 16, rtol=1e-3)


def test_a_step_that_never_fits_gives_up_after_so_many_candidates():
    for backtracks in (1, 3):
        step = losses.trust_region_step(
            lambda x: x, lambda x: 0.5 * x**2 + 1e9 * x**4, jnp.zeros(()), max_kl=0.5, backtracks=backtracks
        )
        assert not step.accepted
        assert step.backtracks == backtracks - 1
    step = losses.trust_region_step(
        lambda x: x, lambda x: 0.5 * x**2 + 20.0 * x**4, jnp.zeros(()), max_kl=0.5, damping=0.0, backtracks=3
    )
    assert step.accepted


PARAMS = {"w": jnp.array([1.0, -0.0, 1e-40, 3.0], jnp.float32), "b": jnp.array(0.1, jnp.bfloat16)}


def total(params):
    return jnp.sum(params["w"]) + params["b"].astype(jnp.float32)


def distance(params):
    return sum(
        0.5 * jnp.sum(jnp.square((x - y).astype(jnp.float32)))
        for x, y in zip(*map(jax.tree.leaves, (params, PARAMS)), strict=True)
    )


def moved(params):
    return distance(params) > 0


REFUSED = {
    "the surrogate falls": (lambda p: jnp.where(moved(p), -1.0, 0.0) + 1e-6 * total(p), distance),
    "the surrogate stays": (lambda p: total(p) - jax.lax.stop_gradient(total(p)), distance),
    "the surrogate is NaN": (lambda p: jnp.where(moved(p), jnp.nan, total(p)), distance),
    "the surrogate is infinite": (lambda p: jnp.where(moved(p), jnp.inf, total(p)), distance),
    "the surrogate is NaN everywhere": (lambda p: jnp.nan * total(p), distance),
    "the divergence is too large": (total, lambda p: distance(p) + jnp.where(moved(p), 1.0, 0.0)),
    "the divergence is NaN": (total, lambda p: distance(p) + jnp.where(moved(p), jnp.nan, 0.0)),
    "the divergence is minus infinity": (total, lambda p: distance(p) + jnp.where(moved(p), -jnp.inf, 0.0)),
    "the divergence is flat": (total, lambda p: 0.0 * distance(p) - 0.0),
    "the divergence bends down": (total, lambda p: -distance(p)),
    "the gradient is zero": (lambda p: 0.0 * total(p), distance),
    "the gradient is infinite": (lambda p: 1e38 * total(p) * 1e38, distance),
}


@pytest.mark.parametrize("name", ["the divergence is flat", "the divergence bends down", "the gradient is zero"])
def test_without_a_direction_no_candidate_is_tried(name):
    surrogate, kl = REFUSED[name]
    step = losses.trust_region_step(surrogate, kl, PARAMS, max_kl=0.01, damping=0.0)
    assert step.backtracks == 0
    surrogate, kl = REFUSED["the surrogate falls"]
    assert losses.trust_region_step(surrogate, kl, PARAMS, max_kl=0.01, damping=0.0).backtracks == 9


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(("surrogate", "kl"), REFUSED.values(), ids=list(REFUSED))
def test_where_no_step_is_good_the_parameters_come_back_bit_for_bit(surrogate, kl, jit):
    def take(params):
        return losses.trust_region_step(surrogate, kl, params, max_kl=0.01, damping=0.0)

    step = (jax.jit(take) if jit else take)(PARAMS)
    assert not step.accepted
    for old, new in zip(jax.tree.leaves(PARAMS), jax.tree.leaves(step.params), strict=True):
        assert old.dtype == new.dtype
        assert np.asarray(old).tobytes() == np.asarray(new).tobytes()
    assert step.kl == step.improvement == 0.0


def test_the_same_problem_without_the_obstacle_takes_a_step():
    step = losses.trust_region_step(total, distance, PARAMS, max_kl=0.01, damping=0.01)
    assert step.accepted
    assert step.params["b"].dtype == jnp.bfloat16


def learn(data):
    """A step of a problem whose data are arguments, so that it can be mapped."""
    logits, advantage = data

    def surrogate(params):
        return jnp.mean(jnp.sum(jax.nn.softmax(params) * advantage, axis=-1))

    return losses.trust_region_step(surrogate, categorical(logits), logits, max_kl=0.05, damping=1e-3, shrink=0.7)


def several(learners):
    logits, advantage = np.random.default_rng(7).normal(size=(2, learners, 6, 4)).astype(np.float32)
    logits = logits * np.linspace(0.5, 6.0, learners, dtype=np.float32)[:, None, None]
    advantage[1] = 0.0  # No gradient: this learner stays.
    return logits, advantage


def test_vmap_over_learners_equals_a_loop_and_each_searches_for_itself():
    data = several(5)
    looped = [jax.jit(learn)((data[0][i], data[1][i])) for i in range(5)]
    mapped = jax.jit(jax.vmap(learn))(data)
    for i, alone in enumerate(looped):
        one = jax.tree.map(lambda x, i=i: x[i], mapped)
        assert (one.accepted, one.backtracks) == (alone.accepted, alone.backtracks)
        np.testing.assert_allclose(one.params, alone.params, rtol=1e-3, atol=1e-4)
        assert float(one.kl) <= 0.05
    np.testing.assert_array_equal(mapped.accepted, [True, False, True, True, True])
    assert mapped.params[1].tobytes() == data[0][1].tobytes()
    assert len(set(mapped.backtracks.tolist())) > 1


def test_shard_map_takes_steps_with_its_default_checks():
    mesh = jax.make_mesh((8,), ("learner",), axis_types=(AxisType.Auto,))
    data = several(8)
    specs = P("learner")
    sharded = jax.jit(jax.shard_map(jax.vmap(learn), mesh=mesh, in_specs=((specs, specs),), out_specs=specs))(data)
    together = jax.jit(jax.vmap(learn))(data)
    np.testing.assert_array_equal(sharded.accepted, together.accepted)
    np.testing.assert_allclose(sharded.params, together.params, rtol=1e-3, atol=1e-4)


def test_options_of_a_learner_may_be_traced():
    surrogate, kl, params = problem(1)
    take = lambda max_kl: losses.trust_region_step(surrogate, kl, params, max_kl=max_kl).kl  # noqa: E731
    found = jax.vmap(take)(jnp.array([1e-3, 1e-2]))
    assert 0.0 < found[0] <= 1e-3 < found[1] <= 1e-2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_kl": 0.0}, "max_kl must be greater than 0"),
        ({"shrink": 0.0}, "shrink must be greater than 0"),
        ({"shrink": 1.5}, r"shrink must lie in \[0, 1\]"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"backtracks": 0}, "backtracks must be at least 1"),
    ],
)
def test_options_of_a_step_are_checked(option, message):
    surrogate, kl, params = problem(2)
    with pytest.raises(ValueError, match=message):
        losses.trust_region_step(surrogate, kl, params, **{"max_kl": 0.01} | option)


# On tabular processes, with exact distributions of states


def exactly(transition, reward, policy):
    """`(v, advantage [S, A], discounted visits [S])` from state 0 on."""
    kernel = np.einsum("sa,sax->sx", policy, transition)
    v = np.linalg.solve(np.eye(STATES) - GAMMA * kernel, np.sum(policy * reward, axis=-1))
    visits = np.linalg.inv(np.eye(STATES) - GAMMA * kernel)[0]
    return v, reward + GAMMA * transition @ v - v[:, None], visits


@jax.jit
def exact_step(logits, advantage, visits):
    """TRPO on the exact surrogate `Σ_s visits(s) Σ_a π(a|s) A(s, a)` and the mean divergence over visits."""
    old = jax.nn.log_softmax(logits)

    def kl(params):
        by_state = jnp.sum(jnp.exp(old) * (old - jax.nn.log_softmax(params)), axis=-1)
        return jnp.sum(visits * by_state) / jnp.sum(visits)

    def surrogate(params):
        return jnp.sum(visits[:, None] * jax.nn.softmax(params) * advantage)

    return losses.trust_region_step(surrogate, kl, logits, max_kl=1e-3, damping=1e-4, iterations=20)


@pytest.mark.parametrize("seed", range(4))
def test_on_a_process_improvement_and_drift_are_within_the_bounds_of_the_theory(seed, x64):
    transition, reward, old, _ = process(seed, 0.1)
    v, advantage, visits = exactly(transition, reward, old)
    step = exact_step(jnp.log(old), advantage, visits)
    assert step.accepted
    new = np.asarray(jax.nn.softmax(step.params))
    by_state = np.sum(old * np.log(old / new), axis=-1)
    assert visits @ by_state / visits.sum() <= 1e-3

    epsilon = total_variation(old, new)
    assert epsilon <= float(ops.total_variation_bound(jnp.asarray(by_state.max())))
    for t in range(10):
        drift = np.abs(states_at(transition, new, t) - states_at(transition, old, t)).sum()
        assert drift <= float(ops.state_drift_bound(epsilon, t)) + 1e-12

    improvement = (exactly(transition, reward, new)[0] - v)[0]
    np.testing.assert_allclose(step.improvement, visits @ np.sum(new * advantage, axis=-1), rtol=1e-6)
    horizon = 300
    largest = np.abs(np.sum(new * advantage, axis=-1)).max()
    error = float(ops.surrogate_error_bound(epsilon, GAMMA, horizon, largest))
    assert abs(improvement - float(step.improvement)) <= error + 1e-9
    assert improvement >= float(step.improvement) - float(
        ops.trust_region_bound(epsilon, GAMMA, np.abs(advantage).max())
    )
    assert improvement > 0


def test_repeated_steps_on_a_process_climb_to_the_best_policy(x64):
    transition, reward, old, _ = process(0, 0.1)
    best = np.zeros(STATES)
    for _ in range(500):
        best = np.max(reward + GAMMA * transition @ best, axis=-1)
    logits, values = jnp.log(old), []
    for _ in range(400):
        policy = np.asarray(jax.nn.softmax(logits))
        v, advantage, visits = exactly(transition, reward, policy)
        values.append(v[0])
        logits = exact_step(logits, advantage, visits).params
    assert np.all(np.diff(values) > -1e-9)
    assert values[-1] - values[0] > 0.95 * (best[0] - values[0])
    assert policy.shape == (STATES, ACTIONS)
