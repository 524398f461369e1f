"""Rows of a state, and back."""

import jax
import numpy as np
from orbax.checkpoint._src.futures import signaling_client

from isjax.learner.keys import unrolled_threefry
from isjax.run.checkpoints import Checkpoints, pack, read_newest, sealed_progress, unpack


def test_keys_of_either_implementation_come_back_as_they_were():
    keys = jax.random.split(jax.random.key(0), 3)
    state = {"given": keys, "unrolled": unrolled_threefry(keys)}
    like = jax.eval_shape(lambda: state)
    rows = {name: np.asarray(x) for name, x in pack(state).items()}
    back = unpack(rows, like, "threefry2x32")
    for name, x in back.items():
        assert x.dtype == state[name].dtype
        np.testing.assert_array_equal(jax.random.key_data(x), jax.random.key_data(keys))


def test_a_checkpoint_waits_for_no_signal_which_another_host_could_give_or_take_away(tmp_path, monkeypatch):
    client = signaling_client.get_signaling_client()
    signals = []
    monkeypatch.setattr(client, "key_value_set", lambda key, *_, **__: signals.append(key))
    monkeypatch.setattr(client, "blocking_key_value_get", lambda key, *_, **__: signals.append(key))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"float32": np.ones((2, 3), np.float32)}, {"update": 1})
    checkpoints.wait()
    restored = read_newest(tmp_path)
    checkpoints.close()
    assert restored.update == 1
    np.testing.assert_array_equal(restored.rows["float32"], np.ones((2, 3)))
    assert signals == []


def test_arrays_by_their_former_names_are_those_by_the_present_ones(tmp_path):
    checkpoints, one = Checkpoints(tmp_path), ["float32", []]
    progress = sealed_progress(1, np.arange(2), "run", layout={"kl_cost": one, "update": one})
    checkpoints.save(1, {"float32": np.ones((2, 2), np.float32)}, progress)
    checkpoints.wait()
    assert read_newest(tmp_path).progress["layout"] == {"algorithm": one, "update": one}
    checkpoints.close()
