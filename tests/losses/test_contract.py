"""What holds for every loss on an old policy's rows: finite, padding inert, constants constant, any batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses, ops
from tests.losses.action_value_cases import CASES, draw, is_float
from tests.losses.checks import random_arguments


def per_decision(log_pi, log_mu, r_t, valid=None, **options):
    discount_t = jnp.full(jnp.shape(r_t), 0.9)
    return losses.per_decision_policy_gradient_loss(log_pi, log_mu, r_t, discount_t, None, valid, **options)


def product(log_pi, log_mu, advantage, valid=None, **options):
    return losses.product_of_ratios_loss(log_pi, log_mu, advantage, None, valid, **options)


def kl_penalty(log_pi, log_mu, advantage, valid=None):
    kl = jax.lax.stop_gradient(jnp.square(jnp.asarray(advantage, jnp.float32)))
    return losses.kl_penalty_loss(log_pi, log_mu, advantage, kl, valid, beta=0.5)


def decoupled(log_pi, log_mu, advantage, valid=None):
    return losses.ppo_clip_loss(
        log_pi, log_mu, advantage, valid, log_proximal_tm1=jnp.asarray(log_mu, jnp.float32) + 0.1
    )


def corrected(log_pi, log_mu, advantage, valid=None):
    """A third policy's tokens: weights of a level and a mask of another, everything packed."""
    if jnp.ndim(log_pi) == 0:
        return losses.dapo_loss(log_pi, log_mu, advantage, valid)
    place = jnp.arange(len(log_pi)).reshape(-1, *(1,) * (jnp.ndim(log_pi) - 1))
    log_w, segments = (jnp.broadcast_to(x, jnp.shape(log_pi)) for x in (0.01 * (place - 2.0), place // 3))
    weight = ops.masked_weights(log_w, valid, mask_level="geometric", segment_ids_t=segments)
    how = dict(weight_tm1=weight, segment_ids_t=segments, aggregation="sequence-mean-token-sum")
    return losses.dapo_loss(log_pi, log_mu, advantage, valid, **how)


WEIGHTED = {
    "per-step": losses.per_step_ratio_loss,
    "per-step clipped": functools.partial(losses.per_step_ratio_loss, clip_rho=1.5),
    "product": product,
    "product truncated": functools.partial(product, truncation=2.0),
    "product self-normalized": functools.partial(product, self_normalized=True),
    "surrogate": losses.surrogate_loss,
    "ppo": losses.ppo_clip_loss,
    "p3o": losses.p3o_loss,
    "cispo": losses.cispo_loss,
    "topr": losses.topr_loss,
    "topr step": functools.partial(losses.topr_loss, level="step"),
    "vespo": losses.vespo_loss,
    "dppo": losses.dppo_loss,
    "dppo kl": functools.partial(losses.dppo_loss, divergence="kl"),
    "dro": functools.partial(losses.dro_loss, beta=0.5),
    "dapo": functools.partial(losses.dapo_loss, dual_clip=3.0),
    "gspo token": losses.gspo_token_loss,
    "sapo": losses.sapo_loss,
    "kl-cov": losses.kl_cov_loss,
} | {
    f"{name} {level}": functools.partial(loss, level=level, **options)
    for level in ("step", "sequence", "geometric")
    for name, loss, options in (
        ("truncated", losses.truncated_is_loss, {}),
        ("masked", losses.masked_is_loss, {"low": 0.0, "high": np.inf}),
    )
}
"""Those that are the plain policy gradient where the policies agree."""
LOSSES = WEIGHTED | {
    "awr": lambda log_pi, log_mu, advantage, valid=None: losses.awr_loss(log_pi, advantage, valid, temperature=0.7),
    "per-decision": per_decision,
    "per-decision self-normalized": functools.partial(per_decision, self_normalized=True),
    "ppo decoupled": decoupled,
    "kl penalty": kl_penalty,
    "gspo": losses.gspo_loss,
    "gmpo": losses.gmpo_loss,
    "dro sequence": functools.partial(losses.dro_loss, beta=0.5, level="sequence"),
    "clip-cov": functools.partial(losses.clip_cov_loss, key=jax.random.key(0), low=0.1),
    "corrected": corrected,
}
EACH = pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
USES_MU = {name: loss for name, loss in LOSSES.items() if name != "awr"}


@functools.cache
def compiled(loss):
    """`(log_pi, log_mu, advantage, valid) → (value, gradients of the three)`."""
    return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))


