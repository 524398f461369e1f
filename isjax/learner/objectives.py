"""Where the algorithms of version 0.1 were: `isjax.learner.algorithms` has them now."""

from isjax._renamed import moved

__getattr__ = moved(
    __name__,
    {
        "ALGORITHMS": "isjax.learner.algorithms:algorithms",
        "Algorithm": "isjax.learner.algorithms:Algorithm",
        "check_settings": "isjax.learner.uses:check_settings",
        "corrected_advantage": "isjax.learner.algorithms.targets:corrected_advantage",
        "get_algorithm": "isjax.learner.uses:get_algorithm",
        "settings_in_use": "isjax.learner.uses:settings_in_use",
    },
)
