"""IMPALA's other corrections, and the losses of A2C and PPO as wholes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses, ops
from tests import oracles
from tests.losses.checks import close
from tests.losses.test_losses import impala_inputs

CORRECTIONS = pytest.mark.parametrize("correction", ["v-trace", "one-step", "epsilon", "none"])
UNCORRECTED = pytest.mark.parametrize("correction", ["one-step", "epsilon", "none"])


@functools.cache
def impala(correction, **options):
    """`(floating arguments, others) → ((loss, metrics), gradients by name)`."""
    loss = lambda x, rest: losses.impala_loss(**x, **rest, correction=correction, **options)  # noqa: E731
    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def split(arguments):
    floating = {name: x for name, x in arguments.items() if x.dtype != bool}
    return floating, {name: x for name, x in arguments.items() if x.dtype == bool}


# impala_loss, corrected in other ways


@UNCORRECTED
@pytest.mark.parametrize("lambda_", [1.0, 0.7])
def test_the_variants_of_impala_are_the_papers(correction, lambda_, x64):
    arguments, rows = impala_inputs(0, 6, 3)
    arguments["log_pi_tm1"] = arguments["log_pi_tm1"].at[0, 0].set(-14.0)
    log_pi = np.asarray(arguments["log_pi_tm1"])
    rho = np.exp(log_pi - np.asarray(arguments["log_mu_tm1"]))
    target, advantage = oracles.vtrace(*rows._replace(log_rho_tm1=np.zeros(rho.shape)), lambda_=lambda_)
    advantage = advantage * np.minimum(rho, 1.4) if correction == "one-step" else advantage
    used, slope = log_pi, 1.0
    if correction == "epsilon":
        used, slope = np.log(np.exp(log_pi) + 1e-6), np.exp(log_pi) / (np.exp(log_pi) + 1e-6)

    # The other bounds would change everything if they were used.
    options = {"lambda_": lambda_, "clip_pg_rho": 1.4, "clip_rho": 0.3, "clip_c": 0.2}
    (loss, metrics), gradients = impala(correction, **options, value_cost=0.5, entropy_cost=0.0)(*split(arguments))
    policy = -np.mean(advantage * used)
    value = 0.5 * np.mean((target - rows.v_tm1) ** 2)
    close(metrics["loss/policy"], policy)
    close(metrics["loss/value"], value)
    close(loss, policy + 0.5 * value)
    close(gradients["log_pi_tm1"], -advantage * slope / advantage.size)
    close(gradients["v_tm1"], 0.5 * (rows.v_tm1 - target) / advantage.size)
    for name in ("log_mu_tm1", "v_t", "r_t", "discount_t"):
        np.testing.assert_array_equal(gradients[name], np.zeros(rho.shape))


def test_targets_without_correction_are_n_step_returns():
    arguments, rows = impala_inputs(1, 6, 3)
    returns = ops.lambda_returns(*(jnp.asarray(x) for x in (rows.v_t, rows.r_t, rows.discount_t, rows.same_episode_t)))
    _, gradients = impala("none", entropy_cost=0.0)(*split(arguments))
    expected = (arguments["v_tm1"] - returns) / returns.size
    np.testing.assert_allclose(gradients["v_tm1"], expected, rtol=1e-3, atol=1e-5)


@UNCORRECTED
def test_where_the_policies_agree_all_corrections_do(correction):
    arguments, _ = impala_inputs(2, 5, 3)
    arguments["log_mu_tm1"] = arguments["log_pi_tm1"]
    ours, vtrace = (impala(name)(*split(arguments)) for name in (correction, "v-trace"))
    # ε adds 1e−6 to probabilities.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), ours, vtrace)


def test_off_policy_every_correction_is_another_one():
    arguments, _ = impala_inputs(3, 5, 3)
    arguments["log_pi_tm1"] = arguments["log_pi_tm1"].at[0].set(-14.0)
    found = {float(impala(name)(*split(arguments))[0][0]) for name in ("v-trace", "one-step", "epsilon", "none")}
    assert len(found) == 4


@UNCORRECTED
def test_every_correction_reports_the_same_ratios(correction):
    arguments, _ = impala_inputs(4, 5, 3)
    (_, ours), _ = impala(correction, clip_rho=1.5)(*split(arguments))
    (_, theirs), _ = impala("v-trace", clip_rho=1.5)(*split(arguments))
    assert list(ours) == list(theirs)
    for name in ours:
        if name.startswith("ratio/"):
            np.testing.assert_array_equal(ours[name], theirs[name])


@CORRECTIONS
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_garbage_in_padding_is_inert_under_every_correction(correction, garbage):
    arguments, _ = impala_inputs(5, 5, 3)
    valid = jnp.asarray(np.arange(5)[:, None] < np.array([5, 3, 2]))
    floating, rest = split(arguments)
    clean, dirty = (
        impala(correction)({k: jnp.where(valid, x, fill) for k, x in floating.items()}, rest | {"is_valid_t": valid})
        for fill in (0.0, garbage)
    )
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    assert np.all(np.isfinite(dirty[1]["log_pi_tm1"]))
    np.testing.assert_array_equal(dirty[1]["log_pi_tm1"][~valid], 0.0)


@CORRECTIONS
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("has_flags", [True, False])
def test_the_values_of_terminal_states_are_inert_under_every_correction(correction, garbage, has_flags):
    arguments, _ = impala_inputs(5, 6, 3)
    terminal = np.zeros((6, 3), bool)
    terminal[[2, 5, 4], [0, 1, 1]] = True
    arguments["discount_t"] = jnp.where(terminal, 0.0, 0.9)
    arguments["same_episode_t"] = arguments["same_episode_t"] & ~terminal
    if not has_flags:
        del arguments["same_episode_t"]
    spoiled = arguments | {"v_t": jnp.where(terminal, garbage, arguments["v_t"])}
    clean, dirty = (impala(correction)(*split(x)) for x in (arguments, spoiled))
    assert np.isfinite(clean[0][0])
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)


def test_a_cost_of_zero_leaves_its_part_out_whatever_it_came_to():
    x = jnp.zeros(3)
    for name, costs in (("entropy_tm1", {"entropy_cost": 0}), ("target_tm1", {"value_cost": 0.0})):
        arguments = {"target_tm1": x, "entropy_tm1": x} | {name: x.at[1].set(jnp.nan)}
        for loss in (losses.a2c_loss, losses.ppo_loss):
            total, metrics = loss(x - 1.0, x - 1.0, x + 1.0, x, **arguments, **costs)
            assert np.isfinite(total)
            assert np.isnan(sum(metrics[part] for part in ("loss/value", "loss/entropy")))


@CORRECTIONS
@pytest.mark.parametrize("log_rho", [-1000.0, 1000.0])
def test_every_correction_is_finite_at_extreme_ratios(correction, log_rho):
    arguments, _ = impala_inputs(6, 5, 3)
    arguments["log_pi_tm1"] = arguments["log_mu_tm1"] + jnp.float32(log_rho)
    (loss, _), gradients = impala(correction, clip_pg_rho=np.inf)(*split(arguments))
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(x)) for x in gradients.values())


@UNCORRECTED
@pytest.mark.parametrize("log_mu", [-np.inf, -1.0])
def test_an_impossible_action_adds_nothing_under_any_correction(correction, log_mu):
    arguments, _ = impala_inputs(7, 5, 3)
    for name, x in (("log_pi_tm1", -jnp.inf), ("log_mu_tm1", log_mu)):
        arguments[name] = arguments[name].at[1, 0].set(x)
    (loss, _), gradients = impala(correction)(*split(arguments))
    assert np.isfinite(loss)
    assert np.all(np.isfinite(gradients["log_pi_tm1"]))
    assert gradients["log_pi_tm1"][1, 0] == 0.0
    # Its own reward still counts for the value, but for no policy.
    zero = {name: jnp.zeros_like(x) for name, x in arguments.items() if name in ("v_tm1", "v_t", "r_t")}
    zero["r_t"] = zero["r_t"].at[1, 0].set(1.0)
    alone = arguments | zero | {"same_episode_t": jnp.zeros((5, 3), bool)}
    assert impala(correction)(*split(alone))[0][1]["loss/policy"] == 0.0


def test_epsilon_bounds_the_logarithm_and_its_gradient():
    log_pi, x = jnp.array([-1000.0, -0.5]), jnp.zeros(2)

    def loss(log_pi):
        return losses.impala_loss(log_pi, x - 1.0, x, x, x + 1.0, x, correction="epsilon")[0]

    value, gradient = jax.value_and_grad(loss)(log_pi)
    np.testing.assert_allclose(value, -0.5 * (np.log(1e-6) - 0.5) + 0.5, rtol=1e-5)
    np.testing.assert_allclose(gradient, [0.0, -0.5], rtol=1e-5)


def test_a_correction_that_does_not_exist_is_refused():
    arguments, _ = impala_inputs(8, 4, 2)
    expected = "correction must be one of v-trace, one-step, epsilon, none, but it is 'retrace'"
    with pytest.raises(ValueError, match=expected):
        losses.impala_loss(**arguments, correction="retrace")


@CORRECTIONS
@pytest.mark.parametrize("bound", ["clip_rho", "clip_c", "clip_pg_rho"])
def test_bounds_out_of_range_are_refused_under_every_correction(correction, bound):
    arguments, _ = impala_inputs(9, 4, 2)
    with pytest.raises(ValueError, match=f"{bound} must be greater than 0"):
        losses.impala_loss(**arguments, correction=correction, **{bound: 0.0})


# a2c_loss and ppo_loss

RNG = np.random.default_rng(10)
LOG_PI, LOG_MU, ADVANTAGE, V, TARGET, ENTROPY, PROX, V_OLD = RNG.normal(size=(8, 6, 3))


def gradients_of(loss, **options):
    """`((loss, metrics), gradients of the first six arguments)`."""
    whole = jax.value_and_grad(lambda *x: loss(*x, **options), tuple(range(6)), has_aux=True)
    return whole(*(jnp.asarray(x) for x in (LOG_PI, LOG_MU, ADVANTAGE, V, TARGET, ENTROPY)))


def test_a2cs_loss_and_gradients_are_those_of_its_parts(x64):
    (loss, metrics), gradients = gradients_of(losses.a2c_loss, value_cost=0.5, entropy_cost=0.3)
    policy, value = -np.mean(ADVANTAGE * LOG_PI), 0.5 * np.mean((TARGET - V) ** 2)
    close(loss, policy + 0.5 * value - 0.3 * np.mean(ENTROPY))
    expected = [-ADVANTAGE / 18, 0, 0, 0.5 * (V - TARGET) / 18, 0, -0.3 / 18]
    for found, wanted in zip(gradients, expected, strict=True):
        close(found, np.zeros((6, 3)) + wanted)
    close(metrics["loss/policy"], policy)
    close(metrics["loss/value"], value)
    close(metrics["loss/entropy"], np.mean(ENTROPY))
    close(metrics["ratio/max"], np.exp(LOG_PI - LOG_MU).max(), rtol=1e-6)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("clip_values", [False, True])
def test_ppos_loss_and_gradients_are_those_of_its_parts(decoupled, clip_values, x64):
    prox = {"log_proximal_tm1": jnp.asarray(PROX)} if decoupled else {}
    old = {"v_old_tm1": jnp.asarray(V_OLD)} if clip_values else {}
    (loss, metrics), gradients = gradients_of(
        losses.ppo_loss, **prox, **old, clip_epsilon=0.3, value_cost=0.5, entropy_cost=0.2
    )
    policy, to_log_pi = jax.value_and_grad(losses.ppo_clip_loss)(LOG_PI, LOG_MU, ADVANTAGE, clip_epsilon=0.3, **prox)
    if clip_values:
        value_loss = lambda v: losses.clipped_value_loss(v, V_OLD, TARGET, clip_epsilon=0.3)  # noqa: E731
    else:
        value_loss = lambda v: losses.value_loss(v, TARGET)  # noqa: E731
    value, to_v = jax.value_and_grad(value_loss)(V)
    close(loss, policy + 0.5 * value - 0.2 * np.mean(ENTROPY))
    for found, wanted in zip(gradients, [to_log_pi, 0, 0, 0.5 * to_v, 0, -0.2 / 18], strict=True):
        close(found, np.zeros((6, 3)) + wanted)
    close(metrics["loss/policy"], policy)
    close(metrics["loss/value"], value)
    r = np.exp(LOG_PI - (PROX if decoupled else LOG_MU))
    close(metrics["ratio/clipped"], np.mean((r > 1.3) | (r < 0.7)), rtol=1e-6)
    close(metrics["ratio/clipped_rho"], np.mean(np.exp(LOG_PI - LOG_MU) > 1.3), rtol=1e-6)
    close(metrics["ratio/kl_k1"], np.mean(LOG_MU - LOG_PI), rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.a2c_loss, losses.ppo_loss], ids=["a2c", "ppo"])
def test_garbage_in_padding_of_whole_losses_is_inert(loss):
    valid = np.arange(6)[:, None] < np.array([6, 3, 1])
    arrays = [x.astype(np.float32) for x in (LOG_PI, LOG_MU, ADVANTAGE, V, TARGET, ENTROPY)]
    options = {"is_valid_t": valid}
    if loss is losses.ppo_loss:
        options |= {"log_proximal_tm1": np.float32(PROX), "v_old_tm1": np.float32(V_OLD)}

    def filled(fill):
        rest = {k: x if x.dtype == bool else np.where(valid, x, np.float32(fill)) for k, x in options.items()}
        whole = jax.value_and_grad(lambda *x: loss(*x, **rest), (0, 3, 5), has_aux=True)
        return whole(*(np.where(valid, x, np.float32(fill)) for x in arrays))

    clean, dirty = filled(0.0), filled(np.nan)
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    assert np.isfinite(dirty[0][0])
    for gradient in dirty[1]:
        np.testing.assert_array_equal(gradient[~valid], 0.0)
    if loss is losses.ppo_loss:
        outside = np.abs(np.exp(LOG_PI - PROX) - 1.0)[valid] > 0.2
        np.testing.assert_allclose(dirty[0][1]["ratio/clipped"], np.mean(outside), rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.a2c_loss, losses.ppo_loss], ids=["a2c", "ppo"])
def test_whole_losses_without_entropies_have_no_bonus_and_name_wrong_shapes(loss):
    arrays = [jnp.asarray(x, jnp.float32) for x in (LOG_PI, LOG_MU, ADVANTAGE, V, TARGET)]
    without, metrics = loss(*arrays)
    assert "loss/entropy" not in metrics
    np.testing.assert_allclose(without, metrics["loss/policy"] + metrics["loss/value"], rtol=1e-6)
    with pytest.raises(ValueError, match=r"entropy_tm1 \[6, 1\]"):
        loss(*arrays, jnp.zeros((6, 1)))
    with pytest.raises(ValueError, match=r"v_tm1 \[6\]"):
        loss(*arrays[:3], jnp.zeros(6), jnp.zeros(6))


def test_the_metrics_of_whole_losses_carry_no_gradient():
    for loss in (losses.a2c_loss, losses.ppo_loss):
        _, pull = jax.vjp(lambda x, f=loss: f(x, *(np.float32(y) for y in (LOG_MU, ADVANTAGE, V, TARGET)))[1], LOG_PI)
        metrics = loss(*(np.float32(x) for x in (LOG_PI, LOG_MU, ADVANTAGE, V, TARGET)))[1]
        np.testing.assert_array_equal(pull(jax.tree.map(jnp.ones_like, metrics))[0], np.zeros((6, 3)))
