"""Populations that learn, for experiments that compare what they come to."""

import jax
import numpy as np

from isjax.learner.config import Config, Hyper
from isjax.learner.learner import make_learner
from isjax.population import make_population


def final_returns(config: Config, hyper: Hyper, learners: int, seed: int) -> np.ndarray:
    """`[learners]`, mean returns of an evaluation after the last update; NaN for learners that died."""
    population = make_population(make_learner(config), learners, devices=jax.local_devices())
    key, evaluation_key = jax.random.split(jax.random.key(seed))
    state, _ = population.advance(population.init(key, hyper), config.updates)
    returns = population.evaluate(state, evaluation_key).episode_return.mean(1)
    return np.where(np.asarray(state.alive), np.asarray(returns), np.nan)
