"""Animated pictures."""

import numpy as np
import pytest
from PIL import Image

from isjax.environments.pictures import write_gif


@pytest.mark.parametrize(
    ("frames", "shades"),
    [
        ([np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 255, np.uint8)], [0, 255]),
        ([np.zeros((4, 6, 3)), np.ones((4, 6, 3)), np.full((4, 6, 3), 0.5)], [0, 255, 127]),
        ([np.full((4, 6, 3), 2.0), np.full((4, 6, 3), 300.0)], [2, 255]),
    ],
)
def test_a_film_has_its_frames_in_their_order_and_shades(frames, shades, tmp_path):
    path = tmp_path / "episode.gif"
    write_gif(frames, path, seconds=0.2)
    with Image.open(path) as film:
        assert (film.n_frames, film.size, film.info["duration"]) == (len(frames), (6 * 60, 4 * 60), 200)
        for i, shade in enumerate(shades):
            film.seek(i)
            assert abs(int(np.asarray(film.convert("RGB"))[0, 0, 0]) - shade) <= 1
