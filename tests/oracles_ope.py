"""Definitions of the estimators in plain NumPy and float64, and small decision processes solved exactly.

An episode is a tuple of arrays `(log_rho, r)` or `(log_rho, r, v, q)`, each as long as the episode.
"""

import itertools
from typing import NamedTuple

import numpy as np


def ratio(episode, t):
    """`ρ_{0:t}`; past the end the product that the episode ended with."""
    return np.exp(np.sum(episode[0][: t + 1]))


def returns(episode, gamma):
    return sum(gamma**t * r for t, r in enumerate(episode[1]))


def whole(episode):
    return ratio(episode, len(episode[0]))


def ordinary_is(episodes, gamma):
    return sum(whole(e) * returns(e, gamma) for e in episodes) / len(episodes)


def weighted_is(episodes, gamma):
    return sum(whole(e) * returns(e, gamma) for e in episodes) / sum(whole(e) for e in episodes)


def truncated_is(episodes, gamma):
    clip = np.sqrt(len(episodes)) * np.mean([whole(e) for e in episodes])
    return sum(min(whole(e), clip) * returns(e, gamma) for e in episodes) / len(episodes)


def per_decision_is(episodes, gamma):
    return sum(gamma**t * ratio(e, t) * e[1][t] for e in episodes for t in range(len(e[1]))) / len(episodes)


def weighted_per_decision_is(episodes, gamma):
    value = 0.0
    for t in range(max(len(e[1]) for e in episodes)):
        above = sum(ratio(e, t) * e[1][t] for e in episodes if t < len(e[1]))
        value += gamma**t * above / sum(ratio(e, t) for e in episodes)
    return value


def weighted_per_decision_is_ratio_form(episodes, gamma):
    above = sum(gamma**t * ratio(e, t) * e[1][t] for e in episodes for t in range(len(e[1])))
    return above / sum(gamma**t * ratio(e, t) for e in episodes for t in range(len(e[1])))


def flat_terms(episode, gamma):
    """The weights of the flat returns of Sutton & Barto 2018, section 5.9, and these returns."""
    last = len(episode[1])
    weights = [(1 - gamma) * gamma ** (h - 1) * ratio(episode, h - 1) for h in range(1, last)]
    weights.append(gamma ** (last - 1) * ratio(episode, last - 1))
    return np.array(weights), np.array([np.sum(episode[1][:h]) for h in range(1, last + 1)])


def discounting_aware_is(episodes, gamma):
    return np.mean([np.dot(*flat_terms(e, gamma)) for e in episodes])


def weighted_discounting_aware_is(episodes, gamma):
    above = sum(np.dot(*flat_terms(e, gamma)) for e in episodes)
    return above / sum(np.sum(flat_terms(e, gamma)[0]) for e in episodes)


def doubly_robust(episodes, gamma):
    """Jiang & Li's recursion, unrolled: `Σ_t γ^t (ρ_{0:t} (r − q̂) + ρ_{0:t−1} v̂)`."""
    total = 0.0
    for e in episodes:
        for t in range(len(e[1])):
            total += gamma**t * (ratio(e, t) * (e[1][t] - e[3][t]) + ratio(e, t - 1) * e[2][t])
    return total / len(episodes)


def blended_returns(episodes, gamma):
    """Thomas & Brunskill 2016: `g^(j)` for j = −1 … T − 1; the last one is the weighted doubly robust estimate."""
    n, rows = len(episodes), max(len(e[1]) for e in episodes)

    def weight(e, t):
        return 1 / n if t < 0 else ratio(e, t) / sum(ratio(other, t) for other in episodes)

    def at(x, t):
        return x[t] if t < len(x) else 0.0

    def g(j):
        value = sum(gamma ** (j + 1) * weight(e, j) * at(e[2], j + 1) for e in episodes)
        for e, t in itertools.product(episodes, range(j + 1)):
            value += gamma**t * weight(e, t) * at(e[1], t)
            value -= gamma**t * (weight(e, t) * at(e[3], t) - weight(e, t - 1) * at(e[2], t))
        return value

    return np.array([g(j) for j in range(-1, rows)])


def weighted_doubly_robust(episodes, gamma):
    return blended_returns(episodes, gamma)[-1]


def pad(episodes, rows, garbage=np.nan):
    """`(*arrays [T, N], is_valid_t)`, with garbage past the end of each episode."""
    shape = (rows, len(episodes))
    arrays = [np.full(shape, garbage) for _ in episodes[0]]
    is_valid = np.zeros(shape, bool)
    for i, episode in enumerate(episodes):
        for array, x in zip(arrays, episode, strict=True):
            array[: len(x), i] = x
        is_valid[: len(episode[0]), i] = True
    return *arrays, is_valid


