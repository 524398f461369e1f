"""Corrections for a sampler of its own, against loops over sequences; and advantages of groups."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ops

VALID = np.arange(5)[:, None] < np.array([5, 2, 0, 4])


def log_weights(seed=0, spread=0.5):
    """`[5, 4]` in float32, NaN in padding."""
    x = spread * np.random.default_rng(seed).normal(size=(5, 4))
    return np.where(VALID, x, np.nan).astype(np.float32)


def by_level(log_w, level):
    """Of one sequence's valid tokens."""
    w = np.exp(np.float64(log_w))
    if level == "step":
        return w
    return np.full(w.shape, np.prod(w) ** (1.0 if level == "sequence" else 1.0 / len(w)))


def by_sequence(function, log_w):
    """`function` of the valid tokens of each sequence, `[5, 4]`; NaN elsewhere."""
    result = np.full(log_w.shape, np.nan)
    for i in range(log_w.shape[1]):
        inside = VALID[:, i]
        if inside.any():
            result[inside, i] = function(log_w[inside, i])
    return result


def check(found, wanted, rtol=1e-5):
    np.testing.assert_allclose(np.where(VALID, found, np.nan), wanted, rtol=rtol)


@pytest.mark.parametrize("level", ["step", "sequence", "geometric"])
def test_truncated_weights_lie_between_their_bounds(level):
    log_w = log_weights()
    found = ops.truncated_weights(log_w, VALID, level=level, truncation=1.4, floor=0.8)
    check(found, by_sequence(lambda x: np.clip(by_level(x, level), 0.8, 1.4), log_w))
    assert np.all(np.isfinite(found))


@pytest.mark.parametrize("level", ["step", "sequence", "geometric"])
@pytest.mark.parametrize("mask_level", ["step", "sequence", "geometric", None])
def test_masked_weights_are_zero_where_the_ratio_of_the_mask_is_outside(level, mask_level):
    log_w = log_weights(1)

    def wanted(x):
        judged = by_level(x, mask_level or level)
        return by_level(x, level) * ((judged >= 0.85) & (judged <= 1.3))

    found = ops.masked_weights(log_w, VALID, level=level, mask_level=mask_level, low=0.85, high=1.3)
    check(found, by_sequence(wanted, log_w))
    assert 0 < np.count_nonzero(found[VALID]) < VALID.sum()


REDUCE = {"step": lambda x: x, "sum": np.sum, "mean": np.mean, "max": np.max}
ESTIMATES = {"k2": lambda x: x**2 / 2, "k3": lambda x: np.exp(x) - 1 - x}


@pytest.mark.parametrize("estimator", ESTIMATES)
@pytest.mark.parametrize("over", REDUCE)
def test_divergences_are_bounded_from_above(estimator, over):
    log_w = log_weights(2)
    high = {"step": 0.05, "sum": 0.35, "mean": {"k2": 0.1, "k3": 0.12}[estimator], "max": 0.2}[over]

    def wanted(x):
        return np.broadcast_to(REDUCE[over](ESTIMATES[estimator](np.float64(x))) <= high, x.shape)

    found = ops.acceptance_mask(log_w, VALID, estimator=estimator, over=over, high=high)
    check(found.astype(float), by_sequence(wanted, log_w))
    assert not np.any(found[~VALID])
    assert 0 < np.sum(found) < VALID.sum()


@pytest.mark.parametrize(("over", "level"), [("step", "step"), ("sum", "sequence"), ("mean", "geometric")])
def test_k1_bounds_the_ratio_on_both_sides(over, level):
    log_w, high = log_weights(3), {"step": 1.25, "sum": 1.7, "mean": 1.25}[over]

    def wanted(x):
        w = by_level(x, level)
        return (w >= 1 / high) & (w <= high)

    found = ops.acceptance_mask(log_w, VALID, over=over, high=high)
    check(found.astype(float), by_sequence(wanted, log_w))
    assert 0 < np.sum(found) < VALID.sum()


