"""A network of one's own is a class in one new file; names that are not known are answered with those that are."""

import dataclasses
import sys
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import networks
from isjax.cli import main
from isjax.learner import Config, Hyper, make_learner
from isjax.registry import Registry
from isjax.run.files import read_json
from isjax.run.plan import Plan
from tests.learner.probes import Probe

SMALL = Config(num_envs=4, unroll_length=5, torso=(6,), evaluation_episodes=3)
OWN = """
import flax.linen as nn
from isjax.networks import Heads, Memory, Torso, register_heads, register_memory, register_torso, take_steps
import jax.numpy as jnp

@register_torso("own-sine")
class Sine(Torso):
    @nn.compact
    def __call__(self, observation):
        return jnp.sin(nn.Dense(self.widths[-1], name="own")(observation))

@register_memory("own-latest")
class Latest(Memory):
    def start(self, batch):
        return jnp.zeros((batch, self.width))

    @nn.compact
    def __call__(self, x, memory, is_first, needed):
        before = jnp.concatenate([memory[None], x[:-1]])
        before = jnp.where(is_first[..., None], 0.0, before)
        return jnp.concatenate([x, before], axis=-1), take_steps(x, needed)

@register_heads("own-dense")
class Dense(Heads):
    @nn.compact
    def __call__(self, x, x_value=None):
        return nn.Dense(self.num_params, name="p")(x), nn.Dense(1, name="v")(x)[..., 0]
"""
REGISTRIES = (networks.torsos, networks.memories, networks.heads)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a module in a file that nothing has imported yet."""
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_parts"
    forget()


def forget():
    """As in another process, which knows nothing of the module."""
    sys.modules.pop("own_parts", None)
    for registry in REGISTRIES:
        for name in [name for name in registry.names if name.startswith("own-")]:
            del registry._classes[name]


def test_parts_of_ones_own_are_asked_for_by_module_and_name(own):
    config = Config(
        num_envs=4, unroll_length=5, torso=(6,), network=f"{own}:own-sine", memory="own-latest", heads="own-dense"
    )
    learner = make_learner(config, environment=Probe(3))
    state, metrics = jax.jit(learner.update)(learner.init(jax.random.key(0)))
    assert metrics["alive"]
    assert jax.tree.map(jnp.shape, state.params)["params"] == {
        "torso": {"own": {"bias": (6,), "kernel": (2, 6)}},
        "heads": {"p": {"bias": (2,), "kernel": (12, 2)}, "v": {"bias": (1,), "kernel": (12, 1)}},
    }


def test_a_run_with_a_network_of_ones_own_is_found_again_by_its_name(own, tmp_path, capsys):
    out = tmp_path / "run"
    small = "--learners 1 --steps 40 --num-envs 2 --unroll-length 5 --evaluation-episodes 2 --quiet"
    assert main(["train", "--network", f"{own}:own-sine", *small.split(), "--out", str(out)]) == 0
    forget()
    assert Plan.from_json(read_json(out / "config.json")).config.network == "own_parts:own-sine"
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert "is finished" in capsys.readouterr().out


def test_a_run_begun_before_a_setting_was_there_is_one_with_its_default():
    plan = Plan(config=SMALL, hyper=Hyper())
    saved = plan.as_json()
    for younger in ("memory_window", "heads", "layer_norm"):
        del saved["config"][younger]
    assert plan.difference(saved) is None
    changed = Plan(config=dataclasses.replace(SMALL, layer_norm=True), hyper=Hyper())
    assert changed.difference(saved) == ("layer_norm", False, True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(network="cnv"), "network must be one of mlp, .*, but it is 'cnv'; did you mean conv?"),
        (dict(memory="grru"), "memory must be one of none, gru, lstm, attention, but it is 'grru'; did you mean gru?"),
        (dict(heads="zzz"), "heads must be one of linear, state-std, dueling, hl-gauss, but it is 'zzz'."),
        (dict(network="nowhere:own"), "network must name a module that can be imported, .*No module named 'nowhere'"),
        (dict(network="json:own"), "network must be one of mlp, .*, but it is 'json:own'"),
        (dict(memory="json:none"), "memory must be one of none, .*, but it is 'json:none'"),
        (dict(memory_window=0), "memory_window must be at least 1, but it is 0"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(network="conv"), r"Convolution takes images .* of at least 3 × 3, but the observation is \[2\]"),
        (dict(network="impala"), r"Impala takes images .* of at least 1 × 1, but the observation is \[2\]"),
    ],
)
def test_a_torso_for_images_refuses_other_observations_before_anything_is_trained(settings, message):
    config = Config(**settings)
    with pytest.raises(ValueError, match=message):
        make_learner(config, environment=Probe(3))


def test_help_names_everything_that_may_be_asked_for(capsys):
    assert main(["train", "--help"]) == 0
    words = set(capsys.readouterr().out.replace(",", " ").replace("(", " ").replace(".", " ").split())
    known = {
        name: registry.get(name).__module__
        for registry in REGISTRIES
        for name in registry.names
        if name not in registry.besides
    }
    assert {name for name, module in known.items() if module.startswith("isjax.")} <= words
    assert "none" in words


def test_a_name_belongs_to_one_class_and_a_class_to_its_kind():
    registry = Registry("network", networks.Torso, besides=("none",))
    twice = [type("Twice", (networks.Torso,), {"__module__": "cell"}) for _ in range(2)]
    registry.register("a")(twice[0])
    registry.register("a")(twice[1])
    assert registry.get("a") is twice[1]
    other = type("Other", (networks.Torso,), {})
    with pytest.raises(ValueError, match="network 'a' is taken"):
        registry.register("a")(other)
    with pytest.raises(ValueError, match="network 'none' is taken"):
        registry.register("none")(other)
    with pytest.raises(ValueError, match="name must be letters"):
        registry.register("a:b")
    with pytest.raises(TypeError, match="must be a subclass of Torso"):
        registry.register("b")(nn.Dense)


class Recurrent(NamedTuple):
    start: object
    init: object
    apply: object


def _sum_start(batch):
    return jnp.zeros((batch, 1))


def _sums(params, observation, memory, is_first):
    def step(memory, row):
        seen, is_first = row
        memory = jnp.where(is_first[:, None], 0.0, memory) + seen[:, :1]
        return memory, memory

    _, memories = jax.lax.scan(step, memory, (observation, is_first))
    value = memories[..., 0] * params["w"]
    return jnp.stack([value, jnp.zeros_like(value)], axis=-1), value, memories


def _old_init(key, observation, memory, is_first):
    return {"w": jnp.ones(())}


def _new_apply(params, observation, memory, is_first, needed):
    assert needed.shape[1:] == is_first.shape[1:]
    assert needed.dtype == jnp.int32
    policy, value, memories = _sums(params, observation, memory, is_first)
    return policy, value, networks.take_steps(memories, needed)


def test_a_network_that_returns_every_memory_still_serves_and_is_told_what_changes():
    probe = Probe(3, ends="truncated")
    with pytest.warns(DeprecationWarning, match="takes a fifth argument, needed"):
        old = make_learner(SMALL, environment=probe, network=Recurrent(_sum_start, _old_init, _sums))
    new = make_learner(
        SMALL, environment=probe, network=Recurrent(_sum_start, lambda *args: _old_init(*args[:4]), _new_apply)
    )
    states = [jax.jit(learner.update)(learner.init(jax.random.key(0)))[0].params for learner in (old, new)]
    np.testing.assert_array_equal(states[0]["w"], states[1]["w"])
    assert states[0]["w"] != 1.0


def test_a_memory_is_asked_for_the_last_step_and_those_before_cut_observations_alone():
    """In unrolls of 5 a limit of 3 cuts at most twice, and the learner asks for no more memories than that."""
    asked = set()

    def apply(params, observation, memory, is_first, needed):
        asked.add((is_first.shape, needed.shape))
        return _new_apply(params, observation, memory, is_first, needed)

    network = Recurrent(_sum_start, lambda *args: _old_init(*args[:4]), apply)
    learner = make_learner(SMALL, environment=Probe(3, ends="truncated"), network=network)
    jax.eval_shape(lambda key: learner.update(learner.init(key)), jax.random.key(0))
    learning = {needed for is_first, needed in asked if is_first == (6, 4)}
    acting = {(is_first, needed) for is_first, needed in asked if is_first[0] == 1}
    assert learning == {(2, 4)}
    assert acting == {((1, 4), (1, 4)), ((1, 8), (1, 8))}


def test_the_old_place_of_the_networks_warns():
    import isjax.learner.networks as old

    with pytest.warns(DeprecationWarning, match="is isjax.networks.ActorCritic now"):
        assert old.ActorCritic is networks.ActorCritic
