"""Pages about extending hold complete programs, which run as they stand."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from isjax.environments.adapter import adapt
from isjax.learner import Config, Hyper, make_learner

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "extending").glob("*.md"))


def test_there_are_pages():
    assert PAGES


def program_of(page, folder):
    """The one file that a page holds."""
    (block,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    program = folder / f"{page.stem}_page.py"
    program.write_text(block)
    return program


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_program_of_a_page_runs(page, tmp_path):
    program = program_of(page, tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    result = subprocess.run([sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def corridor_of_its_page(folder):
    page = next(page for page in PAGES if page.stem == "environment")
    return runpy.run_path(str(program_of(page, folder)))["Corridor"]


def test_the_environment_of_its_page_is_learned_by_many_at_once(tmp_path):
    """The shortest way is best: from d places before the goal it earns 1 − 0.01 (d − 1), d from 1 to 5 alike."""
    config = Config(num_envs=16, unroll_length=16, torso=(16,), evaluation_episodes=64)
    learner = make_learner(config, environment=corridor_of_its_page(tmp_path)())
    hyper = Hyper(learning_rate=1e-2, learning_rate_end=1.0)
    state = jax.vmap(learner.init, (0, None))(jax.random.split(jax.random.key(0), 3), hyper)
    update = jax.jit(jax.vmap(learner.update))
    for _ in range(60):
        state, _ = update(state)
    found = jax.vmap(learner.evaluate, (0, None))(state, jax.random.key(1))
    np.testing.assert_allclose(found.episode_return.mean(1), 0.98, atol=0.01)


@pytest.mark.parametrize(("length", "ending"), [(2, [True, False]), (5, [False, True])])
def test_the_environment_of_its_page_ends_both_ways(length, ending, tmp_path):
    """Two steps to the right, with a goal two places on, or five."""
    adapter = adapt(corridor_of_its_page(tmp_path)(length=length, max_steps=2))
    state = adapter.reset(jax.random.key(0))[1]
    state = state._replace(state=0 * state.state)
    for _ in range(2):
        after = adapter.step(jax.random.key(0), state, np.int32(1))
        state = after.state
    assert [bool(after.terminated), bool(after.truncated)] == ending
