"""What heads make of features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.networks import heads


@pytest.mark.parametrize(("name", "follow_the_state"), [("linear", False), ("state-std", True)])
def test_deviations_of_box_actions_are_parameters_or_follow_from_the_features(name, follow_the_state):
    """Columns of the layer: means of two dimensions, their log standard deviations if these follow, the value."""
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    module = heads.get(name)(4, True)
    params = jax.tree.map(lambda p: p + 1.0, module.init(jax.random.key(0), jnp.asarray(x)))
    layer = params["params"]["heads"]
    expected = x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])[None]
    policy, value = module.apply(params, jnp.asarray(x))
    assert policy.shape == (3, 4)
    np.testing.assert_allclose(policy[:, :2], expected[:, :2], rtol=1e-5)
    np.testing.assert_allclose(policy[:, 2:], expected[:, 2:4] if follow_the_state else np.ones((3, 2)), rtol=1e-5)
    np.testing.assert_allclose(value, expected[:, -1], rtol=1e-5)
