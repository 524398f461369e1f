"""Definitions about action values in plain NumPy, state by state and action by action; nothing of isjax."""

import math

import numpy as np


def best_actions(q, mask):
    """The legal actions of the largest value."""
    legal = [a for a in range(len(q)) if mask[a]]
    return [a for a in legal if all(q[a] >= q[b] for b in legal)]


def greedy(q, mask, ties):
    """`[A]`, probabilities."""
    best = best_actions(q, mask)
    chosen = best if ties == "average" else best[:1]
    return np.array([1 / len(chosen) if a in chosen else 0.0 for a in range(len(q))])


def epsilon_greedy(q, epsilon, mask, ties):
    return np.array([epsilon / np.sum(mask) if m else 0.0 for m in mask]) + (1 - epsilon) * greedy(q, mask, ties)


def softmax(q, temperature, mask):
    weights = np.array([math.exp(x / temperature) if m else 0.0 for x, m in zip(q, mask, strict=True)])
    return weights / weights.sum()


def q_sigma(q, v_t, r_t, discount_t, log_pi, log_mu, same_t, sigma, lambda_=1.0, n=None):
    """`[T]`: Sutton & Barto 2018, eq. 7.17, with its own recursion for every row and horizon."""
    rows = len(r_t)

    def G(t, horizon):
        bracket = 0.0
        if t + 1 < min(horizon, rows) and same_t[t]:
            pi = math.exp(log_pi[t + 1])
            c = sigma[t + 1] * pi / math.exp(log_mu[t + 1]) + (1 - sigma[t + 1]) * pi
            bracket = lambda_ * c * (G(t + 1, horizon) - q[t + 1])
        return r_t[t] + discount_t[t] * (bracket + v_t[t])

    return np.array([G(t, rows if n is None else t + n) for t in range(rows)])


def c51(probs, values, atoms):
    """`[K]`: algorithm 1 of Bellemare et al. 2017, for evenly spaced atoms."""
    found = np.zeros(len(atoms))
    width = atoms[1] - atoms[0]
    for p, z in zip(probs, values, strict=True):
        b = (min(max(z, atoms[0]), atoms[-1]) - atoms[0]) / width
        low, high = math.floor(b), math.ceil(b)
        if low == high:
            found[low] += p
        else:
            found[low] += p * (high - b)
            found[high] += p * (b - low)
    return found


def hl_gauss(target, edges, deviation):
    """`[K]`: section 3.1 of Farebrother et al. 2024."""
    cdf = [0.5 * (1 + math.erf((edge - target) / (deviation * math.sqrt(2)))) for edge in edges]
    return np.diff(cdf) / (cdf[-1] - cdf[0])


def huber(u, kappa):
    return 0.5 * u**2 if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)


def quantile_cost(theta, target, tau, kappa):
    """Eq. 10 of Dabney et al. 2018, and eq. 8 where κ is `None`."""
    total = 0.0
    for x, fraction in zip(theta, tau, strict=True):
        for y in target:
            u = y - x
            total += abs(fraction - (u < 0)) * (abs(u) if kappa is None else huber(u, kappa)) / len(target)
    return total
