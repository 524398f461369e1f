"""CISPO of isjax under a name that Tunix (https://github.com/google/tunix, here 0.1.7) looks up."""

import jax
from flax import nnx
from tunix.rl import common, function_registry

from isjax import losses
from isjax.compat.sequences import batch_major


@function_registry.register_policy_loss_fn("isjax-cispo")
def cispo(model, batch, algo_config, pad_id, eos_id, **_):
    """The loss and numbers to show, of Tunix's arrays `[B, T]`."""
    texts, tokens = (batch.prompt_ids, batch.completion_ids), (pad_id, eos_id)
    log_pi = common.compute_per_token_logps(*nnx.split(model), *texts, *tokens, stop_gradient=False)
    log_old = jax.lax.stop_gradient(log_pi) if batch.old_per_token_logps is None else batch.old_per_token_logps
    given = {"mask": batch.completion_mask, "weight": batch.sampler_is_weights}
    total = batch_major(losses.cispo_loss)(log_pi, log_old, batch.advantages, **given)
    return total.mean, {"tokens": total.denominator}
