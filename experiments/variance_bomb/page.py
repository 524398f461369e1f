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
SEED, GAP, SAMPLES, HORIZON = 3, 1.5, 40, 30
PLACES = 9
"""Of the page's walk, which begins in the middle."""


def reference() -> dict[str, Any]:
    """Some weights and rewards, and what the library makes of them."""
    log_rho, reward = gaussians.play(jax.random.key(SEED), jnp.float32(GAP), SAMPLES)
    found = gaussians.judged(log_rho, reward)
    exact = float(gaussians.exact_ess(np.array([GAP]))[0])
    return {
        "seed": SEED,
        "gap": GAP,
        "horizon": HORIZON,
        "log_rho": np.asarray(log_rho, float).tolist(),
        "reward": np.asarray(reward, float).tolist(),
        "expected": {name: float(x) for name, x in found.items()} | {"exact_ess": exact} | shares(),
    }


def shares() -> dict[str, float]:
    """The effective share of samples after the walk's steps: under products of ratios, and under ratios of states."""
    right = 0.5 + GAP / 10
    there = {p: np.linalg.matrix_power(walk(p), HORIZON)[PLACES // 2] for p in (0.5, right)}
    mean_square = 0.5 * (right / 0.5) ** 2 + 0.5 * ((1 - right) / 0.5) ** 2
    ratio = np.divide(there[right], there[0.5], out=np.zeros(PLACES), where=there[0.5] > 0)
    return {"product_share": mean_square**-HORIZON, "state_share": float(1 / np.sum(there[0.5] * ratio**2))}


def walk(right: float) -> np.ndarray:
    """Odds `[from, to]` of one step, which stays where the walk ends."""
    odds = np.zeros((PLACES, PLACES))
    for place in range(PLACES):
        odds[place, min(place + 1, PLACES - 1)] += right
        odds[place, max(place - 1, 0)] += 1 - right
    return odds


def write(result: dict[str, Any]) -> None:
    """The page, from its template and the record."""
    template = TEMPLATE.read_text()
    if template.count(MARK) != 1:
        raise ValueError(f"{TEMPLATE.name} must hold {MARK} once, but it does so {template.count(MARK)} times.")
    PAGE.write_text(template.replace(MARK, json.dumps(result["page"])))
