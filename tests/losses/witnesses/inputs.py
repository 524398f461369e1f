"""The batches that other libraries' losses were computed of, in float64 and NumPy alone."""

import numpy as np

B, T = 6, 7
LENGTHS = (7, 3, 5, 1, 6, 4)


def arrays(seed=0):
    """Log-probabilities under three policies and a reference, `[B, T]`, advantages `[B]`, and a mask of floats."""
    rng = np.random.default_rng(seed)
    log_pi = -rng.exponential(size=(B, T))
    near = {name: log_pi + 0.35 * rng.normal(size=(B, T)) for name in ("log_old", "log_mu", "log_reference")}
    mask = (np.arange(T) < np.array(LENGTHS)[:, None]).astype(float)
    # Close enough in some sequences for the narrow intervals of sequence-level losses.
    near["log_old"][:3] = log_pi[:3] + 2e-4 * rng.normal(size=(3, T))
    near = {name: np.minimum(x, -1e-3) for name, x in near.items()}
    return {"log_pi": log_pi, "advantage": rng.normal(size=B), "mask": mask} | near


def rewards(seed=1):
    """`[4, 5]`, of which one group has equal rewards."""
    reward = np.random.default_rng(seed).integers(0, 3, size=(4, 5)).astype(float)
    reward[2] = 0.1
    return reward
