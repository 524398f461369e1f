"""The page to play with: a template, and numbers of the library that it checks itself against."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.variance_bomb import gaussians

HERE = Path(__file__).parent
TEMPLATE, PAGE = HERE / "page_template.html", HERE / "page.html"
MARK = "/* REFERENCE */ null"
SEED, GAP, SAMPLES = 3, 1.5, 40


def reference() -> dict[str, Any]:
    """Some weights and rewards, and what the library makes of them."""
    log_rho, reward = gaussians.play(jax.random.key(SEED), jnp.float32(GAP), SAMPLES)
    found = gaussians.judged(log_rho, reward)
    exact = float(gaussians.exact_ess(np.array([GAP]))[0])
    return {
        "seed": SEED,
        "gap": GAP,
        "log_rho": np.asarray(log_rho, float).tolist(),
        "reward": np.asarray(reward, float).tolist(),
        "expected": {name: float(x) for name, x in found.items()} | {"exact_ess": exact},
    }


def write(result: dict[str, Any]) -> None:
    """The page, from its template and the record."""
    template = TEMPLATE.read_text()
    if template.count(MARK) != 1:
        raise ValueError(f"{TEMPLATE.name} must hold {MARK} once, but it does so {template.count(MARK)} times.")
    PAGE.write_text(template.replace(MARK, json.dumps(result["page"])))
