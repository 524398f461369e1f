"""Statistics over learners or episodes: interquartile mean, improvement, bootstrap intervals from an explicit key."""

from isjax.stats.bootstrap import Interval, bootstrap_interval, check_level
from isjax.stats.summaries import interquartile_mean, probability_of_improvement

__all__ = ["Interval", "bootstrap_interval", "check_level", "interquartile_mean", "probability_of_improvement"]
