"""Observations as features."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from isjax.environments.encoding import MAX_FEATURES, encoder


def _features(space, observation):
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), observation)
    return np.asarray(encoder(space, like)(jax.tree.map(lambda x: x[None], observation))[0])


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32])
def test_images_are_scaled_to_the_unit_interval_and_keep_their_shape(dtype):
    image = jnp.arange(84 * 84 * 4).reshape(84, 84, 4) % 256
    features = _features(spaces.Box(0, 255, (84, 84, 4), dtype), image.astype(dtype))
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, np.asarray(image) / 255, rtol=1e-6)


def test_bytes_are_scaled_by_their_type_where_no_space_says_more():
    x = jnp.array([0, 51, 255], jnp.uint8)
    np.testing.assert_allclose(_features(object(), x), [0.0, 0.2, 1.0], rtol=1e-6)
    np.testing.assert_allclose(
        _features(spaces.Box(-128, 127, (2,), jnp.int8), jnp.array([-128, 127], jnp.int8)), [0, 1]
    )


def test_boards_of_few_pieces_are_one_hot_in_any_integer_type():
    board = jnp.array([[0, 2], [1, 2]])
    expected = np.eye(3)[np.asarray(board).ravel()].ravel()
    for dtype in (jnp.uint8, jnp.int8, jnp.int32):
        np.testing.assert_array_equal(_features(spaces.Box(0, 2, (2, 2), dtype), board.astype(dtype)), expected)


def test_one_hot_features_are_bounded_in_number():
    at_most = spaces.Box(0, 15, (MAX_FEATURES // 16,), jnp.int32)
    assert _features(at_most, jnp.zeros(at_most.shape, jnp.int32)).shape == (MAX_FEATURES,)
    beyond = spaces.Box(0, 15, (MAX_FEATURES // 16 + 1,), jnp.int32)
    features = _features(beyond, jnp.full(beyond.shape, 5, jnp.int32))
    assert features.shape == beyond.shape
    np.testing.assert_allclose(features, 5 / 15, rtol=1e-6)


def test_integers_from_another_number_than_0_on_are_one_hot_from_there():
    np.testing.assert_array_equal(
        _features(spaces.Box(-1, 1, (2,), jnp.int8), jnp.array([-1, 1], jnp.int8)), [1, 0, 0, 0, 0, 1]
    )

    class Shifted(spaces.Discrete):
        start = 5

    np.testing.assert_array_equal(_features(Shifted(3), jnp.int32(6)), [0, 1, 0])


def test_integers_of_many_values_or_without_bounds_are_cast():
    for space in (spaces.Box(0, 1000, (2,), jnp.int32), spaces.Box(-np.inf, np.inf, (2,), jnp.int32), object()):
        np.testing.assert_array_equal(_features(space, jnp.array([3, 700])), [3.0, 700.0])


class Pair(NamedTuple):
    image: jax.Array
    speed: jax.Array


def test_images_in_a_tree_are_scaled_by_their_own_bounds():
    image, speed = jnp.array([[0, 255]], jnp.uint8), jnp.array([2.5])
    parts = {"image": spaces.Box(0, 255, (1, 2), jnp.uint8), "speed": spaces.Box(-9.0, 9.0, (1,))}
    for observation in ({"image": image, "speed": speed}, Pair(image, speed)):
        np.testing.assert_allclose(_features(spaces.Dict(parts), observation), [0.0, 1.0, 2.5])
    planes = {"image": spaces.Box(0, 1, (1, 2), jnp.uint8), "speed": parts["speed"]}
    found = _features(spaces.Dict(planes), {"image": jnp.array([[0, 1]], jnp.uint8), "speed": speed})
    np.testing.assert_allclose(found, [0.0, 1.0, 2.5])


def test_an_index_and_a_counter_beside_other_parts_do_not_drown_them():
    """Few values in few places become one-hot, others are scaled by their bounds."""
    parts = {
        "board": spaces.Box(0, 9, (20, 20), jnp.int32),
        "place": spaces.Discrete(3),
        "step": spaces.Discrete(5001),
        "unbounded": spaces.Box(-np.inf, np.inf, (), jnp.int32),
    }
    observation = {
        "board": jnp.full((20, 20), 3),
        "place": jnp.int32(1),
        "step": jnp.int32(2500),
        "unbounded": jnp.int32(-7),
    }
    features = _features(spaces.Dict(parts), observation)
    np.testing.assert_allclose(features, [*[3 / 9] * 400, 0.0, 1.0, 0.0, 0.5, -7.0], rtol=1e-6)


@pytest.mark.parametrize("observation", [{}, jnp.zeros(2, jnp.complex64), {"key": jax.random.key(0)}])
def test_observations_of_anything_but_real_numbers_are_refused(observation):
    with pytest.raises(TypeError, match="must hold arrays of real numbers"):
        _features(object(), observation)
