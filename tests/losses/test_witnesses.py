"""Losses on sequences against two trainers' own functions, in float64: values and gradients of the same batches.

`witnesses/make_tunix.py` and `witnesses/make_trl.py` wrote what is compared, each in an environment of its own.
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses, ops
from isjax.compat.sequences import batch_major, batch_major_op
from tests.losses.witnesses.inputs import T, arrays, rewards

FOLDER = Path(__file__).parent / "witnesses"
BATCH = arrays()
TUNIX, TRL = (json.loads((FOLDER / f"{name}.json").read_text()) for name in ("tunix", "trl"))
NARROW = dict(clip_low=3e-4, clip_high=4e-4)
TOKEN_MEAN = partial(losses.grpo_loss, aggregation="token-mean")


def of_batch(loss, weight=None):
    """A function of `(log_pi, batch)`, with weights that are a function of the batch."""

    def value(log_pi, batch):
        weights = None if weight is None else weight(batch)
        arguments = (log_pi, batch["log_old"], batch["advantage"])
        return batch_major(loss)(*arguments, mask=batch["mask"], weight=weights).mean

    return value


def with_kl(loss, **options):
    """A loss plus 0.3 of the divergence from the reference, and with `log_mu_tm1` where it is corrected."""
    corrected = options.pop("corrected", False)

    def value(log_pi, batch):
        penalty = partial(losses.kl_to_reference_loss, **options)
        if corrected:
            penalty = partial(penalty, log_mu_tm1=jnp.asarray(batch["log_old"]).T)
        kl = batch_major(penalty)(log_pi, batch["log_reference"], mask=batch["mask"]).mean
        return of_batch(loss)(log_pi, batch) + 0.3 * kl

    return value


def weights(op, **options):
    def of(batch):
        return batch_major_op(partial(op, **options))(batch["log_old"] - batch["log_mu"], mask=batch["mask"])

    return of


def kept(batch):
    mask = batch_major_op(partial(ops.off_policy_sequence_mask, threshold=0.05))
    return mask(batch["log_pi"], batch["log_mu"], batch["advantage"], mask=batch["mask"]).astype(float)


GSPO = partial(losses.gspo_loss, **NARROW)
LUSPO = partial(losses.luspo_loss, **NARROW)
OURS = {
    ("tunix", "grpo"): of_batch(losses.grpo_loss),
    ("tunix", "dapo"): of_batch(losses.dapo_loss),
    ("tunix", "dr_grpo"): of_batch(partial(losses.dr_grpo_loss, max_length=T)),
    ("tunix", "token_sum"): of_batch(partial(losses.grpo_loss, aggregation="sequence-mean-token-sum")),
    ("tunix", "gspo_token"): of_batch(partial(losses.gspo_token_loss, **NARROW)),
    ("tunix", "dual_clip"): of_batch(partial(TOKEN_MEAN, dual_clip=1.3)),
    ("tunix", "token_tis"): of_batch(TOKEN_MEAN, weights(ops.truncated_weights, truncation=2.0)),
    ("tunix", "kl"): with_kl(TOKEN_MEAN, estimator="k1", exact_gradient=False),
    ("tunix", "mse_kl"): with_kl(TOKEN_MEAN, estimator="k2", exact_gradient=False),
    ("tunix", "low_var_kl"): with_kl(TOKEN_MEAN, estimator="k3", exact_gradient=False),
    ("trl", "grpo"): of_batch(losses.grpo_loss),
    ("trl", "bnpo"): of_batch(TOKEN_MEAN),
    ("trl", "dapo"): of_batch(losses.dapo_loss),
    ("trl", "dr_grpo"): of_batch(partial(losses.dr_grpo_loss, max_length=T + 2)),
    ("trl", "two_sided"): of_batch(partial(TOKEN_MEAN, dual_clip=1.3)),
    ("trl", "gspo"): of_batch(GSPO),
    ("trl", "luspo"): of_batch(LUSPO),
    ("trl", "cispo"): of_batch(partial(losses.cispo_loss, clip_high=0.2)),
    # Its temperatures are float32 even beside float64.
    ("trl", "sapo"): of_batch(partial(losses.sapo_loss, temperature_negative=float(np.float32(1.05)))),
    ("trl", "vespo"): of_batch(losses.vespo_loss),
    ("trl", "off_policy_mask"): of_batch(TOKEN_MEAN, kept),
    ("trl", "kl"): with_kl(TOKEN_MEAN, estimator="k3", exact_gradient=False),
    # Its ratio is differentiated too, and that makes k3's gradient the divergence's own.
    ("trl", "kl_corrected"): with_kl(TOKEN_MEAN, estimator="k3", corrected=True),
    ("trl", "token_truncate"): of_batch(TOKEN_MEAN, weights(ops.truncated_weights, truncation=1.5)),
    ("trl", "token_mask"): of_batch(TOKEN_MEAN, weights(ops.masked_weights, low=0.7, high=1.5)),
    ("trl", "sequence_truncate"): of_batch(
        TOKEN_MEAN, weights(ops.truncated_weights, level="sequence", truncation=1.5)
    ),
    ("trl", "sequence_mask"): of_batch(TOKEN_MEAN, weights(ops.masked_weights, level="sequence", low=0.7, high=1.5)),
}


def test_every_loss_of_the_witnesses_is_compared():
    assert set(OURS) == {(name, case) for name, x in (("tunix", TUNIX), ("trl", TRL)) for case in x["losses"]}


@pytest.mark.parametrize(("library", "case"), OURS, ids=["-".join(names) for names in OURS])
def test_value_and_gradient_are_those_of_the_trainer(x64, library, case):
    theirs = {"tunix": TUNIX, "trl": TRL}[library]["losses"][case]
    value, gradient = jax.jit(jax.value_and_grad(OURS[library, case]))(BATCH["log_pi"], BATCH)
    np.testing.assert_allclose(value, theirs["value"], rtol=1e-10)
    np.testing.assert_allclose(gradient, theirs["gradient"], rtol=1e-9, atol=1e-13)
    assert np.count_nonzero(theirs["gradient"]) > 3


@pytest.mark.parametrize(("baseline", "epsilon"), [("grpo", 1e-6), ("rloo", 1e-6), ("dr-grpo", 1e-6)])
def test_group_advantages_are_those_of_the_trainer(x64, baseline, epsilon):
    ours = ops.group_advantages(jnp.array(rewards()), baseline=baseline, epsilon=epsilon)
    np.testing.assert_allclose(ours, TUNIX["advantages"][baseline], rtol=1e-10, atol=1e-9)


def test_what_the_trainers_clip_is_clipped_in_these_batches():
    """Each bound is met on both sides, or the comparison would say little."""
    rho, valid = np.exp(BATCH["log_pi"] - BATCH["log_old"]), BATCH["mask"] > 0
    assert (rho[valid] > 1.3).any()
    assert (rho[valid] < 0.8).any()
    mean = (np.log(rho) * valid).sum(1) / valid.sum(1)
    assert (mean[:3] < 4e-4).any()
    assert (np.abs(mean[3:]) > 4e-4).any()
    assert (BATCH["advantage"] < 0).any()
    assert (BATCH["advantage"] > 0).any()
