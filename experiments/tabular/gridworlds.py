"""Gridworlds as tables of deterministic transitions, and what is known of them exactly."""

from typing import NamedTuple

import numpy as np

MOVES = ((-1, 0), (1, 0), (0, 1), (0, -1))
"""Up, down, right, left."""
ACTIONS = len(MOVES)


class Grid(NamedTuple):
    """A deterministic gridworld without discount; states are numbered by rows."""

    shape: tuple[int, int]
    following: np.ndarray
    """`[S, A]`, the state that an action leads to."""
    reward: np.ndarray
    """`[S, A]`."""
    ends: np.ndarray
    """`[S, A]`, whether the episode ends there."""
    starts: np.ndarray
    """The states that episodes start in, equally often."""


def cliff() -> Grid:
    """The cliff of Sutton & Barto 2018, example 6.6: −1 a step, −100 and back to the start for one into the cliff."""
    rows, columns = 4, 12
    start, goal = (rows - 1) * columns, rows * columns - 1
    following, reward = moved(rows, columns), np.full((rows * columns, ACTIONS), -1.0)
    falls = (following > start) & (following < goal)
    reward[falls], following[falls] = -100.0, start
    return Grid((rows, columns), following, reward, following == goal, np.array([start]))


def corners() -> Grid:
    """The grid of Sutton & Barto 2018, example 4.1: 4 × 4 states, −1 a step, two corners end the episode."""
    following = moved(4, 4)
    ends = (following == 0) | (following == 15)
    return Grid((4, 4), following, np.full((16, ACTIONS), -1.0), ends, np.arange(1, 15))


def moved(rows: int, columns: int) -> np.ndarray:
    """`[S, A]`, where each move leads; what would leave the grid stays where it is."""
    place = np.stack(np.divmod(np.arange(rows * columns), columns), -1)
    to = np.clip(place[:, None] + np.array(MOVES), 0, [rows - 1, columns - 1])
    return to[..., 0] * columns + to[..., 1]


def inner(grid: Grid) -> np.ndarray:
    """The states that can be acted in: those that can be reached from a start, or are one, and are not the end."""
    known = set(grid.starts.tolist())
    while True:
        found = {int(t) for s in known for t, end in zip(grid.following[s], grid.ends[s], strict=True) if not end}
        if found <= known:
            return np.array(sorted(known))
        known |= found


def backup(grid: Grid, v: np.ndarray) -> np.ndarray:
    """`[S, A]`, the action values of a step that is followed by values `v` `[S]`."""
    return grid.reward + np.where(grid.ends, 0.0, v[grid.following])


def transitions(grid: Grid, policy: np.ndarray) -> np.ndarray:
    """`[S, S]`, the odds of going from one state to another without an end."""
    p = np.zeros((len(policy), len(policy)))
    for action in range(ACTIONS):
        np.add.at(p, (np.arange(len(policy)), grid.following[:, action]), policy[:, action] * ~grid.ends[:, action])
    return p


def action_values(grid: Grid, policy: np.ndarray) -> np.ndarray:
    """`[S, A]`, the values of a policy `[S, A]`, by linear equations; 0 in states that cannot be acted in."""
    states, v = inner(grid), np.zeros(len(policy))
    p = transitions(grid, policy)[np.ix_(states, states)]
    v[states] = np.linalg.solve(np.eye(len(states)) - p, np.sum(policy * grid.reward, -1)[states])
    return np.where(np.isin(np.arange(len(v)), states)[:, None], backup(grid, v), 0.0)


def soft_optimal(grid: Grid, epsilon: float) -> np.ndarray:
    """`[S, A]`, the values of the best policy that takes each action with at least `ε / A`: what SARSA comes to.

    At ε = 0 those of the best policy of all: what Q-learning comes to.
    """
    q = np.zeros(grid.reward.shape)
    while True:
        new = backup(grid, epsilon * q.mean(-1) + (1 - epsilon) * q.max(-1))
        if np.max(np.abs(new - q)) < 1e-10:
            return new
        q = new


def epsilon_greedy(q: np.ndarray, epsilon: float) -> np.ndarray:
    """`[S, A]`, the policy that is greedy for q with odds 1 − ε; equally good actions share."""
    best = np.isclose(q, q.max(-1, keepdims=True), rtol=0, atol=1e-7)
    return epsilon / ACTIONS + (1 - epsilon) * best / best.sum(-1, keepdims=True)


def online_return(grid: Grid, q: np.ndarray, epsilon: float) -> float:
    """The mean return of episodes of the ε-greedy policy for q."""
    policy = epsilon_greedy(q, epsilon)
    return float(np.mean(np.sum(policy * action_values(grid, policy), -1)[grid.starts]))


def greedy_path(grid: Grid, q: np.ndarray, longest: int = 100) -> tuple[list[int], float]:
    """`(states, return)` of the greedy policy from the first start on; the return of one that does not end is NaN."""
    state, path, total = int(grid.starts[0]), [int(grid.starts[0])], 0.0
    for _ in range(longest):
        action = int(np.argmax(q[state]))
        total += grid.reward[state, action]
        path.append(int(grid.following[state, action]))
        if grid.ends[state, action]:
            return path, total
        state = path[-1]
    return path, float("nan")


def uncorrected_fixed_point(grid: Grid, target: np.ndarray, behavior: np.ndarray, n: int) -> np.ndarray:
    """`[S, A]`, what n-step expected SARSA comes to without ratios: n − 1 steps of μ, then a mean under π."""
    states = inner(grid)
    of_mu, of_pi = (transitions(grid, policy)[np.ix_(states, states)] for policy in (behavior, target))
    reward = np.sum(behavior * grid.reward, -1)[states]
    # v of π after a step of each action, so that Q = backup(u) with u = Σ_k P_μ^k r_μ + P_μ^{n−1} Σ_a π Q.
    rewards = sum(np.linalg.matrix_power(of_mu, k) @ reward for k in range(n - 1)) if n > 1 else 0.0
    through = np.linalg.matrix_power(of_mu, n - 1)
    # With x = Σ_a π(a) Q(·, a): Q = r + (rewards + through x)(s'), hence x = r_π + P_π (rewards + through x).
    expected = np.sum(target * grid.reward, -1)[states]
    x = np.linalg.solve(np.eye(len(states)) - of_pi @ through, expected + of_pi @ (rewards + np.zeros(len(states))))
    v = np.zeros(len(target))
    v[states] = rewards + through @ x
    return np.where(np.isin(np.arange(len(v)), states)[:, None], backup(grid, v), 0.0)
