"""What torsos and memories are made of: initializers, and a convolution as a product of matrices."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import variance_scaling, zeros

# No orthogonal initializer here: its QR, batched over many learners, can starve a two-thread pool for good.
torso_init = variance_scaling(2.0, "fan_in", "truncated_normal")
memory_init = variance_scaling(1.0, "fan_in", "truncated_normal")


class PatchConvolution(nn.Module):
    """`flax.linen.Conv` as one product of patches and kernel: the same parameters, other rounding.

    With each learner's own kernel a convolution is a grouped one, which is slow on CPUs; products of matrices are not.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Literal["VALID", "SAME"] = "VALID"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, height, width, channels]` → `[N, ..., ..., features]`."""
        rows, columns = self.kernel_size
        kernel = self.param("kernel", torso_init, (rows, columns, x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", zeros, (self.features,), jnp.float32)
        margins = jax.lax.padtype_to_pads(x.shape[1:3], self.kernel_size, self.strides, self.padding)
        x = jnp.pad(x, ((0, 0), *margins, (0, 0)))
        # The last place at which a kernel still fits, with the place behind it.
        bottom, right = x.shape[1] - rows + 1, x.shape[2] - columns + 1
        down, along = self.strides
        shifted = [x[:, i : i + bottom : down, j : j + right : along] for i in range(rows) for j in range(columns)]
        return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, self.features) + bias[None, None, None]
