"""One learner: environments, networks, acting and updating. Brings flax, optax and gymnax with it."""

from isjax.learner.config import Config, Hyper
from isjax.learner.learner import Evaluation, Learner, LearnerState, make_learner

__all__ = ["Config", "Evaluation", "Hyper", "Learner", "LearnerState", "make_learner"]
