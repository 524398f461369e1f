"""The losses: values and gradients by hand, which inputs get gradients, padding, impossible actions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses
from tests import oracles
from tests.strategies import random_rows

impala_loss = jax.jit(losses.impala_loss)  # Many times faster than op by op.
INPUTS = ("log_pi_tm1", "log_mu_tm1", "v_tm1", "v_t", "r_t", "discount_t")


def impala_inputs(seed, *shape):
    """Arguments of `impala_loss` by name, whose log-ratio is that of the rows also given."""
    rows = random_rows(seed, *shape)
    log_mu = -np.random.default_rng(seed + 1).exponential(size=shape)
    arguments = {
        "log_pi_tm1": log_mu + rows.log_rho_tm1,
        "log_mu_tm1": log_mu,
        "v_tm1": rows.v_tm1,
        "v_t": rows.v_t,
        "r_t": rows.r_t,
        "discount_t": rows.discount_t,
        "same_episode_t": rows.same_episode_t,
        "entropy_tm1": np.random.default_rng(seed + 2).random(shape),
    }
    return {name: jnp.asarray(x) for name, x in arguments.items()}, rows


@jax.jit
def gradients(arguments, options):
    """Gradients of the loss with respect to all floating arguments, by name."""
    floating = {name: x for name, x in arguments.items() if x.dtype != bool}
    return jax.grad(lambda x: losses.impala_loss(**arguments | x, **options)[0])(floating)


# The parts


def test_the_policy_gradient_loss_is_minus_the_mean_of_advantage_times_log_probability():
    log_pi, advantage = jnp.array([-1.0, -2.0]), jnp.array([3.0, -4.0])
    value, (to_log_pi, to_advantage) = jax.value_and_grad(losses.policy_gradient_loss, (0, 1))(log_pi, advantage)
    assert value == -(3.0 * -1.0 + -4.0 * -2.0) / 2
    np.testing.assert_array_equal(to_log_pi, [-1.5, 2.0])
    np.testing.assert_array_equal(to_advantage, [0.0, 0.0])


def test_the_value_loss_is_half_the_mean_squared_error_and_moves_the_values_alone():
    v, target = jnp.array([1.0, 2.0]), jnp.array([4.0, 0.0])
    value, (to_v, to_target) = jax.value_and_grad(losses.value_loss, (0, 1))(v, target)
    assert value == (9.0 + 4.0) / 4
    np.testing.assert_array_equal(to_v, [-1.5, 1.0])
    np.testing.assert_array_equal(to_target, [0.0, 0.0])


def test_the_entropy_loss_is_minus_the_mean_entropy():
    value, gradient = jax.value_and_grad(losses.entropy_loss)(jnp.array([1.0, 3.0]))
    assert value == -2.0
    np.testing.assert_array_equal(gradient, [-0.5, -0.5])


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("loss", [losses.policy_gradient_loss, losses.value_loss])
def test_padded_rows_neither_count_nor_get_gradients(loss, garbage):
    x, y, valid = jnp.array([1.0, -2.0, garbage]), jnp.array([3.0, 0.5, garbage]), jnp.array([True, True, False])
    value, gradient = jax.value_and_grad(loss)(x, y, valid)
    alone, alone_gradient = jax.value_and_grad(loss)(x[:2], y[:2])
    assert value == alone
    np.testing.assert_array_equal(gradient, [*alone_gradient, 0.0])


def test_padded_entropies_neither_count_nor_get_gradients():
    value, gradient = jax.value_and_grad(losses.entropy_loss)(jnp.array([1.0, jnp.nan]), jnp.array([True, False]))
    assert value == -1.0
    np.testing.assert_array_equal(gradient, [-1.0, 0.0])


def test_a_batch_of_padding_alone_has_a_loss_of_zero():
    nothing = jnp.zeros(3, bool)
    assert losses.policy_gradient_loss(jnp.ones(3), jnp.ones(3), nothing) == 0.0
    assert losses.value_loss(jnp.ones(3), jnp.zeros(3), nothing) == 0.0
    assert losses.entropy_loss(jnp.ones(3), nothing) == 0.0


@pytest.mark.parametrize("loss", [losses.policy_gradient_loss, losses.value_loss])
def test_losses_of_bfloat16_are_computed_in_float32(loss):
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=4096), jnp.bfloat16) for _ in range(2))
    narrow, wide = loss(x, y), loss(x.astype(jnp.float32), y.astype(jnp.float32))
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, wide, rtol=1e-5)


def test_the_parts_name_shapes_that_differ():
    with pytest.raises(ValueError, match=r"log_pi_tm1 \[3\], advantage_tm1 \[2\]"):
        losses.policy_gradient_loss(jnp.ones(3), jnp.ones(2))
    with pytest.raises(ValueError, match=r"v_tm1 \[3\], target_tm1 \[3, 1\]"):
        losses.value_loss(jnp.ones(3), jnp.ones((3, 1)))
    with pytest.raises(ValueError, match=r"entropy_tm1 \[3\], is_valid_t \[2\]"):
        losses.entropy_loss(jnp.ones(3), jnp.ones(2, bool))


# impala_loss


def test_the_value_of_impalas_loss_is_the_papers(x64):
    arguments, rows = impala_inputs(0, 5, 3)
    options = {"lambda_": 0.8, "clip_rho": 1.2, "clip_c": 0.9, "clip_pg_rho": 2.0}
    target, advantage = oracles.vtrace(*rows, **options)
    policy = -np.mean(advantage * arguments["log_pi_tm1"])
    value = np.mean((target - rows.v_tm1) ** 2) / 2
    entropy = np.mean(arguments["entropy_tm1"])
    loss, metrics = impala_loss(**arguments, **options, value_cost=0.5, entropy_cost=0.3)
    np.testing.assert_allclose(loss, policy + 0.5 * value - 0.3 * entropy, rtol=1e-10)
    np.testing.assert_allclose(metrics["loss/policy"], policy, rtol=1e-10)
    np.testing.assert_allclose(metrics["loss/value"], value, rtol=1e-10)
    np.testing.assert_allclose(metrics["loss/entropy"], entropy, rtol=1e-10)


def test_the_gradients_of_impalas_loss_are_the_hand_derived_ones_and_all_else_is_constant(x64):
    arguments, rows = impala_inputs(1, 5, 3)
    target, advantage = oracles.vtrace(*rows, clip_pg_rho=2.0)
    options = {"clip_pg_rho": 2.0, "value_cost": 0.5, "entropy_cost": 0.3}
    result = gradients(arguments, options)
    size = rows.r_t.size
    expected = dict.fromkeys(result, np.zeros(rows.r_t.shape)) | {
        "log_pi_tm1": -advantage / size,
        "v_tm1": 0.5 * (rows.v_tm1 - target) / size,
        "entropy_tm1": np.full(rows.r_t.shape, -0.3 / size),
    }
    assert set(result) == {*INPUTS, "entropy_tm1"}
    for name, gradient in result.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-10, atol=1e-14, err_msg=name)


def test_the_metrics_carry_no_gradient():
    arguments, _ = impala_inputs(2, 5, 3)
    (_, metrics), pull = jax.vjp(
        lambda x, y: impala_loss(**arguments | {"log_pi_tm1": x, "v_tm1": y}),
        *(arguments[name] for name in ("log_pi_tm1", "v_tm1")),
    )
    for gradient in pull((jnp.zeros(()), jax.tree.map(jnp.ones_like, metrics))):
        np.testing.assert_array_equal(gradient, 0.0)


def test_the_metrics_describe_the_ratios_before_clipping():
    arguments, rows = impala_inputs(3, 5, 3)
    _, metrics = impala_loss(**arguments, clip_rho=1.5)
    rho = np.exp(rows.log_rho_tm1)
    np.testing.assert_allclose(metrics["ratio/max"], rho.max(), rtol=1e-4)
    np.testing.assert_allclose(metrics["ratio/clipped_rho"], np.mean(rho > 1.5), rtol=1e-6)
    np.testing.assert_allclose(metrics["ratio/clipped_c"], np.mean(rho > 1.0), rtol=1e-6)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_garbage_in_padding_changes_neither_impalas_loss_nor_its_gradients_nor_metrics(garbage):
    arguments, _ = impala_inputs(4, 5, 3)
    valid = jnp.asarray(np.arange(5)[:, None] < np.array([5, 3, 2]))

    def filled(fill):
        return {k: x if x.dtype == bool else jnp.where(valid, x, fill) for k, x in arguments.items()}

    clean, dirty = (gradients(filled(fill) | {"is_valid_t": valid}, {}) for fill in (0.0, garbage))
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    for name in ("log_pi_tm1", "v_tm1", "entropy_tm1"):
        assert np.all(np.isfinite(dirty[name]))
        assert np.all(dirty[name][~valid] == 0.0)
        assert np.all(dirty[name][valid] != 0.0)
    clean, dirty = (impala_loss(**filled(fill), is_valid_t=valid) for fill in (0.0, garbage))
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)


def test_padding_is_not_in_the_denominator_of_impalas_loss():
    arguments, _ = impala_inputs(5, 4, 1)
    padded = {name: jnp.concatenate([x, x]) for name, x in arguments.items()}
    valid = jnp.arange(8)[:, None] < 4
    alone, within = impala_loss(**arguments), impala_loss(**padded, is_valid_t=valid)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), alone, within)


@pytest.mark.parametrize("log_rho", [-1000.0, -100.0, 100.0, 1000.0])
def test_impalas_loss_and_gradients_are_finite_at_extreme_ratios(log_rho):
    arguments, _ = impala_inputs(6, 5, 3)
    arguments["log_pi_tm1"] = arguments["log_mu_tm1"] + jnp.float32(log_rho)
    assert np.isfinite(impala_loss(**arguments)[0])
    result = gradients(arguments, {})
    assert all(np.all(np.isfinite(gradient)) for gradient in result.values())


@pytest.mark.parametrize("log_mu", [-np.inf, -1.0])
def test_an_action_impossible_under_the_learning_policy_leaves_the_loss_finite_and_gets_no_gradient(log_mu):
    arguments, _ = impala_inputs(7, 5, 3)
    for name, x in (("log_pi_tm1", -jnp.inf), ("log_mu_tm1", log_mu)):
        arguments[name] = arguments[name].at[1, 0].set(x)
    assert np.isfinite(impala_loss(**arguments)[0])
    result = gradients(arguments, {})
    assert all(np.all(np.isfinite(gradient)) for gradient in result.values())
    assert result["log_pi_tm1"][1, 0] == 0.0


def test_a_masked_softmax_policy_learns_from_rows_beside_impossible_actions():
    logits = jnp.array([[0.0, 1.0, -jnp.inf], [0.5, 0.0, 0.0]])
    action = jnp.array([2, 1])  # The first was impossible for both policies, as in a row that only fills up.

    def loss(logits):
        log_pi = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], axis=1)[:, 0]
        one = jnp.ones(2)
        return impala_loss(log_pi, jax.lax.stop_gradient(log_pi), one, one, 2.0 * one, 0.0 * one)[0]

    gradient = jax.grad(loss)(logits)
    np.testing.assert_array_equal(gradient[0], np.zeros(3))
    assert np.all(np.isfinite(gradient[1]))
    assert gradient[1, 1] < 0.0


def test_a_time_limit_between_two_episodes_of_right_values_leaves_nothing_to_learn():
    value = jnp.array([1.0, 1.0, 100.0, 100.0])
    log_pi, zero = jnp.full(4, -0.5), jnp.zeros(4)
    cut = jnp.array([True, False, True, True])
    assert impala_loss(log_pi, log_pi, value, value, zero, zero + 1.0, cut)[0] == 0.0


def test_a_surprise_after_a_time_limit_teaches_nothing_about_the_rows_before_it():
    value, r_t = jnp.array([1.0, 1.0, 100.0, 100.0]), jnp.array([0.0, 0.0, 0.0, 5.0])
    log_pi, discount = jnp.full(4, -0.5), jnp.ones(4)
    gradient = jax.grad(lambda x, cut: impala_loss(x, log_pi, value, value, r_t, discount, cut)[0])
    np.testing.assert_array_equal(gradient(log_pi, jnp.array([True, False, True, True])), [0.0, 0.0, -1.25, -1.25])
    np.testing.assert_array_equal(gradient(log_pi, jnp.ones(4, bool)), np.full(4, -1.25))


def test_without_an_update_the_ratios_are_exactly_one():
    arguments, _ = impala_inputs(8, 5, 3)
    arguments["log_mu_tm1"] = arguments["log_pi_tm1"]
    _, metrics = impala_loss(**arguments)
    assert metrics["ratio/min"] == metrics["ratio/max"] == metrics["ratio/ess_fraction"] == 1.0
    assert metrics["ratio/kl_k1"] == metrics["ratio/kl_k3"] == 0.0


def test_impalas_loss_without_entropies_has_no_bonus():
    arguments, _ = impala_inputs(9, 5, 3)
    entropy = arguments.pop("entropy_tm1")
    without, metrics = impala_loss(**arguments)
    with_bonus, _ = impala_loss(**arguments, entropy_tm1=entropy, entropy_cost=2.0)
    assert "loss/entropy" not in metrics
    np.testing.assert_allclose(without - with_bonus, 2.0 * jnp.mean(entropy), rtol=1e-5)


def test_jit_and_vmap_of_impalas_loss_equal_a_loop_over_learners():
    arguments, _ = impala_inputs(10, 4, 3, 2)
    streams = [{name: x[:, i] for name, x in arguments.items()} for i in range(3)]
    looped = jax.tree.map(lambda *x: np.stack(x), *(impala_loss(**x) for x in streams))
    mapped = jax.jit(jax.vmap(lambda x: impala_loss(**x), in_axes=1))(arguments)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), mapped, looped)


@pytest.mark.parametrize("name", ["log_mu_tm1", "r_t", "entropy_tm1", "same_episode_t"])
def test_impalas_loss_names_a_shape_that_differs(name):
    arguments, _ = impala_inputs(11, 4, 2)
    arguments[name] = arguments[name][:, :1]
    with pytest.raises(ValueError, match=rf"must share one shape, but got: .*{name} \[4, 1\]"):
        losses.impala_loss(**arguments)


def test_impalas_loss_refuses_settings_out_of_range():
    arguments, _ = impala_inputs(12, 4, 2)
    with pytest.raises(ValueError, match="clip_rho must be greater than 0"):
        losses.impala_loss(**arguments, clip_rho=0.0)
    with pytest.raises(ValueError, match=r"lambda_ must lie in \[0, 1\]"):
        losses.impala_loss(**arguments, lambda_=-0.1)
