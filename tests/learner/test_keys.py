"""Keys of unrolled Threefry draw what JAX's own draw, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.learner.keys import COMPILES, hash_pairs, unrolled_threefry

KEY = jax.random.key(7)


@pytest.mark.parametrize(
    "draw",
    [
        lambda key: jax.random.bits(key, (3, 5)),
        lambda key: jax.random.bits(key, (7,), "uint8"),
        lambda key: jax.random.bits(key, (), "uint16"),
        lambda key: jax.random.uniform(key, (4, 2)),
        lambda key: jax.random.normal(key, (9,)),
        lambda key: jax.random.randint(key, (11,), -3, 5),
        lambda key: jax.random.permutation(key, 13),
        lambda key: jax.random.categorical(key, jnp.arange(4.0), shape=(6,)),
        lambda key: jax.random.choice(key, 5, (3,), replace=False),
        lambda key: jax.random.orthogonal(key, 3),
        lambda key: jax.random.uniform(jax.random.fold_in(key, 2**31 + 5), (3,)),
        lambda key: jax.random.uniform(jax.random.fold_in(key, jnp.int32(-1)), (3,)),
        lambda key: jax.vmap(jax.random.normal)(jax.random.split(key, (2, 3)).reshape(-1)),
        lambda key: jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(4)).reshape(2, 2),
        lambda key: jax.vmap(lambda k: jax.random.split(jax.random.split(k)[1], 3))(jax.random.split(key, 2)),
    ],
)
def test_every_draw_is_that_of_jax(draw):
    expected, found = draw(KEY), jax.jit(lambda key: draw(unrolled_threefry(key)))(KEY)
    if jnp.issubdtype(expected.dtype, jax.dtypes.prng_key):
        expected, found = jax.random.key_data(expected), jax.random.key_data(found)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


def test_the_hash_is_the_published_one():
    """Known answers of Random123, by the authors of Threefry."""
    ones = jnp.uint32(0xFFFFFFFF)
    for key, counter, answer in (
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ones, ones), (ones, ones), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ):
        found = hash_pairs(jnp.array(key, jnp.uint32), *jnp.array(counter, jnp.uint32))
        assert tuple(int(x) for x in found) == answer


def test_an_unrolled_key_holds_the_same_numbers_and_stays_unrolled():
    unrolled = unrolled_threefry(KEY)
    assert unrolled_threefry(unrolled).dtype == unrolled.dtype
    assert (unrolled.dtype != KEY.dtype) == COMPILES
    assert (jax.random.key_data(unrolled) == jax.random.key_data(KEY)).all()


def test_another_generators_key_stays_as_it_is():
    key = jax.random.key(0, impl="rbg")
    assert unrolled_threefry(key) is key


@pytest.mark.skipif(not COMPILES, reason="JAX's own hash is used, which takes more counters")
def test_more_numbers_than_counters_are_refused():
    with pytest.raises(ValueError, match="fewer than 2"):
        jax.jit(lambda: jax.random.bits(unrolled_threefry(KEY), (2**16, 2**16))).lower()