@EACH
@pytest.mark.parametrize("log_rho", [-1000.0, -100.0, 100.0, 1000.0, "mixed"])
def test_value_and_gradients_are_finite_at_extreme_ratios(loss, log_rho):
    _, log_mu, advantage = random_arguments(0, 6, 3)
    if log_rho == "mixed":
        log_rho = np.resize(np.float32([1000.0, -1000.0, 0.0, 1000.0]), (6, 3))
    value, result = compiled(loss)(log_mu + np.float32(log_rho), log_mu, advantage)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(x)) for x in result)
    # So that clipping by the global norm still works.
    assert np.isfinite(sum(jnp.sum(jnp.square(x)) for x in result))


@EACH
def test_only_the_learning_policy_gets_gradients(loss):
    _, (to_pi, to_mu, to_advantage) = compiled(loss)(*random_arguments(1, 6, 3))
    assert np.any(to_pi != 0.0)
    np.testing.assert_array_equal(to_mu, np.zeros((6, 3)))
    np.testing.assert_array_equal(to_advantage, np.zeros((6, 3)))


@EACH
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_garbage_in_padding_changes_neither_value_nor_gradients(loss, garbage):
    arguments = random_arguments(2, 6, 3, spread=0.1)
    valid = np.arange(6)[:, None] < np.array([6, 4, 1])
    clean, dirty = (
        compiled(loss)(*(np.where(valid, x, np.float32(fill)) for x in arguments), valid) for fill in (0.0, garbage)
    )
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    assert np.isfinite(dirty[0])
    np.testing.assert_array_equal(dirty[1][0][~valid], 0.0)


@EACH
def test_padding_is_not_in_the_denominator(loss):
    arguments = random_arguments(3, 4, 3)
    valid = np.broadcast_to(np.arange(6)[:, None] < 4, (6, 3))
    padded = (np.concatenate([x, np.full((2, 3), np.nan, np.float32)]) for x in arguments)
    value, (gradient, *_) = compiled(loss)(*arguments)
    padded_value, (padded_gradient, *_) = compiled(loss)(*padded, valid)
    np.testing.assert_allclose(padded_value, value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(padded_gradient[:4], gradient, rtol=1e-5, atol=1e-6)


@EACH
def test_a_batch_of_padding_alone_has_a_loss_of_zero_and_no_gradient(loss):
    value, result = compiled(loss)(*random_arguments(4, 6, 3), np.zeros((6, 3), bool))
    assert value == 0.0
    assert all(np.all(x == 0.0) for x in result)


@EACH
@pytest.mark.parametrize("log_mu", [-np.inf, -1.0])
def test_an_impossible_action_gets_no_gradient_and_spoils_no_other(loss, log_mu):
    log_pi, mu, advantage = random_arguments(5, 6, 3)
    log_pi[2, 1], mu[2, 1] = -np.inf, log_mu
    value, result = compiled(loss)(log_pi, mu, advantage)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(x)) for x in result)
    assert result[0][2, 1] == 0.0
    assert np.any(result[0][:, 0] != 0.0)


