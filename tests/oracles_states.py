"""Definitions by states in plain NumPy and float64: loops over episodes, and a process whose paths can be listed.

An episode is a tuple of arrays `(states, log_rho, r)` or `(states, log_rho, r, v, q)`, each as long as the episode.
"""

from typing import NamedTuple

import numpy as np

ENDED = -1


def state_at(episode, t):
    return episode[0][t] if t < len(episode[0]) else ENDED


def rho_at(episode, t):
    return np.exp(episode[1][t]) if t < len(episode[1]) else 1.0


def distributions(episodes, self_normalized=False):
    """`[(d_pi, d_mu), …]` by step, each a dictionary from states to probabilities."""
    found, n = [], len(episodes)
    d_pi = {s: sum(state_at(e, 0) == s for e in episodes) / n for s in {state_at(e, 0) for e in episodes}}
    for t in range(max(len(e[0]) for e in episodes)):
        here = {s: [e for e in episodes if state_at(e, t) == s] for s in {state_at(e, t) for e in episodes}}
        found.append((d_pi, {s: len(visits) / n for s, visits in here.items()}))
        following = dict.fromkeys({state_at(e, t + 1) for e in episodes}, 0.0)
        for s, visits in here.items():
            total = sum(rho_at(e, t) for e in visits) if self_normalized else len(visits)
            for e in visits:
                following[state_at(e, t + 1)] += d_pi[s] * rho_at(e, t) / total if total > 0 else 0.0
        d_pi = following
    return found


def mean_ratio(episodes, t, s):
    return np.mean([rho_at(e, t) for e in episodes if state_at(e, t) == s])


def marginalized_is(episodes, gamma, self_normalized=False):
    """`Σ_t γ^t Σ_s d̂_t(s) r̂_t(s)`."""
    value = 0.0
    for t, (d_pi, _) in enumerate(distributions(episodes, self_normalized)):
        for s in d_pi.keys() - {ENDED}:
            visits = [e for e in episodes if state_at(e, t) == s]
            total = sum(rho_at(e, t) for e in visits) if self_normalized else len(visits)
            value += gamma**t * d_pi[s] * sum(rho_at(e, t) * e[2][t] for e in visits) / total
    return value


def marginalized_doubly_robust(episodes, gamma):
    """Kallus & Uehara's sum, with the weight before a step as their `μ_{t−1}`."""
    ratios = [{s: p / d_mu[s] for s, p in d_pi.items()} for d_pi, d_mu in distributions(episodes)]
    total = 0.0
    for e in episodes:
        for t in range(len(e[0])):
            own = ratios[t][e[0][t]] * rho_at(e, t)
            before = ratios[t - 1][e[0][t - 1]] * rho_at(e, t - 1) if t else 1.0
            total += gamma**t * (own * (e[2][t] - e[4][t]) + before * e[3][t])
    return total / len(episodes)


def contributions(episodes, gamma):
    """What each episode contributes to `marginalized_is`: the doubly robust sum with the values fitted to the log."""
    ratios = [{s: p / d_mu[s] for s, p in d_pi.items()} for d_pi, d_mu in distributions(episodes)]
    values = [{} for _ in range(len(ratios) + 1)]
    for t in reversed(range(len(ratios))):
        for s in {state_at(e, t) for e in episodes} - {ENDED}:
            visits = [e for e in episodes if state_at(e, t) == s]
            goals = [rho_at(e, t) * (e[2][t] + gamma * values[t + 1].get(state_at(e, t + 1), 0.0)) for e in visits]
            values[t][s] = np.mean(goals)
    found = []
    for e in episodes:
        total = values[0][e[0][0]]
        for t in range(len(e[0])):
            goal = rho_at(e, t) * (e[2][t] + gamma * values[t + 1].get(state_at(e, t + 1), 0.0))
            total += gamma**t * ratios[t][e[0][t]] * (goal - values[t][e[0][t]])
        found.append(total)
    return np.array(found)


