"""Keys: a check of those that a learner is given, and their generator Threefry with its loop over rounds unrolled.

Unrolled, it draws the same random numbers from fewer kernels.
On a CPU, JAX's own hash is a loop of five rounds. An update hashes many times, for a few numbers each, and these loops
were a quarter of its compilation and a tenth of its run time. Unrolled, every hash is one kernel, as JAX's own is on
accelerators. From jax 0.11 on JAX's own is used everywhere: its compiler for CPUs does not end on an unrolled hash
of an unrolled hash.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl

from isjax.types import Key

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)
COMPILES = jax.__version_info__ < (0, 11)
"""Whether JAX's compiler for CPUs can compile unrolled hashes: that of 0.10.2 can, that of 0.11.2 cannot."""


def check_key(key: Key) -> None:
    """Raises unless `key` is typed and of an implementation that is sound under `vmap`."""
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError("key must be a typed key, as jax.random.key(seed) makes them.")
    if key.ndim:
        raise ValueError(f"key must be a single key, but its shape is {list(key.shape)}; vmap over several of them.")
    if "rbg" in str(jax.random.key_impl(key)):
        raise ValueError(
            "key must not be of an rbg implementation: under vmap it draws every learner's numbers from the first key."
        )


def unrolled_threefry(key: Key) -> Key:
    """The same key, from which the same numbers are drawn by the unrolled hash; other generators' keys are returned."""
    if not COMPILES or jax.random.key_impl(key) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=IMPLEMENTATION)


def hash_pairs(key: jax.Array, first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011, section 3.3).

    Args:
      key: `[2]` uint32.
      first: `[...]` uint32, the upper words of the counters.
      second: `[...]` uint32, the lower words.

    Returns:
      Both words of the hashes, `[...]` uint32 each.
    """
    whole = functools.partial(jax.lax.broadcast, sizes=first.shape)
    words = (key[0], key[1], key[0] ^ key[1] ^ PARITY)
    keys = tuple(whole(word) for word in words)
    number = functools.cache(lambda n: whole(np.uint32(n)))
    first, second = jax.lax.add(first, keys[0]), jax.lax.add(second, keys[1])
    for i in range(5):
        for rotation in ROTATIONS[i % 2]:
            first = jax.lax.add(first, second)
            left = jax.lax.shift_left(second, number(rotation))
            right = jax.lax.shift_right_logical(second, number(32 - rotation))
            second = jax.lax.bitwise_xor(first, jax.lax.bitwise_or(left, right))
        first = jax.lax.add(first, keys[(i + 1) % 3])
        second = jax.lax.add(jax.lax.add(second, keys[(i + 2) % 3]), number(i + 1))
    return first, second


def _hash_places(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    size = math.prod(shape)
    if size >= 2**32:
        raise ValueError(f"One draw must have fewer than 2³² numbers, but its shape is {list(shape)}.")
    places = jax.lax.iota(np.uint32, size).reshape(shape)
    return hash_pairs(key, jnp.zeros_like(places), places)


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.stack(_hash_places(key, shape), axis=len(shape))


def _fold_in(key: jax.Array, data: Any) -> jax.Array:
    data = jnp.asarray(data).astype(np.uint32)
    return jnp.stack(hash_pairs(key, jnp.zeros_like(data), data))


def _bits(key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
    first, second = _hash_places(key, shape)
    if width == 64:
        return (first.astype(np.uint64) << np.uint64(32)) | second.astype(np.uint64)
    return (first ^ second).astype(f"uint{width}")


def _seed(seed: jax.Array) -> jax.Array:
    return jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))


IMPLEMENTATION = define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_bits,
    fold_in=_fold_in,
    name="unrolled threefry2x32",
    tag="isjax",
)
"""The unrolled generator, as `jax.random` takes one."""