@EACH
def test_an_action_that_only_the_old_policy_excludes_spoils_nothing(loss):
    log_pi, mu, advantage = random_arguments(12, 6, 3)
    log_pi[1, 1] = mu[2, 1] = -np.inf
    value, result = compiled(loss)(log_pi, mu, advantage)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(x)) for x in result)
    sees_logarithm = ("p3o", "ppo decoupled", "dro", "dro sequence", "kl-cov", "corrected")
    if loss not in [LOSSES[name] for name in sees_logarithm]:
        mu[2, 1] = -1e6
        jax.tree.map(np.testing.assert_array_equal, (value, result), compiled(loss)(log_pi, mu, advantage))


@pytest.mark.parametrize("loss", [x for name, x in LOSSES.items() if name != "kl penalty"])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("log_mu", [-np.inf, -1.0])
def test_the_advantage_of_an_impossible_action_does_not_count(loss, garbage, log_mu):
    log_pi, mu, advantage = random_arguments(13, 6, 3)
    # In the last row, where a reward counts for no earlier one but through the ratio.
    log_pi[5, 1], mu[5, 1], advantage[5, 1] = -np.inf, log_mu, 0.0
    clean = compiled(loss)(log_pi, mu, advantage)
    advantage[5, 1] = garbage
    if log_mu == -np.inf and loss in (LOSSES["per-decision"], LOSSES["per-decision self-normalized"]):
        return  # A reward that came nevertheless, with a ratio of one.
    jax.tree.map(np.testing.assert_array_equal, clean, compiled(loss)(log_pi, mu, advantage))