def stationary_is(episodes, gamma, states, *, self_normalized=True, horizon=None):
    """Visits of all steps together; every episode ended in a terminal state."""
    transition, reward, start = np.zeros((states, states)), np.zeros(states), np.zeros(states)
    for e in episodes:
        start[e[0][0]] += 1 / len(episodes)
    for s in range(states):
        rows = [(e, t) for e in episodes for t in range(len(e[0])) if e[0][t] == s]
        total = sum(rho_at(e, t) for e, t in rows) if self_normalized else len(rows)
        for e, t in rows:
            reward[s] += rho_at(e, t) * e[2][t] / total
            if t + 1 < len(e[0]):
                transition[s, e[0][t + 1]] += rho_at(e, t) / total
    if horizon is None:
        return start @ np.linalg.solve(np.eye(states) - gamma * transition, reward)
    value, d = 0.0, start
    for t in range(horizon):
        value, d = value + gamma**t * d @ reward, d @ transition
    return value


def pad(episodes, rows):
    """`(state, log_rho, r, …, is_valid)`, `[rows, N]` each, with garbage past the end of each episode."""
    shape = (rows, len(episodes))
    arrays = [np.full(shape, -77), *(np.full(shape, np.nan) for _ in episodes[0][1:])]
    is_valid = np.zeros(shape, bool)
    for i, episode in enumerate(episodes):
        for array, x in zip(arrays, episode, strict=True):
            array[: len(x), i] = x
        is_valid[: len(episode[0]), i] = True
    return *arrays, is_valid


def random_episodes(seed, count=7, longest=5, states=3):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    return [(rng.integers(0, states, n), *rng.normal(size=(4, n))) for n in lengths]


class Process(NamedTuple):
    """A process of `horizon` steps at most whose last state is terminal; its paths under μ are listed with copies.

    μ takes both actions with ½, and transition probabilities are quarters: each path of h steps is `8^(H − h)` times as
    many copies as one of H steps and equal odds, so that the list is the distribution.
    """

    transition: np.ndarray  # [S, A, S], quarters
    reward: np.ndarray  # [S, A]
    pi: np.ndarray  # [S, A]
    horizon: int

    @classmethod
    def random(cls, seed, *, states=3, horizon=3):
        rng = np.random.default_rng(seed)
        transition = rng.multinomial(4, np.ones(states) / states, size=(states, 2)) / 4
        pi = rng.dirichlet(np.ones(2), size=states)
        return cls(transition, rng.normal(size=(states, 2)), pi, horizon)

    def paths(self):
        """Episodes `(states, log_rho, r)`, each as often as it is likely."""
        last = len(self.pi) - 1
        found, open_ = [], [((0,), (), (), 8**self.horizon)]
        for _ in range(self.horizon):
            grown = []
            for states, logs, rewards, copies in open_:
                s = states[-1]
                for a in range(2):
                    for after in np.flatnonzero(self.transition[s, a]):
                        share = round(copies * 0.5 * self.transition[s, a, after])
                        step = (*logs, np.log(self.pi[s, a] / 0.5)), (*rewards, self.reward[s, a])
                        (found if after == last else grown).append(((*states, int(after)), *step, share))
            open_ = grown
        episodes = []
        for states, logs, rewards, copies in found + open_:
            episodes += [(np.array(states[: len(logs)]), np.array(logs), np.array(rewards))] * copies
        return episodes

    def step(self, policy):
        """`[S, S]` without the terminal state: what it lacks to 1 ends."""
        matrix = np.einsum("sa,sat->st", policy, self.transition)
        return matrix[:-1, :-1]

    def distributions(self, policy):
        """`[T, S − 1]`."""
        d = np.eye(len(self.pi) - 1)[0]
        found = []
        for _ in range(self.horizon):
            found.append(d)
            d = d @ self.step(policy)
        return np.array(found)

    def value(self, gamma):
        mean = np.sum(self.pi * self.reward, -1)[:-1]
        return sum(gamma**t * d @ mean for t, d in enumerate(self.distributions(self.pi)))

    def sample(self, rng, count):
        """`(state, log_rho, r, is_valid)`, `[T, N]`, of episodes of μ."""
        shape = (self.horizon, count)
        state, log_rho, r, is_valid = np.zeros(shape, int), np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
        s = np.zeros(count, int)
        for t in range(self.horizon):
            is_valid[t], state[t] = s != len(self.pi) - 1, s
            a = (rng.random(count) < 0.5).astype(int)
            log_rho[t], r[t] = np.log(self.pi[s, a] / 0.5), self.reward[s, a]
            s = np.where(is_valid[t], (rng.random(count)[:, None] > self.transition[s, a].cumsum(-1)).sum(-1), s)
        return state, log_rho, r, is_valid
