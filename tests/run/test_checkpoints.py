"""Rows of a state, and back."""

import jax
import numpy as np

from isjax.learner.keys import written_out
from isjax.run.checkpoints import pack, unpack


def test_keys_of_either_implementation_come_back_as_they_were():
    keys = jax.random.split(jax.random.key(0), 3)
    state = {"given": keys, "written_out": written_out(keys)}
    like = jax.eval_shape(lambda: state)
    rows = {name: np.asarray(x) for name, x in pack(state).items()}
    back = unpack(rows, like, "threefry2x32")
    for name, x in back.items():
        assert x.dtype == state[name].dtype
        np.testing.assert_array_equal(jax.random.key_data(x), jax.random.key_data(keys))
