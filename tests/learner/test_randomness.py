"""Whatever is drawn is drawn from a key of its own: every key that a whole run, and all about it, ever uses."""

import types

import jax
import numpy as np
import pytest
from jax.extend.random import define_prng_impl

from isjax.commands import best, evaluate, record
from isjax.environments.adapter import as_environment
from isjax.learner import Config, Hyper, make_learner
from isjax.learner.learner import make_agent
from isjax.population import make_population
from isjax.randomness import Domain, generator, stream
from isjax.run import policy, restore, sweep
from isjax.run.plan import Plan, bootstrap_key, evaluation_key, training_key
from isjax.run.restore import Picked
from tests.learner.probes import Restless

SEED = 3


class Ledger:
    """Threefry that notes which keys numbers were drawn from, and which ones were split up."""

    def __init__(self):
        self.make_key = jax.random.key
        self.drawn: list[bytes] = []
        self.split: set[bytes] = set()
        self.implementation = define_prng_impl(
            key_shape=(2,),
            seed=lambda seed: jax.random.key_data(self.make_key(seed)),
            split=lambda key, shape: jax.random.key_data(jax.random.split(self._split(key), shape)),
            random_bits=lambda key, width, shape: jax.random.bits(self._drawn(key), shape, f"uint{width}"),
            fold_in=lambda key, data: jax.random.key_data(jax.random.fold_in(self._split(key), data)),
            name="ledger",
            tag="ledger",
        )

    def key(self, seed):
        return jax.random.wrap_key_data(jax.random.key_data(self.make_key(seed)), impl=self.implementation)

    def _split(self, key):
        jax.debug.callback(lambda key: self.split.add(np.asarray(key).tobytes()), key)
        return jax.random.wrap_key_data(key, impl="threefry2x32")

    def _drawn(self, key):
        jax.debug.callback(lambda key: self.drawn.append(np.asarray(key).tobytes()), key)
        return jax.random.wrap_key_data(key, impl="threefry2x32")


def test_domains_are_all_different_and_beyond_every_index():
    assert len({int(domain) for domain in Domain}) == len(Domain.__members__)
    assert all(2**31 <= domain < 2**32 for domain in Domain)
    key = jax.random.key(0)
    split = jax.random.key_data(jax.random.split(key, 64))
    streams = np.stack([jax.random.key_data(stream(key, domain)) for domain in Domain])
    assert len(np.unique(np.concatenate([split, streams]), axis=0)) == 64 + len(Domain)
    first = {generator(0, domain).random() for domain in (Domain.SWEEP, Domain.REPORT_MEAN, Domain.REPORT_IMPROVEMENT)}
    assert len(first | {np.random.default_rng(0).random()}) == 4


@pytest.mark.parametrize(
    "settings",
    [
        dict(epochs=3, replay_fraction=0.5, replay_size=2),
        dict(algorithm="ppo", epochs=2, minibatches=2, resets_per_unroll=1),
    ],
    ids=["replay", "minibatches"],
)
def test_nothing_is_ever_drawn_twice_from_one_key(settings, monkeypatch, tmp_path):
    """A run with two evaluations, and record, best and evaluate with the seed of the run."""
    ledger, probe = Ledger(), Restless(3)
    monkeypatch.setattr(jax.random, "key", ledger.key)
    monkeypatch.setattr("isjax.learner.learner.make", lambda *name: as_environment(probe))
    config = Config(num_envs=2, unroll_length=4, torso=(4,), evaluation_episodes=2, **settings)
    plan = Plan(config=config, hyper=Hyper(), learners=3, seed=SEED)
    learner = make_learner(config)
    population = make_population(learner, 3, devices=jax.devices()[:1])
    state, _ = population.advance(population.init(training_key(plan)), 2)
    for update in (1, None):
        population.evaluate(state, evaluation_key(plan, update))
    one = jax.tree.map(lambda x: x[0], state)
    trained = types.SimpleNamespace(
        plan=plan, pick=lambda index: Picked(0, 2, one), results=types.SimpleNamespace(last_scores=np.zeros(3))
    )
    monkeypatch.setattr(restore, "open_run", lambda folder: trained)
    monkeypatch.setattr(sweep, "best_group", lambda folder: folder)
    log = tmp_path / "log.npz"
    record.record(record.RecordFlags(run="run", out=str(log), episodes=3, truth_episodes=2, seed=SEED))
    best.best(best.BestFlags(run="run", out=str(tmp_path / "best"), episodes=2, seed=SEED))
    policy.player(make_agent(config))(one, stream(ledger.key(SEED), Domain.PICTURE))
    monkeypatch.setattr("isjax.ope.ranking.evaluate_log", lambda *log, key, **options: {}[int(jax.random.bits(key))])
    with pytest.raises(KeyError):
        evaluate.evaluate(evaluate.EvaluateFlags(log=str(log), discount=0.9, seed=SEED))
    jax.random.bits(bootstrap_key(plan))
    jax.effects_barrier()
    assert len(ledger.drawn) > 150
    assert len(ledger.drawn) == len(set(ledger.drawn))
    assert not ledger.split & set(ledger.drawn)
