"""Writes `trl.json`: what TRL's GRPO trainer makes of the batches in `inputs.py`, in float64.

`pip install trl` in an environment of its own, then `python tests/losses/witnesses/make_trl.py`. Its `_compute_loss`
runs as it is on a trainer of which only the settings exist; log-probabilities come from the batch, in place of a model.
The lines of its rollout that make the weights of the sampler run as they stand in its source.
"""

import importlib.metadata
import inspect
import json
import math
import re
import sys
import textwrap
import types
from pathlib import Path

import numpy as np
import torch
from trl.trainer.grpo_trainer import GRPOTrainer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from inputs import T, arrays

BATCH = {name: torch.tensor(x) for name, x in arrays().items()}
MODES = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
CASES = {
    "grpo": {},
    "bnpo": dict(loss_type="bnpo"),
    "dapo": dict(loss_type="dapo", epsilon_high=0.28),
    "dr_grpo": dict(loss_type="dr_grpo"),
    "two_sided": dict(loss_type="bnpo", delta=1.3),
    "gspo": dict(importance_sampling_level="sequence", epsilon_low=3e-4, epsilon_high=4e-4),
    "luspo": dict(loss_type="luspo", importance_sampling_level="sequence", epsilon_low=3e-4, epsilon_high=4e-4),
    "cispo": dict(loss_type="cispo", epsilon_high=1.2),
    "sapo": dict(loss_type="sapo"),
    "vespo": dict(loss_type="vespo"),
    "off_policy_mask": dict(loss_type="bnpo", off_policy_mask_threshold=0.05),
    "kl": dict(loss_type="bnpo", beta=0.3),
    "kl_corrected": dict(loss_type="bnpo", beta=0.3, use_bias_correction_kl=True),
} | {mode: dict(loss_type="bnpo", mode=mode) for mode in MODES}
SETTINGS = dict(
    loss_type="grpo",
    epsilon_low=0.2,
    epsilon_high=0.2,
    beta=0.0,
    importance_sampling_level="token",
    off_policy_mask_threshold=None,
    top_entropy_quantile=1.0,
    aux_loss_enabled=False,
    use_vllm=False,
    vllm_importance_sampling_correction=True,
    current_gradient_accumulation_steps=1,
    max_completion_length=T + 2,
    _entropy_bonus_enabled=False,
)
ARGUMENTS = dict(
    delta=None,
    use_bias_correction_kl=False,
    steps_per_generation=1,
    sapo_temperature_pos=1.0,
    sapo_temperature_neg=1.05,
    vespo_k_pos=2.0,
    vespo_lambda_pos=3.0,
    vespo_k_neg=3.0,
    vespo_lambda_neg=2.0,
)


class Anything(dict):
    def __missing__(self, key):
        return Anything() if key in ("train", "eval") else []


def sampler_weights(mode):
    """By the lines of the trainer that follow a rollout."""
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    begin = r"^ +if self.use_vllm and self.vllm_importance_sampling_correction:\n"
    (block,) = re.findall(begin + r"( +mask = .*?)\n\n +# Compute the per-token", source, re.DOTALL | re.MULTILINE)
    trainer = types.SimpleNamespace(
        vllm_importance_sampling_mode=mode,
        vllm_importance_sampling_clip_min=0.7 if mode.endswith("mask") else None,
        vllm_importance_sampling_clip_max=1.5,
    )
    names = dict(
        self=trainer,
        torch=torch,
        math=math,
        tool_mask=None,
        completion_mask=BATCH["mask"],
        old_per_token_logps=BATCH["log_old"],
        sampling_per_token_logps=BATCH["log_mu"],
    )
    exec(textwrap.dedent(block), names)
    return names["vllm_importance_sampling_ratio"]


def outcome(mode=None, **settings):
    log_pi = BATCH["log_pi"].clone().requires_grad_()
    arguments = {name: settings.pop(name) for name in tuple(settings) if name in ARGUMENTS}
    trainer = types.SimpleNamespace(**(SETTINGS | settings), args=types.SimpleNamespace(**(ARGUMENTS | arguments)))
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (log_pi, torch.zeros_like(log_pi), None)
    trainer.model = types.SimpleNamespace(training=True)
    trainer.accelerator = types.SimpleNamespace(
        num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, gather_for_metrics=lambda x: x
    )
    trainer._metrics = Anything()
    trainer.get_off_policy_mask = GRPOTrainer.get_off_policy_mask
    trainer.get_gamma_weights = GRPOTrainer.get_gamma_weights
    ids = torch.zeros_like(BATCH["mask"], dtype=torch.long)
    inputs = {
        "prompt_ids": ids,
        "prompt_mask": BATCH["mask"],
        "completion_ids": ids,
        "completion_mask": BATCH["mask"],
        "advantages": BATCH["advantage"],
        "old_per_token_logps": BATCH["log_old"],
        "ref_per_token_logps": BATCH["log_reference"],
        "num_items_in_batch": BATCH["mask"].sum(),
    }
    if settings.get("off_policy_mask_threshold") is not None:
        inputs["sampling_per_token_logps"] = BATCH["log_mu"]
    if mode is not None:
        trainer.use_vllm = True
        inputs["importance_sampling_ratio"] = sampler_weights(mode)
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    (gradient,) = torch.autograd.grad(loss, log_pi)
    return {"value": loss.item(), "gradient": np.asarray(gradient).tolist()}


if __name__ == "__main__":
    result = {"version": f"trl {importlib.metadata.version('trl')}"}
    result["losses"] = {name: outcome(**settings) for name, settings in CASES.items()}
    (HERE / "trl.json").write_text(json.dumps(result) + "\n")
