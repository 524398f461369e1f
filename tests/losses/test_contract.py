"""What holds for every loss on an old policy's rows: finite, padding inert, constants constant, any batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses, ops
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
    return losses.ppo_clip_loss(log_pi, log_mu, advantage, valid, log_prox_tm1=jnp.asarray(log_mu, jnp.float32) + 0.1)


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