def test_bad_sequences_that_the_policy_has_left_are_dropped():
    log_rho = log_weights(4)
    advantage = np.broadcast_to(np.float32([-1.0, 1.0, 1.0, -1.0]), (5, 4))
    threshold = float(np.median([-np.mean(log_rho[VALID[:, i], i]) for i in (0, 3)]))
    found = ops.off_policy_sequence_mask(
        log_rho - 1.0, np.full((5, 4), -1.0, np.float32), advantage, VALID, threshold=threshold
    )
    drops = by_sequence(lambda x: np.full(x.shape, -np.mean(x) > threshold), log_rho)
    check(found.astype(float), np.where(VALID, np.where(advantage >= 0, 1.0, 1.0 - drops), np.nan))
    assert not np.any(found[~VALID])
    assert 0 < np.sum(found) < VALID.sum()


def test_normalized_weights_have_a_mean_of_one_over_tokens_or_sequences():
    weight = np.where(VALID, np.exp(log_weights(5)), np.nan)
    tokens = ops.batch_normalized(weight, VALID)
    check(tokens, np.where(VALID, weight / np.mean(weight[VALID]), np.nan))
    product = ops.truncated_weights(log_weights(5), VALID, level="sequence", truncation=3.0)
    mean = np.mean([product[0, i] for i in (0, 1, 3)])
    check(ops.batch_normalized(product, VALID, level="sequence"), np.where(VALID, product / mean, np.nan))
    np.testing.assert_array_equal(ops.batch_normalized(jnp.zeros(3)), np.zeros(3))


@pytest.mark.parametrize(
    "op",
    [
        functools.partial(ops.truncated_weights, level="sequence"),
        functools.partial(ops.masked_weights, level="step", mask_level="geometric"),
        functools.partial(ops.acceptance_mask, estimator="k3", over="mean", high=0.1),
        functools.partial(ops.acceptance_mask, estimator="k2", over="max", high=0.2),
        functools.partial(ops.batch_normalized, level="sequence"),
    ],
    ids=["truncated", "masked", "k3 mean", "k2 max", "normalized"],
)
def test_packed_sequences_are_corrected_as_they_are_apart(op):
    x = log_weights(6)
    if op.func is ops.batch_normalized:
        x = np.broadcast_to(np.where(VALID.any(0), np.exp(x[0]), np.nan), x.shape)
    apart = np.asarray(op(x, VALID), float)
    segments = np.repeat([3, 1, 2, 3], 5)
    flat = (np.concatenate(list(y.T)) for y in (x, VALID))
    together = np.asarray(op(*flat, segment_ids_t=segments), float)
    check(np.stack(np.split(together, 4)).T, np.where(VALID, apart, np.nan))


@pytest.mark.parametrize("log_w", [-1000.0, 1000.0, -np.inf, np.inf])
def test_weights_are_finite_at_extreme_log_ratios(log_w):
    x = jnp.full((3, 2), log_w, jnp.float32)
    for level in ("step", "sequence", "geometric"):
        for op in (ops.truncated_weights, functools.partial(ops.masked_weights, low=0.0, high=jnp.inf)):
            assert np.all(np.isfinite(op(x, level=level)))
    for over in ("step", "sum", "mean", "max"):
        assert not np.any(ops.acceptance_mask(x, estimator="k2", over=over, high=2.0))


def test_bfloat16_is_computed_in_float32():
    x = jnp.asarray(np.nan_to_num(log_weights(7)), jnp.bfloat16)
    found = ops.truncated_weights(x, level="sequence", truncation=9.0)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, ops.truncated_weights(x.astype(jnp.float32), level="sequence", truncation=9.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: ops.acceptance_mask(x, over="max", high=1.0),
            "over must be step, sum or mean where estimator is k1",
        ),
        (
            lambda x: ops.acceptance_mask(x, estimator="k2", low=0.1, high=1.0),
            "low must be left out where estimator is",
        ),
        (lambda x: ops.acceptance_mask(x, over="token", high=1.0), "over must be one of step, sum, mean, max"),
        (lambda x: ops.acceptance_mask(x, high=0.0), "high must be greater than 0"),
        (
            lambda x: ops.masked_weights(x, low=3.0, high=2.0),
            r"low must be at most high, which is 2\.0, but it is 3\.0",
        ),
        (lambda x: ops.masked_weights(x, low=-1.0), r"low must be at least 0, but it is -1\.0"),
        (lambda x: ops.truncated_weights(x, truncation=0.0), "truncation must be greater than 0"),
        (lambda x: ops.batch_normalized(x, level="token"), "level must be one of step, sequence, geometric"),
        (lambda x: ops.group_advantages(x, baseline="ppo"), "baseline must be one of grpo, dr-grpo, rloo"),
        (lambda x: ops.group_advantages(x[0]), r"reward must be \[\*N, G\], with a group along its last axis"),
    ],
)
def test_options_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.zeros(3))