@pytest.mark.parametrize("name", ["per-step", "surrogate", "ppo", "truncated step", "cispo", "topr"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("log_mu", [-np.inf, -1.0])
def test_an_impossible_action_adds_nothing_to_the_loss(name, sign, log_mu):
    log_pi, mu, advantage = random_arguments(6, 1, 4)
    log_pi[0, 1], mu[0, 1], advantage[0, 1] = -np.inf, log_mu, sign
    without = tuple(np.delete(x, 1, axis=1) for x in (log_pi, mu, advantage))
    loss = LOSSES[name]
    np.testing.assert_allclose(4.0 * loss(log_pi, mu, advantage), 3.0 * loss(*without), rtol=1e-5)


@EACH
def test_bfloat16_is_computed_in_float32(loss):
    arguments = tuple(jnp.asarray(x, jnp.bfloat16) for x in random_arguments(7, 6, 3, spread=0.1))
    value, result = compiled(loss)(*arguments)
    wide, wide_result = compiled(loss)(*(x.astype(jnp.float32) for x in arguments))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, wide, rtol=1e-5)
    assert result[0].dtype == jnp.bfloat16
    assert wide_result[0].dtype == jnp.float32


@EACH
def test_vmap_and_jit_equal_a_loop(loss):
    arguments = random_arguments(8, 4, 3, 2)
    looped = [compiled(loss)(*(x[:, :, i] for x in arguments))[0] for i in range(2)]
    mapped = jax.jit(jax.vmap(loss, in_axes=2))(*arguments)
    np.testing.assert_allclose(mapped, looped, rtol=1e-4, atol=1e-5)


@EACH
def test_one_stream_without_a_batch_axis_is_like_one_with_it(loss):
    arguments = random_arguments(9, 5, 1)
    np.testing.assert_allclose(loss(*(x[:, 0] for x in arguments)), loss(*arguments), rtol=1e-5)


@pytest.mark.parametrize("loss", WEIGHTED.values(), ids=list(WEIGHTED))
def test_where_the_policies_agree_every_loss_has_the_plain_policy_gradient(loss):
    log_pi, _, advantage = random_arguments(10, 6, 3)
    value, (gradient, *_) = compiled(loss)(log_pi, log_pi, advantage)
    plain = jax.grad(losses.policy_gradient_loss)(log_pi, advantage)
    np.testing.assert_allclose(gradient, plain, rtol=1e-5)
    np.testing.assert_allclose(plain, -advantage / 18, rtol=1e-5)
    assert np.isfinite(value)


@pytest.mark.parametrize("loss", [losses.gspo_loss, losses.gmpo_loss], ids=["gspo", "gmpo"])
def test_where_the_policies_agree_a_sequences_advantage_is_shared_by_its_rows(loss):
    log_pi, _, advantage = random_arguments(11, 6, 3)
    whole = np.broadcast_to(advantage[:1], (6, 3))
    _, (gradient, *_) = compiled(loss)(log_pi, log_pi, whole)
    np.testing.assert_allclose(gradient, -whole / 18, rtol=1e-5)


@pytest.mark.parametrize("loss", USES_MU.values(), ids=list(USES_MU))
def test_shapes_that_differ_are_named(loss):
    x, y = jnp.zeros((4, 2)), jnp.zeros((4, 1))
    with pytest.raises(ValueError, match=r"must share one shape, but got: .*log_mu_tm1 \[4, 1\]"):
        loss(x, y, x)
    with pytest.raises(ValueError, match=r"must share one shape, but got: .*\[4, 1\]"):
        loss(x, x, y)
    with pytest.raises(ValueError, match=r"must share one shape, but got: .*is_valid_t \[4, 1\]"):
        loss(x, x, x, jnp.ones((4, 1), bool))


@EACH
def test_masks_that_are_not_boolean_are_refused(loss):
    x = jnp.zeros((4, 2))
    with pytest.raises(TypeError, match="is_valid_t must be boolean"):
        loss(x, x, x, jnp.ones((4, 2)))


@EACH
def test_rows_without_a_time_axis_are_refused(loss):
    x = jnp.zeros(())
    with pytest.raises(ValueError, match=r"must be \[T, \*B\] with T ≥ 1"):
        loss(x, x, x)


# Losses of action values: the same of all arguments that they have

EACH_CASE = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


@functools.cache
def slopes(loss):
    """`(floating arguments, the others, valid) → (value, gradients of all floating ones)`, compiled once."""
    return jax.jit(jax.value_and_grad(lambda x, y, valid: CASES[loss](x | y, valid)))


def evaluated(case, x, valid=None):
    (name,) = (name for name, other in CASES.items() if other is case)
    floating = {name: value for name, value in x.items() if is_float(value) and name in case.names}
    return slopes(name)(floating, {name: value for name, value in x.items() if name not in floating}, valid)


def rows_that_count(valid, x):
    return valid.reshape(valid.shape + (1,) * (x.ndim - valid.ndim))


VALID = np.arange(6)[:, None] < np.array([6, 4, 1])


@EACH_CASE
def test_of_action_values_the_first_argument_alone_learns(case):
    value, gradients = evaluated(case, draw(20, 6, 3))
    assert np.isfinite(value)
    for name, gradient in gradients.items():
        assert np.any(gradient != 0.0) == (name == case.names[0]), name


@EACH_CASE
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_garbage_in_padding_changes_no_loss_of_action_values(case, garbage):
    x, results = draw(21, 6, 3), []
    for fill, action in ((0.0, 0), (garbage, -1)):
        spoiled = {
            name: np.where(rows_that_count(VALID, y), y, np.float32(fill) if is_float(y) else action)
            for name, y in x.items()
        }
        results.append(evaluated(case, spoiled, VALID))
    jax.tree.map(np.testing.assert_array_equal, *results)
    assert np.isfinite(results[1][0])
    np.testing.assert_array_equal(results[1][1][case.names[0]][~VALID], 0.0)


@EACH_CASE
def test_padding_is_not_in_the_denominator_of_action_values(case):
    x = draw(22, 6, 3)
    valid = np.broadcast_to(np.arange(6)[:, None] < 4, (6, 3))
    # Where the unroll ends does not matter if the last row that counts ends its episode.
    x["discount_t"][3] = 0.0
    value, gradients = evaluated(case, {name: y[:4] for name, y in x.items()})
    padded, padded_gradients = evaluated(case, x, valid)
    np.testing.assert_allclose(padded, value, rtol=1e-5)
    first = case.names[0]
    np.testing.assert_allclose(padded_gradients[first][:4], gradients[first], rtol=1e-5, atol=1e-6)


@EACH_CASE
def test_padding_alone_has_a_loss_of_action_values_of_zero(case):
    value, gradients = evaluated(case, draw(23, 6, 3), np.zeros((6, 3), bool))
    assert value == 0.0
    assert all(np.all(x == 0.0) for x in gradients.values())


@EACH_CASE
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_what_stands_behind_a_terminal_state_does_not_count(case, garbage):
    behind = [name for name in ("q_t", "selector_t", "theta_t", "log_pi_t", "a_t") if name in case.names]
    if not behind:
        return  # Its target is made elsewhere.
    x = draw(24, 6, 3)
    ends, results = x["discount_t"] == 0.0, []
    assert ends.any()
    for fill, action in ((0.0, 0), (garbage, -1)):
        spoiled = {
            name: np.where(rows_that_count(~ends, x[name]), x[name], np.float32(fill) if is_float(x[name]) else action)
            for name in behind
        }
        results.append(evaluated(case, x | spoiled))
    jax.tree.map(np.testing.assert_array_equal, *results)
    assert np.isfinite(results[1][0])


@EACH_CASE
def test_losses_of_action_values_compute_bfloat16_in_float32(case):
    x = {name: jnp.asarray(y, jnp.bfloat16) if is_float(y) else y for name, y in draw(25, 6, 3).items()}
    value, gradients = evaluated(case, x)
    wide, _ = evaluated(case, {name: y.astype(jnp.float32) if is_float(y) else y for name, y in x.items()})
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, wide, rtol=1e-5)
    assert gradients[case.names[0]].dtype == jnp.bfloat16