def random_episodes(seed, count=6, longest=5, spread=1.0):
    """Episodes with random lengths, log-ratios, rewards and model values."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    return [(spread * rng.normal(size=n), rng.normal(size=n), rng.normal(size=n), rng.normal(size=n)) for n in lengths]


class Mdp(NamedTuple):
    """A process of `horizon` steps at most; the last state is terminal. Starts in state 0."""

    transition: np.ndarray  # [S, A, S]
    reward: np.ndarray  # [S, A, S]
    pi: np.ndarray  # [S, A]
    mu: np.ndarray  # [S, A]
    gamma: float
    horizon: int

    @classmethod
    def random(cls, seed, *, gamma=0.9, horizon=3, states=3, actions=2):
        rng = np.random.default_rng(seed)
        transition = rng.dirichlet(np.ones(states), size=(states, actions))
        transition[-1] = np.eye(states)[-1]
        reward = rng.normal(size=(states, actions, states))
        reward[-1] = 0.0
        pi, mu = rng.dirichlet(np.ones(actions), size=(2, states))
        return cls(transition, reward, pi, 0.1 + 0.8 * mu if actions == 2 else mu, gamma, horizon)

    def values(self, steps):
        """`(v [S], q [S, A])` of the target policy with so many steps to go."""
        v = np.zeros(len(self.pi))
        q = np.zeros(self.pi.shape)
        for _ in range(steps):
            q = np.sum(self.transition * (self.reward + self.gamma * v[None, None]), -1)
            v = np.sum(self.pi * q, -1)
            v[-1] = 0.0
        return v, q

    def trajectories(self):
        """Every trajectory as `(probability under μ, states, actions, rewards)`; states include the last one."""
        done, open_ = [], [(1.0, (0,), (), ())]
        for _ in range(self.horizon):
            grown = []
            for p, s, a, r in open_:
                for action, state in itertools.product(range(self.pi.shape[1]), range(len(self.pi))):
                    chance = self.mu[s[-1], action] * self.transition[s[-1], action, state]
                    step = (*s, state), (*a, action), (*r, self.reward[s[-1], action, state])
                    if chance > 0:
                        (done if state == len(self.pi) - 1 else grown).append((p * chance, *step))
            open_ = grown
        return done + open_

    def mean_by_first_action(self, x):
        """`E[x | a_0 = a]` `[A]` under μ, of one number for each of `trajectories`."""
        means = np.zeros(self.pi.shape[1])
        for (p, _, actions, _), number in zip(self.trajectories(), np.asarray(x), strict=True):
            means[actions[0]] += p / self.mu[0, actions[0]] * number
        return means

    def log_rho(self, states, actions):
        return np.log([self.pi[s, a] / self.mu[s, a] for s, a in zip(states, actions, strict=False)])

    def episode(self, states, actions, rewards, model=None):
        """With a model `(v, q)` of `[horizon + 1, S]` and `[horizon + 1, S, A]`, by steps to go."""
        base = self.log_rho(states, actions), np.array(rewards)
        if model is None:
            return base
        togo = [self.horizon - t for t in range(len(actions))]
        v = np.array([model[0][k, s] for k, s in zip(togo, states, strict=False)])
        q = np.array([model[1][k, s, a] for k, s, a in zip(togo, states, actions, strict=False)])
        return *base, v, q

    def sample(self, rng, count):
        """`(log_rho [T, N], r [T, N], is_valid [T, N])` of episodes of μ."""
        log_rho, r = np.zeros((2, self.horizon, count))
        is_valid = np.zeros((self.horizon, count), bool)
        s = np.zeros(count, int)
        for t in range(self.horizon):
            is_valid[t] = s != len(self.pi) - 1
            a = (rng.random(count)[:, None] > np.cumsum(self.mu[s], -1)).sum(-1)
            following = (rng.random(count)[:, None] > np.cumsum(self.transition[s, a], -1)).sum(-1)
            following = np.minimum(following, len(self.pi) - 1)
            log_rho[t] = np.where(is_valid[t], np.log(self.pi[s, a] / self.mu[s, a]), 0.0)
            r[t] = np.where(is_valid[t], self.reward[s, a, following], 0.0)
            s = np.where(is_valid[t], following, s)
        return log_rho, r, is_valid


class Blackjack:
    """Sutton & Barto's Example 5.4: dealer shows 2, player has 13 with a usable ace; an infinite deck.

    The target policy sticks on 20 and 21, the behavior policy tosses a coin.
    """

    cards = np.array([1 / 13] * 9 + [4 / 13])  # ace, 2 … 9, ten

    def __init__(self):
        self.dealer = self._dealer_from(2, False)

    def _draw(self, total, usable, card):
        """`(total, usable ace)` after a card 1 … 10; above 21 is bust."""
        total += card
        if card == 1 and total + 10 <= 21:
            total, usable = total + 10, True
        if total > 21 and usable:
            total, usable = total - 10, False
        return total, usable

    def _dealer_from(self, total, usable):
        """Probabilities of the dealer's final totals 17 … 21, and of going bust under 22."""
        if total > 21:
            return {22: 1.0}
        if total >= 17:
            return {total: 1.0}
        result: dict[int, float] = {}
        for card, p in enumerate(self.cards, 1):
            for final, chance in self._dealer_from(*self._draw(total, usable, card)).items():
                result[final] = result.get(final, 0.0) + p * chance
        return result

    def outcome(self, total):
        """Probabilities of −1, 0 and 1 once the player sticks on `total`."""
        lose = sum(p for final, p in self.dealer.items() if final <= 21 and final > total)
        draw = self.dealer.get(total, 0.0)
        return np.array([lose, draw, 1.0 - lose - draw])

    def moment(self, base, power, total=13, usable=True):
        """`E_π[base^n G^power]`, n being the number of decisions from here on."""
        if total > 21:
            return (-1.0) ** power
        if total >= 20:
            return base * np.dot(self.outcome(total), np.array([-1.0, 0.0, 1.0]) ** power)
        return base * sum(
            p * self.moment(base, power, *self._draw(total, usable, card)) for card, p in enumerate(self.cards, 1)
        )

    def sample(self, rng, count, rows=12):
        """`(log_rho [T, N], r [T, N], is_valid [T, N])` of episodes of the coin."""
        table = np.array([[self._draw(t, u, c) for c in range(1, 11)] for t in range(22) for u in (False, True)])
        table = table.reshape(22, 2, 10, 2)
        chances = np.array([np.cumsum(self.outcome(t)) for t in range(22)])
        total, usable, over = np.full(count, 13), np.ones(count, int), np.zeros(count, bool)
        log_rho, r = np.zeros((2, rows, count))
        is_valid = np.zeros((rows, count), bool)
        for t in range(rows):
            is_valid[t] = ~over
            hit = rng.random(count) < 0.5
            log_rho[t] = np.where(over, 0.0, np.where(hit == (total < 20), np.log(2.0), -np.inf))
            won = (rng.random(count)[:, None] > chances[np.minimum(total, 21)]).sum(-1) - 1.0
            card = np.minimum((rng.random(count)[:, None] > np.cumsum(self.cards)).sum(-1), 9)
            drawn = table[np.minimum(total, 21), usable, card]
            bust = hit & (drawn[:, 0] > 21)
            r[t] = np.where(over, 0.0, np.where(bust, -1.0, np.where(hit, 0.0, won)))
            total = np.where(~over & hit, drawn[:, 0], total)
            usable = np.where(~over & hit, drawn[:, 1], usable)
            over = over | ~hit | bust
        return log_rho, r, is_valid


def pareto_k(log_weights):
    """Vehtari et al. 2024 with Zhang & Stephens 2009: the shape of the tail, written as loops."""
    weights = np.sort(np.exp(np.asarray(log_weights) - np.max(log_weights)))
    n = len(weights)
    size = int(np.ceil(min(n / 5, 3 * np.sqrt(n))))
    threshold = weights[n - size - 1]
    x = weights[weights > threshold] - threshold
    m = len(x)
    points = 30 + int(np.sqrt(m))
    quartile = x[int(m / 4 + 0.5) - 1]
    candidates = [1 / x[-1] + (1 - np.sqrt(points / (j - 0.5))) / (3 * quartile) for j in range(1, points + 1)]

    def shape(b):
        return np.mean([np.log(1 - b * y) for y in x])

    logs = np.array([m * (np.log(-b / shape(b)) - shape(b) - 1) for b in candidates])
    posterior = [1 / np.sum(np.exp(logs - own)) for own in logs]
    return (m * shape(np.dot(candidates, posterior)) + 10 * 0.5) / (m + 10)
