"""Every algorithm declares the settings that it uses; others are refused where they are given."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.environments.distributions import Gaussian
from isjax.learner import Config, Hyper, make_learner
from isjax.learner.algorithms import Algorithm, Batch, Critics, Prepared, algorithms
from isjax.learner.algorithms.base import PARTICULAR, PRIORITY
from isjax.learner.defaults import defaults
from isjax.learner.uses import check_settings, get_algorithm, settings_in_use
from isjax.types import Terms

OTHER_VALUES = dict(
    correction="none",
    emphasis=True,
    products="self-normalized",
    normalize_advantages=True,
    clip_values=True,
    replay_fraction=0.5,
    replay_size=7,
    replay_priority=True,
    replay_mask=True,
    burn_in=2,
    exploration="softmax",
    ties="average",
    target_policy="softmax",
    target_network="none",
    target_period=7,
    double_q=True,
    n_step=3,
    n_step_correction="none",
)
VARIANTS = [
    *((name, {}) for name in algorithms.names),
    ("dqn", dict(n_step=3, target_network="polyak")),
    ("retrace", dict(exploration="softmax", target_policy="softmax")),
    ("expected-sarsa", dict(exploration="softmax", target_policy="behavior", target_network="none")),
]
"""Algorithms with settings that bring others into use."""


def variant(algorithm, changes):
    """A configuration of it with 100 updates."""
    own = dict(share_torso=False) if algorithm == "trpo" else {}
    return Config(algorithm=algorithm, steps=12_800, **own, **changes)


def settings_of(algorithm, **changes):
    """The defaults of an algorithm with changes, of `Config` or `Hyper`."""
    config, hyper = defaults("CartPole-v1", algorithm)
    static = {name: x for name, x in changes.items() if hasattr(Config, name)}
    rest = {name: x for name, x in changes.items() if name not in static}
    return dataclasses.replace(config, **static), dataclasses.replace(hyper, **rest)


@pytest.mark.parametrize("algorithm", algorithms.names)
def test_what_an_algorithm_does_not_declare_is_refused_by_name(algorithm):
    uses = get_algorithm(settings_of(algorithm)[0]).uses
    assert set(uses) <= set(PARTICULAR)
    for name in set(PARTICULAR) - set(uses):
        value = OTHER_VALUES.get(name, 0.123)
        config, hyper = settings_of(algorithm, **{name: value})
        with pytest.raises(ValueError, match=rf"{name} must be (left alone|off|0) (for {algorithm}|where)"):
            check_settings(config, hyper)


def test_every_particular_setting_is_used_by_somebody():
    used = {name for each in VARIANTS for name in get_algorithm(variant(*each)).uses}
    assert used == set(PARTICULAR)


@pytest.mark.parametrize(("algorithm", "changes"), VARIANTS)
def test_an_algorithm_uses_the_numbers_that_it_declares_and_no_others(algorithm, changes):
    """Who acts, the loss, and what comes before and after it change, as functions of `Hyper`, with these alone."""
    made = get_algorithm(variant(algorithm, changes))
    keys = jax.random.split(jax.random.key(0), 8)
    x = [jax.random.normal(key, (6, 4)) for key in keys]
    log_pi, log_mu = x[0], x[0] - 0.5 * x[1]
    same = jnp.ones((6, 4), bool)
    values = jax.random.normal(jax.random.key(1), (3, 6, 4, 2))
    action = jnp.argmax(values[0], axis=-1)
    terms = Terms(log_pi, x[2] ** 2, x[3], x[4], log_mu, x[5], jnp.full((6, 4), 0.9), same)

    def of_critics(hyper):
        params = made.parameters({"policy": {}, "critics": jnp.ones(2)}, hyper)
        q = lambda critics, action: jnp.stack([critics[0] * action[..., 0], critics[1] + x[3]], axis=-1)  # noqa: E731
        critics = Critics(params, Gaussian((1,), None, None), q, q, keys[0])
        state = made.init(params, hyper)
        batch = Batch(terms, values[0], values[1], x[4][..., None], state, None, critics=critics)
        after = made.after(state, params | {"critics": jnp.zeros(2)}, None, hyper)[0]
        rates = {name: x for name, x in made.learning_rates(hyper).items() if name != "policy"}
        return jnp.concatenate([made.loss(batch, hyper)[0][None], after, jnp.array(list(rates.values()))])

    def of(hyper):
        if made.critics:
            return of_critics(hyper)
        state = made.init({"w": jnp.zeros(2)}, hyper)
        state = state._replace(updates=jnp.int32(5)) if made.has_action_values else state
        seen = Batch(terms, values[1], values[2], action, state, None)
        batch = Batch(terms, values[0], values[1], action, state, lambda params: seen)
        if made.prepare is not None:
            old = (log_pi + 0.3 * x[6], x[7], x[6] ** 2)
            batch = batch._replace(prepared=Prepared(*made.prepare(terms, hyper), *old))
        found = made.loss(batch, hyper)[0]
        if made.has_action_values:
            after = made.after(state, {"w": jnp.ones(2)}, lambda params: seen, hyper)[0]
            acting = made.behave(values[0], state, hyper)
            found = jnp.concatenate([found[None], acting.ravel(), *(x.ravel() for x in jax.tree.leaves(after.target))])
        return found

    start = Hyper(lambda_=0.9, exploration_share=0.1)
    before = of(start)
    elsewhere = {"replay_max_kl", "max_kl", *PRIORITY}
    names = {field.name for field in dataclasses.fields(Hyper)} & set(PARTICULAR) - elsewhere
    changed = {name for name in names if (of(dataclasses.replace(start, **{name: 0.37})) != before).any()}
    assert changed == names & set(made.uses)


def test_ppo_does_not_ignore_a_correction_or_products():
    config = Config(algorithm="ppo", correction="none", products="self-normalized")
    with pytest.raises(
        ValueError, match="correction must be left alone for ppo, which does not use it, but it is none"
    ):
        make_learner(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(replay_size=7), "replay_size must be left alone where replay_fraction is 0, but it is 7"),
        (dict(replay_fraction=0.5, replay_max_kl=0.1), "replay_max_kl must be left alone where replay_mask is off"),
        (dict(channels=8), "channels must be left alone where network is mlp, but it is 8"),
        (dict(temperature=np.array([1.0, 2.0])), "temperature must be left alone for impala, .* but it is 2.0"),
        (dict(correction="epsilon", clip_rho=2.0), "clip_rho must be left alone for impala, .* but it is 2.0"),
    ],
)
def test_what_another_setting_switches_off_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check_settings(*settings_of("impala", **changes))


def test_an_objective_of_ones_own_uses_what_it_likes():
    config = Config(correction="none", clip_values=True)
    assert get_algorithm(config, lambda terms, hyper: (jnp.zeros(()), {})).uses is None
    assert get_algorithm(config, Algorithm(config)).uses is None


def test_in_a_sweep_it_is_enough_that_one_algorithm_uses_a_setting():
    pair = [settings_of(name, temperature=0.5, clip_values=True) for name in ("impala", "awr", "ppo")]
    impala, awr, ppo = settings_in_use(pair)
    assert (impala[1].temperature, awr[1].temperature, ppo[1].temperature) == (1.0, 0.5, 1.0)
    assert (impala[0].clip_values, awr[0].clip_values, ppo[0].clip_values) == (False, False, True)
    with pytest.raises(ValueError, match="temperature must be left alone for impala"):
        settings_in_use([settings_of("impala"), settings_of("impala", temperature=0.5)])
