"""The sequence-model family: each loss against its formula, with ratios of every level."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses, ops
from tests.losses.checks import check_weighted, close, draw_rows, option, random_arguments, slope
from tests.strategies import SETTINGS

LEVELS = pytest.mark.parametrize("level", ["step", "sequence", "geometric"])


def ratios(log_rho, valid, level):
    """Products and geometric means of ratios, without logarithms, stream by stream."""
    valid = np.ones(log_rho.shape, bool) if valid is None else valid
    result = np.exp(log_rho)
    if level == "step":
        return result
    for stream in np.ndindex(log_rho.shape[1:]):
        column = (slice(None), *stream)
        inside = np.exp(log_rho[column])[valid[column]]
        result[column] = np.prod(inside) ** (1.0 if level == "sequence" else 1.0 / max(inside.size, 1))
    return result


@LEVELS
@hypothesis.given(data=st.data())
@SETTINGS
def test_truncated_importance_sampling_bounds_the_ratio_of_its_level(x64, level, data):
    log_pi, log_mu, advantage, valid = draw_rows(data)
    weight = np.minimum(ratios(log_pi - log_mu, valid, level), 1.5)
    loss = option(losses.truncated_is_loss, level=level, truncation=1.5)
    check_weighted(loss, weight * advantage, log_pi, valid, log_mu, advantage)


@LEVELS
@hypothesis.given(data=st.data())
@SETTINGS
def test_masked_importance_sampling_drops_ratios_outside_the_interval_from_the_sum_alone(x64, level, data):
    log_pi, log_mu, advantage, valid = draw_rows(data)
    rho = ratios(log_pi - log_mu, valid, level)
    # Rounding decides on the bounds themselves.
    hypothesis.assume(not np.any(np.isclose(rho, 0.5) | np.isclose(rho, 2.5)))
    weight = np.where((rho >= 0.5) & (rho <= 2.5), rho, 0.0)
    loss = option(losses.masked_is_loss, level=level, low=0.5, high=2.5)
    check_weighted(loss, weight * advantage, log_pi, valid, log_mu, advantage)


def test_without_bounds_masking_is_plain_importance_sampling():
    arguments = random_arguments(0, 5, 3)
    masked = losses.masked_is_loss(*arguments, low=0.0, high=np.inf)
    np.testing.assert_array_equal(masked, losses.per_step_ratio_loss(*arguments))


def test_truncation_at_the_level_of_steps_is_the_per_step_loss():
    arguments = random_arguments(1, 5, 3)
    truncated = losses.truncated_is_loss(*arguments, truncation=1.2)
    np.testing.assert_array_equal(truncated, losses.per_step_ratio_loss(*arguments, clip_rho=1.2))
    np.testing.assert_array_equal(
        losses.truncated_is_loss(*arguments, truncation=np.inf), losses.per_step_ratio_loss(*arguments)
    )


@pytest.mark.parametrize(
    "loss", [losses.truncated_is_loss, functools.partial(losses.masked_is_loss, low=0.5, high=2.0)]
)
def test_sequences_of_one_row_have_the_same_ratio_at_every_level(loss):
    arguments = random_arguments(2, 1, 6)
    step, sequence, geometric = (loss(*arguments, level=level) for level in ("step", "sequence", "geometric"))
    assert step == sequence == geometric


@hypothesis.given(data=st.data())
@SETTINGS
def test_cispo_clips_the_weight_on_both_sides_and_keeps_every_gradient(x64, data):
    log_pi, log_mu, advantage, valid = draw_rows(data)
    rho = np.exp(log_pi - log_mu)
    loss = option(losses.cispo_loss, clip_low=0.2, clip_high=0.3)
    check_weighted(loss, np.clip(rho, 0.8, 1.3) * advantage, log_pi, valid, log_mu, advantage)
    check_weighted(losses.cispo_loss, np.minimum(rho, 5.0) * advantage, log_pi, valid, log_mu, advantage)


@hypothesis.given(data=st.data())
@SETTINGS
def test_topr_tapers_the_weight_of_bad_sequences_only(x64, data):
    log_pi, log_mu, advantage, valid = draw_rows(data)
    tapered = np.minimum(ratios(log_pi - log_mu, valid, "sequence"), 1.0)
    weight = np.where(advantage >= 0, 1.0, tapered)
    check_weighted(losses.topr_loss, weight * advantage, log_pi, valid, log_mu, advantage)


def test_topr_of_good_sequences_alone_is_the_plain_policy_gradient():
    log_pi, log_mu, advantage = random_arguments(3, 6, 4)
    good = np.abs(advantage)
    np.testing.assert_array_equal(losses.topr_loss(log_pi, log_mu, good), losses.policy_gradient_loss(log_pi, good))
    assert losses.topr_loss(log_pi, log_mu, -good) != losses.policy_gradient_loss(log_pi, -good)


def draw_sequences(data):
    """Rows whose sequences hold one advantage each, and the sequences that count."""
    log_pi, log_mu, advantage, valid = draw_rows(data)
    advantage = np.broadcast_to(advantage[:1], log_pi.shape)
    inside = np.ones(log_pi.shape, bool) if valid is None else valid
    return log_pi, log_mu, advantage, valid, inside


@hypothesis.given(data=st.data())
@SETTINGS
def test_gspo_is_ppo_on_geometric_means_and_counts_sequences_alike(x64, data):
    log_pi, log_mu, advantage, valid, inside = draw_sequences(data)
    s = ratios(log_pi - log_mu, valid, "geometric")
    clipped = np.where(advantage > 0, s > 1.4, s < 0.7)
    objective = np.where(clipped, np.where(advantage > 0, 1.4, 0.7), s) * advantage
    sequences = max(inside.any(axis=0).sum(), 1)
    loss = option(losses.gspo_loss, clip_low=0.3, clip_high=0.4)
    value, gradient = slope(loss)(log_pi, (log_mu, advantage), valid)
    close(value, -np.sum(objective[0][inside.any(axis=0)]) / sequences)
    # d s / d log π_t = s / |o| for each of a sequence's rows.
    rows = np.maximum(inside.sum(axis=0), 1)
    expected = np.where(inside, np.where(clipped, 0.0, s * advantage) / rows, 0.0) / sequences
    close(gradient, -expected)


@hypothesis.given(data=st.data())
@SETTINGS
def test_gmpo_clips_rows_on_the_side_of_the_advantage_before_their_geometric_mean(x64, data):
    log_pi, log_mu, advantage, valid, inside = draw_sequences(data)
    log_rho = log_pi - log_mu
    beyond = np.where(advantage >= 0, log_rho > 0.3, log_rho < -0.2)
    clipped = np.where(beyond, np.where(advantage >= 0, 0.3, -0.2), log_rho)
    s = ratios(clipped, valid, "geometric")
    sequences = max(inside.any(axis=0).sum(), 1)
    loss = option(losses.gmpo_loss, clip_low=0.2, clip_high=0.3)
    value, gradient = slope(loss)(log_pi, (log_mu, advantage), valid)
    close(value, -np.sum((s * advantage)[0][inside.any(axis=0)]) / sequences)
    rows = np.maximum(inside.sum(axis=0), 1)
    close(gradient, -np.where(inside & ~beyond, s * advantage / rows, 0.0) / sequences)


@pytest.mark.parametrize("loss", [losses.gspo_loss, losses.gmpo_loss], ids=["gspo", "gmpo"])
def test_long_and_short_sequences_count_alike(loss):
    log_pi = np.zeros((8, 2), np.float32)
    valid = np.arange(8)[:, None] < np.array([8, 2])
    gradient = jax.grad(loss)(log_pi, log_pi, np.full((8, 2), 3.0, np.float32), valid)
    np.testing.assert_allclose(gradient.sum(axis=0), [-1.5, -1.5], rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.gspo_loss, losses.gmpo_loss], ids=["gspo", "gmpo"])
def test_a_sequence_without_a_valid_row_does_not_count(loss):
    log_pi, log_mu, advantage = random_arguments(4, 6, 3, spread=0.1)
    valid = np.arange(6)[:, None] < np.array([6, 0, 2])
    some, kept = [0, 2], loss(log_pi, log_mu, advantage, valid)
    np.testing.assert_allclose(kept, loss(*(x[:, some] for x in (log_pi, log_mu, advantage, valid))), rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.gspo_loss, losses.gmpo_loss], ids=["gspo", "gmpo"])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_a_sequence_with_an_impossible_token_adds_nothing(loss, advantage):
    log_pi = np.zeros((4, 2), np.float32)
    log_pi[1, 0] = -np.inf
    value, gradient = jax.value_and_grad(loss)(
        log_pi, np.zeros((4, 2), np.float32), np.full((4, 2), np.float32(advantage))
    )
    np.testing.assert_allclose(value, -advantage / 2)
    np.testing.assert_allclose(gradient, np.float32([[0.0, -advantage / 8]] * 4), atol=1e-7)


def test_gspos_interval_is_the_papers():
    log_pi = jnp.full((4, 2), 1.0).at[:, 1].add(jnp.float32(3.5e-4))
    gradient = jax.grad(losses.gspo_loss)(log_pi, jnp.full((4, 2), 1.0), jnp.array([[1.0, 1.0]] * 4))
    assert np.all(gradient != 0.0)
    log_pi = jnp.full((4, 2), 1.0).at[:, 1].add(jnp.float32(-3.5e-4))
    gradient = jax.grad(losses.gspo_loss)(log_pi, jnp.full((4, 2), 1.0), jnp.array([[-1.0, -1.0]] * 4))
    assert np.all(gradient[:, 0] != 0.0)
    np.testing.assert_array_equal(gradient[:, 1], np.zeros(4))


def test_the_product_of_a_long_sequence_does_not_overflow():
    log_pi, log_mu = jnp.full((4096, 2), -1.0), jnp.full((4096, 2), -2.0)
    advantage = jnp.ones((4096, 2))
    for level in ("step", "sequence", "geometric"):
        value = losses.truncated_is_loss(log_pi, log_mu, advantage, level=level)
        np.testing.assert_allclose(value, 2.0, rtol=1e-5)
    log_rho = ops.ratio_levels(log_pi - log_mu, level="sequence")
    np.testing.assert_array_equal(log_rho, np.full((4096, 2), 4096.0))


@pytest.mark.parametrize(
    "loss", [losses.truncated_is_loss, functools.partial(losses.masked_is_loss, low=0.0, high=2.0)]
)
def test_a_level_that_does_not_exist_is_refused(loss):
    with pytest.raises(ValueError, match="level must be one of step, sequence, geometric, but it is 'token'"):
        loss(jnp.zeros(3), jnp.zeros(3), jnp.zeros(3), level="token")


@pytest.mark.parametrize(
    ("loss", "option"),
    [
        (losses.truncated_is_loss, {"truncation": 0.0}),
        (losses.masked_is_loss, {"high": 0.0, "low": 0.0}),
        (losses.cispo_loss, {"clip_low": 0.0}),
        (losses.cispo_loss, {"clip_high": -1.0}),
        (losses.gspo_loss, {"clip_low": 0.0}),
        (losses.gspo_loss, {"clip_high": 0.0}),
        (losses.gmpo_loss, {"clip_low": 0.0}),
        (losses.gmpo_loss, {"clip_high": 0.0}),
    ],
)
def test_bounds_that_are_not_positive_are_refused(loss, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} must be greater than 0"):
        loss(jnp.zeros(3), jnp.zeros(3), jnp.zeros(3), **option)


def test_a_negative_lower_bound_of_a_mask_is_refused():
    with pytest.raises(ValueError, match=r"low must be at least 0, but it is -0\.1"):
        losses.masked_is_loss(jnp.zeros(3), jnp.zeros(3), jnp.zeros(3), low=-0.1, high=1.0)
