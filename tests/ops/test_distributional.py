"""C51's projection and HL-Gauss's bins: their definitions, what they keep, and rlax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import ops
from tests import oracles_q
from tests.peers import rlax

ATOMS = np.linspace(-2.0, 2.0, 5)
project = jax.jit(ops.project_categorical)
hl_gauss = jax.jit(ops.hl_gauss)


def distributions(seed, count=20, size=6):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(size), size=count), rng.normal(scale=2.0, size=(count, size))


def test_the_projection_is_algorithm_1_of_c51(x64):
    probs, values = distributions(0)
    values[0] = [-2.0, -1.0, 0.0, 1.0, 2.0, 9.0]  # On atoms and beyond them.
    expected = [oracles_q.c51(p, z, ATOMS) for p, z in zip(probs, values, strict=True)]
    np.testing.assert_allclose(project(probs, values, ATOMS), expected, rtol=1e-10, atol=1e-12)


def test_the_projection_is_that_of_rlax_for_any_atoms():
    probs, values = (x.astype(np.float32) for x in distributions(1))
    atoms = np.float32([-3.0, -1.0, 0.5, 0.75, 4.0])
    theirs = jax.jit(jax.vmap(rlax.categorical_l2_project, (0, 0, None)))(values, probs, atoms)
    np.testing.assert_allclose(project(probs, values, atoms), theirs, rtol=1e-5, atol=1e-6)


def test_a_projection_keeps_all_probability_and_within_the_range_the_mean(x64):
    probs, values = distributions(2)
    found = project(probs, values, ATOMS)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(found @ ATOMS, np.sum(probs * np.clip(values, -2.0, 2.0), -1), rtol=1e-10, atol=1e-12)


def test_a_value_of_probability_zero_may_be_anything():
    clean, dirty = (
        project(jnp.array([1.0, 0.0]), jnp.array([0.5, x]), ATOMS.astype(np.float32)) for x in (0.0, np.nan)
    )
    np.testing.assert_array_equal(clean, dirty)


def test_the_mass_of_bins_is_that_of_the_paper(x64):
    edges, targets = np.linspace(-1.0, 3.0, 9), np.array([-1.0, 0.1, 2.9, 3.0])
    expected = [oracles_q.hl_gauss(x, edges, 0.4) for x in targets]
    np.testing.assert_allclose(hl_gauss(targets, edges, 0.4), expected, rtol=1e-9, atol=1e-15)


def test_bins_far_from_a_target_and_targets_far_from_the_bins_stay_finite():
    edges = np.linspace(-10.0, 10.0, 52, dtype=np.float32)
    targets = jnp.array([-1e30, -10.0, 0.0, 10.0, 1e30])
    for deviation in (1e-3, 0.3, 1e3):
        found = hl_gauss(targets, edges, deviation)
        assert np.all(np.isfinite(found))
        np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-4)


def test_the_mean_of_the_bins_is_near_the_target(x64):
    """Farebrother et al.: with a deviation of 0.75 bins it is the target up to a fraction of a bin."""
    edges = np.linspace(-10.0, 10.0, 52)
    targets = np.linspace(-8.0, 8.0, 33)
    centers = (edges[1:] + edges[:-1]) / 2
    found = ops.categorical_mean(np.log(np.maximum(hl_gauss(targets, edges, 0.75 * 20 / 51), 1e-300)), centers)
    np.testing.assert_allclose(found, targets, atol=1e-3)


def test_the_mean_of_a_categorical_distribution_is_that_of_its_softmax(x64):
    logits = np.random.default_rng(3).normal(size=(4, 3, 5))
    weights = np.exp(logits)
    expected = weights @ ATOMS / weights.sum(-1)
    np.testing.assert_allclose(ops.categorical_mean(logits, ATOMS), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.project_categorical(jnp.ones(2), jnp.ones(3), ATOMS), r"probs \[2\], values \[3\]"),
        (lambda: ops.project_categorical(jnp.ones(2), jnp.ones(2), jnp.ones(1)), "atoms must be a list of at least 2"),
        (lambda: ops.hl_gauss(jnp.ones(2), jnp.ones(1), 0.5), "edges must be a list of at least 2 numbers"),
        (lambda: ops.hl_gauss(jnp.ones(2), ATOMS, -0.5), "deviation must be greater than 0, but it is -0.5"),
        (lambda: ops.categorical_mean(jnp.ones(3), ATOMS), r"logits \[3\], atoms \[5\]"),
    ],
)
def test_wrong_options_and_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
