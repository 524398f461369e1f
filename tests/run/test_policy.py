"""A learner's policy, saved alone, is what it was."""

import json
import math

import jax
import pytest

from isjax.learner import Config, Hyper, make_learner
from isjax.run.policy import SETTINGS, load, save


@pytest.mark.parametrize("is_old", [False, True])
def test_a_saved_policy_keeps_settings_that_are_infinite(is_old, tmp_path):
    """Version 0.1 wrote null for them."""
    config = Config(env="Catch-bsuite", num_envs=1, unroll_length=2, torso=(4,))
    save(tmp_path, config, make_learner(config).init(jax.random.key(0), Hyper(clip_rho=math.inf, clip_c=2.0)), {})
    saved = json.loads((tmp_path / SETTINGS).read_text())
    assert saved["hyper"]["clip_rho"] == "inf"
    if is_old:
        saved["hyper"]["clip_rho"] = None
        (tmp_path / SETTINGS).write_text(json.dumps(saved))
    found = load(tmp_path).state.hyper
    assert (float(found.clip_rho), float(found.clip_c)) == (math.inf, 2.0)
