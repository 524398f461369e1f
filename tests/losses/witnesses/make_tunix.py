"""Writes `tunix.json`: what Tunix's own loss functions make of the batches in `inputs.py`.

`pip install google-tunix` in an environment of its own, then `python tests/losses/witnesses/make_tunix.py`. Its GRPO
loss function runs as it is, but for two things: log-probabilities come from the batch, in place of a model, and its
casts to float32 are casts to float64.
"""

import importlib.metadata
import json
import sys
import types
from pathlib import Path

import jax
import numpy as np
from flax import nnx

jax.config.update("jax_enable_x64", True)

from tunix.rl import algo_core, common

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from inputs import arrays, rewards


class Wide:
    """jax.numpy, in which float32 is float64."""

    def __getattr__(self, name):
        return getattr(jax.numpy, "float64" if name == "float32" else name)


algo_core.jnp = common.jnp = Wide()
BATCH = arrays()
CASES = {
    "grpo": dict(loss_agg_mode="sequence-mean-token-mean"),
    "dapo": dict(epsilon_high=0.28, loss_agg_mode="token-mean"),
    "dr_grpo": dict(loss_agg_mode="sequence-mean-token-scale"),
    "token_sum": dict(loss_agg_mode="seq-mean-token-sum"),
    "gspo_token": dict(
        loss_algo="gspo-token", epsilon=3e-4, epsilon_high=4e-4, loss_agg_mode="sequence-mean-token-mean"
    ),
    "dual_clip": dict(epsilon_c=1.3, loss_agg_mode="token-mean"),
    "token_tis": dict(loss_agg_mode="token-mean", weighted=True),
    "kl": dict(beta=0.3, kl_loss_mode="kl", loss_agg_mode="token-mean"),
    "mse_kl": dict(beta=0.3, kl_loss_mode="mse_kl", loss_agg_mode="token-mean"),
    "low_var_kl": dict(beta=0.3, kl_loss_mode="low_var_kl", loss_agg_mode="token-mean"),
}
SETTINGS = dict(
    beta=0.0, epsilon=0.2, epsilon_high=0.2, loss_algo="grpo", kl_loss_mode="kl", kl_clamp_value=None, temperature=1.0
)


def loss(log_pi, batch, weighted=False, **settings):
    log_pi = jax.numpy.asarray(log_pi)
    logits = jax.numpy.zeros((*log_pi.shape, 2))
    common.compute_per_token_logps = lambda *_, **__: (log_pi, logits)
    weights = np.minimum(np.exp(batch["log_old"] - batch["log_mu"]), 2.0)
    example = common.TrainExample(
        prompt_ids=None,
        prompt_mask=None,
        completion_ids=None,
        completion_mask=batch["mask"],
        advantages=batch["advantage"],
        ref_per_token_logps=batch["log_reference"],
        old_per_token_logps=batch["log_old"],
        sampler_is_weights=jax.numpy.asarray(weights) if weighted else None,
    )
    config = types.SimpleNamespace(**(SETTINGS | settings))
    return algo_core.grpo_loss_fn(nnx.Module(), example, config, 0, 1)[0]


def outcome(**settings):
    value, gradient = jax.value_and_grad(loss)(BATCH["log_pi"], BATCH, **settings)
    return {"value": float(value), "gradient": np.asarray(gradient, float).tolist()}


def advantages():
    reward = rewards()
    flat = reward.ravel()
    found = {
        "grpo": algo_core.compute_advantages(flat, reward.shape[1]),
        "rloo": algo_core.compute_rloo_advantages(flat, reward.shape[1]),
        "dr-grpo": algo_core.compute_drgrpo_advantages(flat, reward.shape[1]),
    }
    return {name: np.asarray(x, float).reshape(reward.shape).tolist() for name, x in found.items()}


if __name__ == "__main__":
    result = {"version": f"google-tunix {importlib.metadata.version('google-tunix')}"}
    result["losses"] = {name: outcome(**settings) for name, settings in CASES.items()}
    result["advantages"] = advantages()
    (HERE / "tunix.json").write_text(json.dumps(result) + "\n")
