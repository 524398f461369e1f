"""Animated pictures of an episode."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HEIGHT = 240
"""Pixels."""


def write_gif(frames: Sequence[Any], path: Path, *, seconds: float = 0.1) -> None:
    """Writes an animated GIF; small images are enlarged, by a whole number, to about `HEIGHT`.

    Args:
      frames: images `[height, width, 3]` of one size each; floats are taken for numbers from 0 to 1, or to 255 where
        any is above 1.
      path: of the file.
      seconds: that each is shown for; at least a fiftieth, as viewers slow down what is quicker.
    """
    from PIL import Image

    images = [Image.fromarray(_enlarged(_bytes(np.asarray(frame)))) for frame in frames]
    milliseconds = max(20, round(1000 * seconds))
    images[0].save(path, save_all=True, append_images=images[1:], duration=milliseconds, loop=0)


def _enlarged(frame: np.ndarray) -> np.ndarray:
    factor = max(1, HEIGHT // frame.shape[0])
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def _bytes(frame: np.ndarray) -> np.ndarray:
    if frame.dtype == np.uint8:
        return frame
    scale = 255.0 if frame.max(initial=0.0) <= 1.0 else 1.0
    return np.clip(frame * scale, 0, 255).astype(np.uint8)
