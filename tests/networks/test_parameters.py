"""Checkpoints name parameters: what they are called and how large they are does not change."""

import jax
import pytest

from isjax.learner import Config
from isjax.learner.learner import make_agent

KNOWN = {
    "mlp": (
        dict(torso=(8, 6)),
        {
            "params/heads/heads/bias": (3,),
            "params/heads/heads/kernel": (6, 3),
            "params/torso/dense_0/bias": (8,),
            "params/torso/dense_0/kernel": (4, 8),
            "params/torso/dense_1/bias": (6,),
            "params/torso/dense_1/kernel": (8, 6),
        },
    ),
    "mlp separate box": (
        dict(env="Pendulum-v1", torso=(8,), share_torso=False),
        {
            "params/heads/log_std": (1,),
            "params/heads/policy/bias": (1,),
            "params/heads/policy/kernel": (8, 1),
            "params/heads/value/bias": (1,),
            "params/heads/value/kernel": (8, 1),
            "params/torso/dense_0/bias": (8,),
            "params/torso/dense_0/kernel": (3, 8),
            "params/value_torso/dense_0/bias": (8,),
            "params/value_torso/dense_0/kernel": (3, 8),
        },
    ),
    "box with deviations by state": (
        dict(env="Pendulum-v1", torso=(8,), heads="state-std"),
        {
            "params/heads/heads/bias": (3,),
            "params/heads/heads/kernel": (8, 3),
            "params/torso/dense_0/bias": (8,),
            "params/torso/dense_0/kernel": (3, 8),
        },
    ),
    "conv": (
        dict(env="Breakout-MinAtar", network="conv", torso=(8,), channels=3),
        {
            "params/heads/heads/bias": (4,),
            "params/heads/heads/kernel": (8, 4),
            "params/torso/conv/bias": (3,),
            "params/torso/conv/kernel": (3, 3, 4, 3),
            "params/torso/dense_0/bias": (8,),
            "params/torso/dense_0/kernel": (192, 8),
        },
    ),
    "gru box": (
        dict(env="Pendulum-v1", torso=(6,), memory="gru"),
        {
            "params/cell/hn/bias": (6,),
            "params/cell/hn/kernel": (6, 6),
            "params/cell/hr/kernel": (6, 6),
            "params/cell/hz/kernel": (6, 6),
            "params/cell/in/bias": (6,),
            "params/cell/in/kernel": (6, 6),
            "params/cell/ir/bias": (6,),
            "params/cell/ir/kernel": (6, 6),
            "params/cell/iz/bias": (6,),
            "params/cell/iz/kernel": (6, 6),
            "params/heads/heads/bias": (2,),
            "params/heads/heads/kernel": (6, 2),
            "params/heads/log_std": (1,),
            "params/torso/dense_0/bias": (6,),
            "params/torso/dense_0/kernel": (3, 6),
        },
    ),
    "conv lstm": (
        dict(env="Breakout-MinAtar", network="conv", torso=(5,), channels=3, memory="lstm"),
        {
            "params/cell/hf/bias": (5,),
            "params/cell/hf/kernel": (5, 5),
            "params/cell/hg/bias": (5,),
            "params/cell/hg/kernel": (5, 5),
            "params/cell/hi/bias": (5,),
            "params/cell/hi/kernel": (5, 5),
            "params/cell/ho/bias": (5,),
            "params/cell/ho/kernel": (5, 5),
            "params/cell/if/kernel": (5, 5),
            "params/cell/ig/kernel": (5, 5),
            "params/cell/ii/kernel": (5, 5),
            "params/cell/io/kernel": (5, 5),
            "params/heads/heads/bias": (4,),
            "params/heads/heads/kernel": (5, 4),
            "params/torso/conv/bias": (3,),
            "params/torso/conv/kernel": (3, 3, 4, 3),
            "params/torso/dense_0/bias": (5,),
            "params/torso/dense_0/kernel": (192, 5),
        },
    ),
}


def shapes(config):
    agent = make_agent(config)
    observation = jax.eval_shape(lambda: jax.vmap(agent.adapter.reset)(jax.random.split(jax.random.key(0), 2))[0])
    params = jax.eval_shape(lambda seen: agent.init(jax.random.key(0), seen), observation)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): x.shape for path, x in jax.tree.leaves_with_path(params)
    }


@pytest.mark.parametrize(("settings", "known"), KNOWN.values(), ids=KNOWN)
def test_parameters_keep_their_names_and_shapes(settings, known):
    assert shapes(Config(**settings)) == known


def test_a_convolution_by_products_has_the_parameters_of_a_convolution():
    settings, known = KNOWN["conv lstm"]
    assert shapes(Config(**settings | dict(network="patches"))) == known


def test_layer_norm_adds_a_scale_and_a_bias_for_each_layer_and_nothing_else():
    settings, known = KNOWN["conv"]
    found = shapes(Config(**settings, layer_norm=True))
    added = {name: found[name] for name in found.keys() - known.keys()}
    assert added == {
        "params/torso/norm_0/bias": (8,),
        "params/torso/norm_0/scale": (8,),
        "params/torso/norm_conv/bias": (3,),
        "params/torso/norm_conv/scale": (3,),
    }
    assert found.items() >= known.items()