REWARD = np.float32([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 2.0], [0.1, 0.1, 0.1, 7.0]])
COUNTS = np.array([[True] * 4, [True] * 4, [True, True, True, False]])


def test_group_advantages_are_their_definitions():
    mean, std = (lambda x: x.mean(-1, keepdims=True)), (lambda x: x.std(-1, ddof=1, keepdims=True))
    whole = REWARD[:2].astype(float)
    others = (whole.sum(-1, keepdims=True) - whole) / 3
    batch = whole.ravel()
    centered = whole - mean(whole)
    wanted = {
        "grpo": centered / (std(whole) + 1e-4),
        "dr-grpo": centered,
        "rloo": whole - others,
        "reinforce++": (whole - batch.mean()) / (batch.std(ddof=1) + 1e-4),
        "reinforce++-baseline": centered / (centered.std(ddof=1) + 1e-4),
    }
    for baseline, expected in wanted.items():
        np.testing.assert_allclose(ops.group_advantages(jnp.array(REWARD[:2]), baseline=baseline), expected, rtol=1e-5)


@pytest.mark.parametrize("baseline", ["grpo", "dr-grpo", "rloo", "reinforce++", "reinforce++-baseline"])
def test_answers_that_do_not_count_change_no_other_and_get_nothing(baseline):
    found = ops.group_advantages(jnp.array(REWARD), jnp.array(COUNTS), baseline=baseline, epsilon=0.0)
    garbage = np.where(COUNTS, REWARD, np.nan)
    np.testing.assert_array_equal(
        found, ops.group_advantages(jnp.array(garbage), jnp.array(COUNTS), baseline=baseline, epsilon=0.0)
    )
    assert found[2, 3] == 0.0
    if baseline != "reinforce++":
        np.testing.assert_array_equal(found[2], np.zeros(4))  # Equal rewards, up to their rounding.
    assert np.all(np.isfinite(found))


def test_leave_one_out_is_unbiased_where_the_mean_of_the_group_is_not():
    """By enumeration: E[A ∇log π] of two answers drawn with probability p, reward 1 for the first kind."""
    p, gradient = 0.3, {"rloo": 0.0, "dr-grpo": 0.0}
    for first in (0, 1):
        for second in (0, 1):
            odds = np.prod([p if x else 1 - p for x in (first, second)])
            for baseline in gradient:
                a = ops.group_advantages(jnp.float32([first, second]), baseline=baseline)
                slopes = np.array([x - p for x in (first, second)])
                gradient[baseline] += odds * float(np.mean(np.asarray(a) * slopes))
    assert gradient["rloo"] == pytest.approx(p * (1 - p), rel=1e-5)
    assert gradient["dr-grpo"] == pytest.approx(p * (1 - p) / 2, rel=1e-5)


def test_one_answer_alone_has_no_advantage():
    for baseline in ("grpo", "dr-grpo", "rloo"):
        np.testing.assert_array_equal(ops.group_advantages(jnp.ones((2, 1)), baseline=baseline), np.zeros((2, 1)))


def test_sequence_levels_under_jit_and_vmap_are_the_same():
    x = np.nan_to_num(log_weights(8))
    segments = np.broadcast_to(np.array([1, 1, 2, 2, 2])[:, None], (5, 4))
    op = functools.partial(ops.ratio_levels, level="sequence")
    mapped = jax.jit(jax.vmap(lambda x, ids: op(x, segment_ids_t=ids), 1, 1))(x, segments)
    wanted = np.concatenate([np.broadcast_to(part.sum(0), part.shape) for part in (x[:2], x[2:])])
    np.testing.assert_allclose(mapped, wanted, rtol=1e-5)
