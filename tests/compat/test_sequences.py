"""Batch-major arrays, float masks, one advantage a sequence, sums with denominators, packed sequences."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses, ops
from isjax.compat.sequences import batch_major, batch_major_op, per_token

MASK = np.float32([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
FAMILY = sorted(
    name
    for name in losses.__all__
    if name.endswith("_loss") and "aggregation" in inspect.signature(getattr(losses, name)).parameters
)
OPTIONS = {
    "clip_cov_loss": {"key": jax.random.key(0), "low": 0.1},
    "dr_grpo_loss": {"max_length": 6},
    "dro_loss": {"beta": 0.5},
    "masked_is_loss": {"low": 0.5, "high": 2.0},
}


def arrays(name, shape=(3, 4)):
    rng = np.random.default_rng(0)
    log_pi = -rng.exponential(size=shape)
    given = [log_pi, log_pi - 0.3 * rng.normal(size=shape), rng.normal(size=shape[0])]
    return [x.astype(np.float32) for x in given[: 2 if name == "kl_to_reference_loss" else 3]]


def loss_of(name):
    return functools.partial(getattr(losses, name), **OPTIONS.get(name, {}))


def test_the_family_is_complete():
    assert len(FAMILY) == 18


@pytest.mark.parametrize("name", FAMILY)
def test_a_batch_major_loss_is_the_time_major_one_times_its_denominator(name):
    given = arrays(name)
    wide = [np.broadcast_to(x if x.ndim == 2 else x[:, None], (3, 4)) for x in given]
    expected = loss_of(name)(*(x.T for x in wide), jnp.array(MASK.T > 0))
    dirty = [np.where(MASK > 0, x, np.float32(np.nan)) if x.ndim == 2 else x for x in given]
    total, denominator = batch_major(loss_of(name))(*dirty, mask=MASK)
    np.testing.assert_allclose(total / denominator, expected, rtol=1e-6)
    default = inspect.signature(getattr(losses, name)).parameters["aggregation"].default
    assert denominator == {"token-mean": 6, "fixed-length": 12}.get(default, 2)


@pytest.mark.parametrize("name", ["dapo_loss", "gspo_loss", "dr_grpo_loss", "luspo_loss"])
def test_sums_and_denominators_of_small_batches_add_up_to_the_large_one(name):
    loss, given = batch_major(loss_of(name)), arrays(name)
    whole = loss(*given, mask=MASK)
    parts = [loss(*(x[i : i + 1] for x in given), mask=MASK[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(sum(part.sum for part in parts), whole.sum, rtol=1e-5)
    assert sum(part.denominator for part in parts) == whole.denominator
    assert tuple(parts[2]) == (0.0, 0.0)


def test_options_of_a_partial_decide_the_denominator():
    given = arrays("dapo_loss")
    loss = functools.partial(losses.dapo_loss, aggregation="fixed-length", max_length=10)
    assert batch_major(loss)(*given, mask=MASK).denominator == 20
    assert batch_major(losses.dapo_loss)(*given).denominator == 12


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32, jnp.bfloat16])
def test_masks_of_every_dtype_are_the_same(dtype):
    loss, given = batch_major(losses.dapo_loss), arrays("dapo_loss")
    np.testing.assert_array_equal(loss(*given, mask=jnp.asarray(MASK, dtype)).sum, loss(*given, mask=MASK).sum)


def test_one_advantage_a_sequence_may_have_an_axis_of_its_own():
    loss, (log_pi, log_old, advantage) = batch_major(losses.gspo_loss), arrays("gspo_loss")
    wanted = loss(log_pi, log_old, np.broadcast_to(advantage[:, None], (3, 4)), mask=MASK)
    for given in (advantage, advantage[:, None]):
        np.testing.assert_array_equal(loss(log_pi, log_old, given, mask=MASK), wanted)


@pytest.mark.parametrize("name", ["dapo_loss", "gspo_loss", "gspo_token_loss", "vespo_loss", "dr_grpo_loss"])
def test_packed_rows_are_the_sequences_in_rows_of_their_own(name):
    log_pi, log_old, advantage = arrays(name)
    apart, gradient = jax.value_and_grad(lambda x: batch_major(loss_of(name))(x, log_old, advantage, mask=MASK).mean)(
        log_pi
    )
    ids = np.array([[1, 1, 1, 1, 2, 2, 0, 0]])
    rows = [np.concatenate([x[0], x[1]])[None] for x in (log_pi, log_old, MASK)]
    of_tokens = per_token(advantage[None, :2], ids)

    def packed(x):
        return batch_major(loss_of(name))(x, rows[1], of_tokens, mask=rows[2], segment_ids=ids).mean

    together, found = jax.value_and_grad(packed)(rows[0])
    np.testing.assert_allclose(together, apart, rtol=1e-5)
    np.testing.assert_allclose(found[0].reshape(2, 4), gradient[:2], rtol=1e-5, atol=1e-7)


def test_corrections_are_batch_major_too():
    log_w = np.where(MASK > 0, np.float32(0.4), np.float32(np.nan))
    op = functools.partial(ops.truncated_weights, level="sequence", truncation=3.0)
    found = batch_major_op(op)(log_w, mask=MASK)
    np.testing.assert_allclose(found[:, 0], [3.0, np.exp(0.8), 1.0], rtol=1e-6)
    accepted = batch_major_op(functools.partial(ops.acceptance_mask, over="sum", high=2.5))(log_w, mask=MASK)
    np.testing.assert_array_equal(accepted, [[False] * 4, [True, True, False, False], [False] * 4])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda loss, a: loss(*a[:2]), "expected by position: log_pi_tm1, log_mu_tm1, advantage_tm1; but 2 were given"),
        (
            lambda loss, a: loss(a[0], a[1], a[2][:2]),
            r"advantage must be \[3, 4\], \[3, 1\] or \[3\], but it is of shape",
        ),
        (lambda loss, a: loss(*a, mask=MASK[:, :2]), r"share one shape, but got: log_pi \[3, 4\], mask \[3, 2\]"),
        (lambda loss, a: loss(*a, mask=0.5 * MASK), r"mask must be of 0 and 1 alone, but it is 0\.5"),
        (lambda loss, a: loss(a[0][0], a[1], a[2]), r"log_pi must be \[B, T\], but it is of shape \[4\]"),
        (
            lambda loss, a: batch_major(losses.value_loss),
            "loss must be one that takes an aggregation, but it is value_loss",
        ),
        (lambda loss, a: per_token(a[2], np.ones((3, 4), int)), r"of_sequences \[B, S\] and segment_ids \[B, T\]"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(batch_major(losses.dapo_loss), arrays("dapo_loss"))