@EACH_CASE
def test_losses_of_action_values_are_means_over_streams_and_take_one_without_an_axis(case):
    x = draw(26, 6, 3)
    alone = [evaluated(case, {name: y[:, i] for name, y in x.items()})[0] for i in range(3)]
    np.testing.assert_allclose(evaluated(case, x)[0], np.mean(alone), rtol=1e-5)
    mapped = jax.jit(jax.vmap(lambda x: case(x), in_axes=(dict.fromkeys(x, 1),)))(x)
    np.testing.assert_allclose(mapped, alone, rtol=1e-5)


@EACH_CASE
def test_weights_of_rows_are_constants_that_multiply_their_share(case):
    x = draw(27, 6, 3)
    weight = np.random.default_rng(0).random((6, 3)).astype(np.float32)
    to_weight = jax.jit(jax.value_and_grad(lambda w: case(x, weight_tm1=w)))
    value, gradient = to_weight(weight)
    np.testing.assert_array_equal(gradient, 0.0)
    each = [to_weight(w)[0] for w in np.eye(18, dtype=np.float32).reshape(18, 6, 3)]
    np.testing.assert_allclose(value, np.dot(each, weight.ravel()), rtol=1e-5)
    np.testing.assert_allclose(np.sum(each), evaluated(case, x)[0], rtol=1e-5)


@EACH_CASE
def test_losses_of_action_values_name_what_is_wrong(case):
    x = draw(28, 4, 2)
    call = lambda x, *valid, **more: jax.eval_shape(lambda: case(x, *valid, **more))  # noqa: E731
    with pytest.raises(TypeError, match="is_valid_t must be boolean"):
        call(x, np.ones((4, 2), np.float32))
    with pytest.raises(ValueError, match=r"is_valid_t \[4, 1\]"):
        call(x, np.ones((4, 1), bool))
    with pytest.raises(ValueError, match=r"weight_tm1 \[4, 1\]"):
        call(x, weight_tm1=np.ones((4, 1), np.float32))
    for name in case.names:
        with pytest.raises((TypeError, ValueError), match=r"\[3, 2|\[4, 2"):
            call(x | {name: x[name][:3]})
        with pytest.raises(TypeError, match=r"must be floating|must hold integers"):
            call(x | {name: x[name].astype(complex)})
