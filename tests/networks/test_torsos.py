"""Torsos against what their papers and plain NumPy say of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.networks import torsos


def features_of(network, params, x, **settings):
    return torsos.get(network)(**settings).apply(params, x)


def count(network, shape, **settings):
    torso = torsos.get(network)(**settings)
    params = jax.eval_shape(lambda: torso.init(jax.random.key(0), jnp.zeros((1, *shape))))
    return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize("name", torsos.names)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_every_torso_gives_features_as_wide_as_its_last_layer(name, layer_norm):
    torso = torsos.get(name)(widths=(7, 5), channels=2, layer_norm=layer_norm)
    x = jax.ShapeDtypeStruct((3, 40, 36, 2), jnp.float32)
    assert jax.eval_shape(lambda x: torso.init_with_output(jax.random.key(0), x)[0], x).shape == (3, 5)


@pytest.mark.parametrize(
    ("network", "products", "layer_norm", "image"),
    [
        ("conv", "patches", False, (8, 7)),
        ("conv", "patches", True, (8, 7)),
        ("impala", "impala-patches", False, (7, 4)),
        ("nature", "nature-patches", False, (36, 39)),
    ],
)
def test_a_product_of_patches_is_the_convolution_in_values_and_gradients(network, products, layer_norm, image):
    """Three learners, each with a kernel of its own."""
    settings = dict(widths=(6,), channels=5 if network == "conv" else 2, layer_norm=layer_norm)
    x = jax.random.normal(jax.random.key(0), (3, 4, *image, 2))
    torso = torsos.get(network)(**settings)
    params = jax.jit(jax.vmap(torso.init))(jax.random.split(jax.random.key(1), 3), x)

    def values(network):
        def loss(params, x):
            return jnp.sum(jnp.sin(features_of(network, params, x, **settings)))

        return jax.jit(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1))))(params, x)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), values(products), values(network))


def test_the_convolution_and_its_patches_start_from_the_same_parameters():
    x = jnp.zeros((1, 5, 5, 2))
    both = [torsos.get(name)(widths=(4,), channels=3) for name in ("impala", "impala-patches")]
    found = [jax.jit(torso.init)(jax.random.key(0), x) for torso in both]
    jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.mark.parametrize(("channels", "height", "width"), [(16, 72, 96), (5, 9, 16)])
def test_impala_has_as_many_parameters_as_its_figure(channels, height, width):
    """A section: a convolution, and two blocks of two; each halves the image, rounding up."""
    expected, before = 0, 3
    for multiple in (1, 2, 2):
        after = multiple * channels
        expected += 9 * before * after + after + 4 * (9 * after * after + after)
        before, height, width = after, -(-height // 2), -(-width // 2)
    expected += height * width * before * 256 + 256
    shape = {16: (72, 96, 3), 5: (9, 16, 3)}[channels]
    assert count("impala", shape, channels=channels, widths=(256,)) == expected


def test_an_impala_block_with_zero_kernels_passes_on_what_it_was_given():
    """Then only the convolutions of the sections and the pooling are left."""
    torso = torsos.get("impala")(widths=(), channels=2, activation="relu")
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    params = jax.jit(torso.init)(jax.random.key(1), x)["params"]
    params = {name: jax.tree.map(jnp.zeros_like, p) if "block" in name else p for name, p in params.items()}
    expected = x
    for i in range(3):
        kernel = params[f"section_{i}"]["kernel"]
        expected = jax.lax.conv_general_dilated(
            expected, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        expected = jax.lax.reduce_window(expected, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    expected = np.maximum(expected, 0.0).reshape(2, -1)
    np.testing.assert_allclose(torso.apply({"params": params}, x), expected, rtol=1e-5, atol=1e-6)


def test_nature_has_as_many_parameters_as_its_paper():
    convolutions = (8 * 8 * 4 * 32 + 32) + (4 * 4 * 32 * 64 + 64) + (3 * 3 * 64 * 64 + 64)
    assert count("nature", (84, 84, 4), channels=16, widths=(512,)) == convolutions + 7 * 7 * 64 * 512 + 512


def test_layer_norm_is_that_of_the_formula():
    """`(y − mean) / deviation` of each layer before its nonlinearity (Ba et al. 2016)."""
    torso = torsos.get("mlp")(widths=(6, 4), layer_norm=True)
    x = jax.random.normal(jax.random.key(0), (5, 3))
    params = torso.init(jax.random.key(1), x)
    expected = np.asarray(x, np.float64)
    for i in range(2):
        y = expected @ np.asarray(params["params"][f"dense_{i}"]["kernel"], np.float64)
        y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
        expected = np.tanh(y)
    np.testing.assert_allclose(torso.apply(params, x), expected, rtol=1e-4, atol=1e-5)


def test_a_residual_layer_adds_to_the_one_before_where_they_are_equally_wide():
    x = jax.random.normal(jax.random.key(0), (5, 3))
    params = torsos.get("mlp")(widths=(6, 6, 4)).init(jax.random.key(1), x)

    def layer(x, i):
        p = params["params"][f"dense_{i}"]
        return np.tanh(x @ np.asarray(p["kernel"]) + np.asarray(p["bias"])[None])

    first = layer(np.asarray(x), 0)
    expected = layer(first + layer(first, 1), 2)
    np.testing.assert_allclose(features_of("residual", params, x, widths=(6, 6, 4)), expected, rtol=1e-5, atol=1e-6)
