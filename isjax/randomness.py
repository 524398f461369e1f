"""Every use of randomness, in one list. Whatever is drawn comes from a key or generator of its own `Domain`.

A key is either drawn from, or split up: into domains by `stream`, or by index (learners, updates, episodes, steps).
`jax.random.split(key, n)[i]` and `fold_in(key, i)` may be the same key; no index reaches the numbers of domains, which
begin at 2³¹, so that indices and domains of one key never meet.
"""

import enum

import jax
import numpy as np

from isjax.types import Key


class Domain(enum.IntEnum):
    """What a key is for. A number that was given away is never given away again."""

    # Of a seed, on the command line.
    TRAINING = 2**31
    """Learner i trains on `fold_in(stream(key(seed), TRAINING), i)`."""
    EVALUATION = 2**31 + 1
    """The evaluation after each part of a run, the last one among them; by update, then by learner."""
    BOOTSTRAP = 2**31 + 2
    """Intervals of final returns."""
    RECORDING = 2**31 + 3
    """Episodes of `isjax record`, by batch."""
    TRUE_VALUE = 2**31 + 4
    """Episodes that measure the true value of a recorded policy, by batch."""
    FRESH_EVALUATION = 2**31 + 5
    """The evaluation of `isjax best`."""
    PICTURE = 2**31 + 6
    """The episode that `isjax best` draws."""
    SWEEP = 2**31 + 7
    """Settings that a sweep draws."""
    LOG_BOOTSTRAP = 2**31 + 8
    """Intervals of `isjax evaluate`."""
    REPORT_MEAN = 2**31 + 9
    """Intervals of the curves of a page."""
    REPORT_IMPROVEMENT = 2**31 + 10
    """Intervals of a page that compares runs."""
    FILMS = 2**31 + 11
    """The episodes that a run films on its way, by update."""

    # Of a learner's key.
    PARAMETERS = 2**31 + 20
    """The network's first parameters."""
    FIRST_RESETS = 2**31 + 21
    """The environments that training starts in."""
    UPDATES = 2**31 + 22
    """Everything that updates draw, by update."""
    FIRST_POOL = 2**31 + 23
    """The reset states that a pool starts with."""

    # Of an update's key.
    ACTIONS = 2**31 + 30
    """The noise of every action."""
    STEPS = 2**31 + 31
    """The environments' own randomness, by step and environment."""
    RESETS = 2**31 + 32
    """The states that episodes start anew from, by step and environment, or by place in a pool."""
    MINIBATCHES = 2**31 + 33
    """The order of steps, by epoch."""
    REPLAYED_UNROLLS = 2**31 + 34
    """Which unrolls are learned from again."""
    REPLAYED_ENVIRONMENTS = 2**31 + 35
    """Which environment of each of them."""
    LEARNING = 2**31 + 36
    """What an algorithm draws itself, by gradient step."""

    # Of the key of episodes that are played from start to end: evaluation, recording, pictures.
    EPISODE_RESETS = 2**31 + 40
    """Their first states, by episode."""
    EPISODE_ACTIONS = 2**31 + 41
    """What chooses an action, by step."""
    EPISODE_STEPS = 2**31 + 42
    """The environments' own randomness, by step and episode."""

    # Of the key that an action of a recording is chosen by.
    OWN_ACTIONS = 2**31 + 50
    """The noise of the acting policy."""
    UNIFORM_ACTIONS = 2**31 + 51
    """The action that is taken in its place."""
    EXPLORING = 2**31 + 52
    """Whether it is."""


def stream(key: Key, domain: Domain, *indices: jax.Array | int) -> Key:
    """The key of a domain of `key`, or of one of its updates, learners, batches or steps.

    >>> key = jax.random.key(0)
    >>> bool(stream(key, Domain.ACTIONS, 3) == jax.random.fold_in(stream(key, Domain.ACTIONS), 3))
    True
    """
    key = jax.random.fold_in(key, np.uint32(domain))
    for index in indices:
        key = jax.random.fold_in(key, index)
    return key


def generator(seed: int, domain: Domain) -> np.random.Generator:
    """NumPy's generator of a domain of a seed."""
    return np.random.default_rng((int(domain), seed))
