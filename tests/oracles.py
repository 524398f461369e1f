"""The definitions, in plain NumPy and float64: sums and products over rows, no recursion, nothing of isjax.

All arrays are `[T, *B]`; `same_t` is false where a row ended its episode, `valid_t` false for padding.
"""

import numpy as np


def backward_affine(gain_t, bias_t):
    """`x_t = Σ_{k≥t} (Π_{t≤i<k} gain_i) bias_k`."""
    rows = len(gain_t)
    return np.stack([sum(np.prod(gain_t[t:k], axis=0) * bias_t[k] for k in range(t, rows)) for t in range(rows)])


def reach(same_t, valid_t, t):
    """`[T, *B]`, true for the rows k ≥ t that row t's return sees: its own episode's, up to padding."""
    seen = np.zeros(same_t.shape, bool)
    for k in range(t, len(same_t)):
        seen[k] = np.all(same_t[t:k], axis=0) & np.all(valid_t[t : k + 1], axis=0)
    return seen


def vtrace(
    v_tm1,
    v_t,
    r_t,
    discount_t,
    log_rho_tm1,
    same_t=None,
    valid_t=None,
    *,
    lambda_=1.0,
    clip_rho=1.0,
    clip_c=1.0,
    clip_pg_rho=1.0,
    alpha=1.0,
):
    """Eq. 1 and section 4.2 of Espeholt et al. 2018, with λ; ratios leak by 1 − α (Zahavy et al. 2020)."""
    same_t = np.ones(r_t.shape, bool) if same_t is None else same_t
    valid_t = np.ones(r_t.shape, bool) if valid_t is None else valid_t
    lambda_t = np.broadcast_to(
        np.asarray(lambda_).reshape(np.shape(lambda_) + (1,) * (r_t.ndim - np.ndim(lambda_))), r_t.shape
    )
    rho = np.exp(log_rho_tm1)
    rho_bar, c, rho_pg = ((1 - alpha) * rho + alpha * np.minimum(clip, rho) for clip in (clip_rho, clip_c, clip_pg_rho))
    delta = r_t + discount_t * v_t - v_tm1

    target = np.zeros(r_t.shape)
    for s in range(len(r_t)):
        seen = reach(same_t, valid_t, s)
        terms = [np.prod((discount_t * lambda_t * c)[s:k], axis=0) * rho_bar[k] * delta[k] for k in range(s, len(r_t))]
        target[s] = v_tm1[s] + np.sum(np.where(seen[s:], terms, 0.0), axis=0)

    advantage = np.zeros(r_t.shape)
    for s in range(len(r_t)):
        bootstrap = v_t[s]
        if s + 1 < len(r_t):
            mixed = lambda_t[s] * target[s + 1] + (1 - lambda_t[s]) * v_tm1[s + 1]
            bootstrap = np.where(reach(same_t, valid_t, s)[s + 1], mixed, v_t[s])
        advantage[s] = rho_pg[s] * (r_t[s] + discount_t[s] * bootstrap - v_tm1[s])
    return np.where(valid_t, target, 0.0), np.where(valid_t, advantage, 0.0)


def lambda_return(v_t, r_t, discount_t, same_t, lambda_):
    """The forward view of TD(λ): n-step returns, mixed with weights (1 − λ) λ^{n−1} (S&B eq. 12.3)."""
    result = np.zeros(r_t.shape)
    for column in np.ndindex(r_t.shape[1:]):
        v, r, d, same = (x[(slice(None), *column)] for x in (v_t, r_t, discount_t, same_t))
        for s in range(len(r)):
            ends = [k for k in range(s, len(r)) if not same[k]]
            last = ends[0] if ends else len(r) - 1
            returns = [
                sum(np.prod(d[s:k]) * r[k] for k in range(s, h + 1)) + np.prod(d[s : h + 1]) * v[h]
                for h in range(s, last + 1)
            ]
            n = len(returns)
            weights = [(1 - lambda_) * lambda_**i for i in range(n - 1)] + [lambda_ ** (n - 1)]
            result[(s, *column)] = np.dot(weights, returns)
    return result


def log_products(log_rho_tm1, same_t=None, valid_t=None):
    """`Σ_{k≤t} ℓ_k` over the rows of row t's episode."""
    same_t = np.ones(log_rho_tm1.shape, bool) if same_t is None else same_t
    valid_t = np.ones(log_rho_tm1.shape, bool) if valid_t is None else valid_t
    result = np.zeros(log_rho_tm1.shape)
    for t in range(len(log_rho_tm1)):
        for k in range(t + 1):
            result[t] += np.where(np.all(same_t[k:t], axis=0) & valid_t[k], log_rho_tm1[k], 0.0)
    return result


def effective_sample_size(log_weights, axis=0):
    """`(Σw)² / Σw²`."""
    w = np.exp(log_weights)
    return np.sum(w, axis) ** 2 / np.sum(w**2, axis)


def policy_value(transition, reward, discount, policy):
    """`v = (I − γ P_π)⁻¹ r_π` for `transition [S, A, S]`, `reward [S, A]`, `policy [S, A]`."""
    states = len(policy)
    p = np.einsum("sa,sax->sx", policy, transition)
    return np.linalg.solve(np.eye(states) - discount * p, np.einsum("sa,sa->s", policy, reward))
