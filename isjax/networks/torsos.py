"""Torsos: from observations to features. Each is registered by the name that `Config.network` holds."""

from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax

from isjax.errors import FieldError
from isjax.networks.layers import PatchConvolution, torso_init
from isjax.registry import Registry

Activation = Literal["tanh", "relu"]


class Torso(nn.Module):
    """What every torso derives from; fields are settings of the same name, `widths` is `Config.torso`.

    >>> torsos.get("mlp")(widths=(8, 6)).init_with_output(jax.random.key(0), jnp.zeros((5, 4)))[0].shape
    (5, 6)
    """

    takes_structure: ClassVar[bool] = False
    """Whether it is given the environment's own tree of observations, in place of one array.

    The tree is without `action_mask`. Its floating arrays are float32, all others stay as the environment has them:
    integers for embeddings, images in their own range.
    """
    least_image: ClassVar[int] = 0
    """Height and width that images `[height, width, channels]` need; 0 where observations may be anything."""
    unused: ClassVar[tuple[str, ...]] = ()
    """Settings that have no say here, and are refused where they are given."""
    as_products: ClassVar[bool] = False
    """Whether convolutions are computed as products of matrices, faster on CPUs where many learners train at once."""

    widths: tuple[int, ...] = (64,)
    channels: int = 16
    activation: Activation = "tanh"
    layer_norm: bool = False

    @classmethod
    def check_observation(cls, shape: tuple[int, ...]) -> None:
        """Raises `ValueError` unless the torso takes observations of this shape."""
        if cls.least_image and (len(shape) != 3 or min(shape[:2]) < cls.least_image):
            least = f"{cls.least_image} × {cls.least_image}"
            rule = f"suit the observation: {cls.__name__} takes images [height, width, channels] of at least {least}"
            raise FieldError("network", rule, list(shape), "{field} must {rule}, but the observation is {value}.")

    def activate(self, x: jax.Array) -> jax.Array:
        """The nonlinearity that was asked for."""
        return {"relu": nn.relu, "tanh": nn.tanh}[self.activation](x)

    def normalize(self, x: jax.Array, name: str) -> jax.Array:
        """Layer norm over the last axis, if it was asked for. To be called in a compact method."""
        return nn.LayerNorm(name=f"norm_{name}")(x) if self.layer_norm else x

    def convolution(
        self, features: int, size: int, stride: int = 1, padding: Literal["VALID", "SAME"] = "VALID", *, name: str
    ) -> nn.Module:
        """A convolution with a square kernel. To be called in a compact method."""
        shape: tuple[Any, ...] = (features, (size, size), (stride, stride))
        if self.as_products:
            return PatchConvolution(*shape, padding=padding, name=name)
        return nn.Conv(*shape, padding=padding, kernel_init=torso_init, name=name)

    def dense(self, x: jax.Array, *, residual: bool = False) -> jax.Array:
        """Dense layers of all widths on whatever an observation holds. To be called in a compact method.

        With `residual`, layers that keep the width add to what they were given.
        """
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.widths):
            y = nn.Dense(width, kernel_init=torso_init, name=f"dense_{i}")(x)
            y = self.activate(self.normalize(y, str(i)))
            x = x + y if residual and x.shape == y.shape else y
        return x


torsos = Registry("network", Torso)


@torsos.register("mlp")
class Mlp(Torso):
    """Dense layers on the flat observation."""

    unused: ClassVar[tuple[str, ...]] = ("channels",)
    residual: ClassVar[bool] = False

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """`[N, ...]` → `[N, W]`."""
        return self.dense(observation, residual=self.residual)


@torsos.register("residual")
class Residual(Mlp):
    """The same, each layer adding to the one before where they are equally wide."""

    residual: ClassVar[bool] = True


@torsos.register("conv")
class Convolution(Torso):
    """A 3×3 convolution before dense layers, as Young & Tian (2019) have it for MinAtar."""

    least_image: ClassVar[int] = 3

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """`[N, height, width, channels]` → `[N, W]`."""
        x = self.convolution(self.channels, 3, name="conv")(observation)
        return self.dense(self.activate(self.normalize(x, "conv")))


@torsos.register("patches")
class Patches(Convolution):
    """The same function with the same parameters, as products of matrices."""

    as_products: ClassVar[bool] = True


@torsos.register("nature")
class Nature(Torso):
    """Three convolutions before dense layers (Mnih et al. 2015, Methods).

    With `channels=16` they have 32, 64 and 64 channels. The paper has relu and one dense layer of 512.
    """

    least_image: ClassVar[int] = 36
    layers: ClassVar[tuple[tuple[int, int, int], ...]] = ((2, 8, 4), (4, 4, 2), (4, 3, 1))
    """Multiple of `channels`, size of the kernel, and stride, each."""

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """`[N, height, width, channels]` → `[N, W]`."""
        x = observation
        for i, (multiple, size, stride) in enumerate(self.layers):
            conv = self.convolution(multiple * self.channels, size, stride, name=f"conv_{i}")
            x = self.activate(self.normalize(conv(x), f"conv_{i}"))
        return self.dense(x)


@torsos.register("nature-patches")
class NaturePatches(Nature):
    """The same function with the same parameters, as products of matrices."""

    as_products: ClassVar[bool] = True


@torsos.register("impala")
class Impala(Torso):
    """The deep residual network of IMPALA (Espeholt et al. 2018, figure 3 right), without its memory.

    With `channels=16` its sections have 16, 32 and 32 channels. The paper has relu and one dense layer of 256.
    """

    least_image: ClassVar[int] = 1
    multiples: ClassVar[tuple[int, ...]] = (1, 2, 2)
    """A section each, of so many times `channels`."""

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """`[N, height, width, channels]` → `[N, W]`."""
        x = observation
        for i, multiple in enumerate(self.multiples):
            x = self._conv(multiple, f"section_{i}")(x)
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
            for j in range(2):
                x = x + self._block(x, multiple, f"section_{i}_block_{j}")
        return self.dense(self.activate(x))

    def _block(self, x: jax.Array, multiple: int, name: str) -> jax.Array:
        for k in range(2):
            x = self._conv(multiple, f"{name}_{k}")(self.activate(self.normalize(x, f"{name}_{k}")))
        return x

    def _conv(self, multiple: int, name: str) -> nn.Module:
        return self.convolution(multiple * self.channels, 3, padding="SAME", name=name)


@torsos.register("impala-patches")
class ImpalaPatches(Impala):
    """The same function with the same parameters, as products of matrices."""

    as_products: ClassVar[bool] = True


def make_torso(network: str, *, name: str, **settings: Any) -> Torso:
    """The module of that name, to be known as `name` among the parameters."""
    return torsos.get(network)(**settings, name=name)
