"""Decision processes with tables, solved exactly: values, second moments, state distributions, samples of μ."""

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

ICU = "icu-sepsis==2.0.1"


class Process(NamedTuple):
    """A process of `horizon` steps at most; what a transition lacks to 1 ends the episode."""

    transition: np.ndarray
    """`[S, A, S]`."""
    reward: np.ndarray
    """`[S, A]`, the expected one; `[S, A, S + 1]` where it depends on the state reached, the last being the end."""
    start: np.ndarray
    """`[S]`."""
    pi: np.ndarray
    """`[S, A]`."""
    mu: np.ndarray
    """`[S, A]`."""
    horizon: int
    seen: np.ndarray
    """`[S]`, the state as the log tells it."""

    @property
    def with_end(self) -> np.ndarray:
        """`[S, A, S + 1]`."""
        return np.append(self.transition, 1.0 - self.transition.sum(-1, keepdims=True), -1)

    @property
    def rewards(self) -> np.ndarray:
        """`[S, A, S + 1]`."""
        shape = (*self.transition.shape[:2], self.transition.shape[2] + 1)
        return self.reward if self.reward.ndim == 3 else np.broadcast_to(self.reward[..., None], shape)

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """`(v [T + 1, S], q [T, S, A])` of the target policy, by step."""
        v, q = np.zeros((self.horizon + 1, len(self.start))), np.zeros((self.horizon, *self.pi.shape))
        mean = np.sum(self.with_end * self.rewards, -1)
        for t in reversed(range(self.horizon)):
            q[t] = mean + self.transition @ v[t + 1]
            v[t] = np.sum(self.pi * q[t], -1)
        return v, q

    @property
    def value(self) -> float:
        """Of the target policy."""
        return float(self.start @ self.values()[0][0])

    def distributions(self, policy: np.ndarray) -> np.ndarray:
        """`[T, S]`."""
        step, d, found = np.einsum("sa,sat->st", policy, self.transition), self.start, []
        for _ in range(self.horizon):
            found.append(d)
            d = d @ step
        return np.array(found)

    def exact_errors(self) -> dict[str, float]:
        """Squared errors of `ordinary_is` and `per_decision_is` from one episode at γ = 1, and the mean of its `ρ²`."""
        v = self.values()[0]
        squared = np.where(self.pi > 0, self.pi**2 / np.where(self.mu > 0, self.mu, 1.0), 0.0)
        moments, decision = [np.ones(len(self.start)), *np.zeros((2, len(self.start)))], np.zeros(len(self.start))
        r, p = self.rewards, self.with_end
        for t in reversed(range(self.horizon)):
            m0, m1, m2 = (np.append(x, 1.0 if k == 0 else 0.0) for k, x in enumerate(moments))

            def mean(x: np.ndarray) -> np.ndarray:
                return np.sum(squared * np.sum(p * x, -1), -1)

            decision = mean(r**2 + 2 * r * np.append(v[t + 1], 0.0) + np.append(decision, 0.0))
            moments = [mean(0 * r + m0), mean(r * m0 + m1), mean(r**2 * m0 + 2 * r * m1 + m2)]
        second, ordinary, per_decision = (float(self.start @ x) for x in (moments[0], moments[2], decision))
        square = self.value**2
        return {"ordinary_is": ordinary - square, "per_decision_is": per_decision - square, "second_moment": second}

    def sample(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """Episodes of μ: `state`, `hidden` (the true one), `action`, `log_rho`, `r`, `is_valid`, `[T, N]` each."""
        states, shape = len(self.start), (self.horizon, count)
        found = {name: np.zeros(shape, np.int32) for name in ("state", "hidden", "action")}
        found |= {"log_rho": np.zeros(shape), "r": np.zeros(shape), "is_valid": np.zeros(shape, bool)}
        chances, policy = np.cumsum(self.with_end, -1), np.cumsum(self.mu, -1)
        s = np.minimum(np.searchsorted(np.cumsum(self.start), rng.random(count)), states - 1)
        for t in range(self.horizon):
            alive = np.flatnonzero(s < states)
            here = s[alive]
            a = (rng.random(len(alive))[:, None] > policy[here]).sum(-1)
            a = np.minimum(a, self.mu.shape[1] - 1)
            after = np.minimum((rng.random(len(alive))[:, None] > chances[here, a]).sum(-1), states)
            with np.errstate(divide="ignore"):
                log_rho = np.log(self.pi[here, a]) - np.log(self.mu[here, a])
            row = {"state": self.seen[here], "hidden": here, "action": a, "log_rho": log_rho, "is_valid": True}
            row["r"] = self.rewards[here, a, after]
            for name, x in row.items():
                found[name][t, alive] = x
            s = s.copy()
            s[alive] = after
        return found


def padded(x: np.ndarray, rows: int) -> np.ndarray:
    """With zeros behind its last row, so that logs of all lengths are of one shape, for which one program serves."""
    return np.pad(x, ((0, rows - len(x)), *[(0, 0)] * (x.ndim - 1)))


def _everywhere(states: int, *odds: float) -> np.ndarray:
    return np.tile(np.array(odds), (states, 1))


def model_fail(*, late: bool = False) -> Process:
    """Thomas & Brunskill 2016: action 0 pays 1, action 1 pays −1; `late`, a step later and from a state unseen."""
    pi, mu = _everywhere(3, 0.12, 0.88), _everywhere(3, 0.88, 0.12)
    transition, reward = np.zeros((3, 2, 3)), np.zeros((3, 2))
    if late:
        transition[0, [0, 1], [1, 2]] = 1.0
        reward[1], reward[2] = 1.0, -1.0
    else:
        reward[0] = 1.0, -1.0
    return Process(transition, reward, np.eye(3)[0], pi, mu, 2 if late else 1, np.zeros(3, int))


def model_win(length: int, odds: float = 0.73) -> Process:
    """Thomas & Brunskill 2016: from the first of three states +1 or −1 by chance, and back again."""
    transition = np.zeros((3, 2, 3))
    transition[0] = [[0.0, 0.4, 0.6], [0.0, 0.6, 0.4]]
    transition[1:, :, 0] = 1.0
    reward = np.zeros((3, 2, 4))
    reward[0, :, 1], reward[0, :, 2] = 1.0, -1.0
    pi, mu = _everywhere(3, 1.0 - odds, odds), _everywhere(3, odds, 1.0 - odds)
    pi[1:] = mu[1:]  # There is nothing to decide on the way back.
    return Process(transition, reward, np.eye(3)[0], pi, mu, length, np.arange(3))


def single_path() -> Process:
    """Five states in a line: action 0 pays 1 and advances, action 1 pays nothing and advances half of the time."""
    transition, reward = np.zeros((5, 2, 5)), _everywhere(5, 1.0, 0.0)
    for s in range(5):
        after = min(s + 1, 4)
        transition[s, 0, after] += 1.0
        transition[s, 1, [after, s]] += 0.5
    return Process(
        transition, reward, np.eye(5)[0], _everywhere(5, 0.4, 0.6), _everywhere(5, 0.6, 0.4), 5, np.arange(5)
    )


def corridor(length: int, *, states: int = 6, odds: float = 0.65) -> Process:
    """A corridor with walls, from its middle: right or left, which succeeds with 0.8; the last place pays 1 a step."""
    transition, reward = np.zeros((states, 2, states)), np.zeros((states, 2))
    for s in range(states):
        for a, way in ((0, 1), (1, -1)):
            for chance, moved in ((0.8, way), (0.2, -way)):
                transition[s, a, min(max(s + moved, 0), states - 1)] += chance
    reward[-1] = 1.0
    pi, mu = _everywhere(states, odds, 1.0 - odds), _everywhere(states, 0.5, 0.5)
    return Process(transition, reward, np.eye(states)[states // 2 - 1], pi, mu, length, np.arange(states))


def icu_sepsis(horizon: int, *, share: float) -> tuple[Process, dict[str, float]]:
    """ICU-Sepsis (Choudhary et al. 2024): 713 states of patients, 25 treatments, 1 for survival, γ = 1.

    The log is the clinicians'; the target policy takes the best treatment with odds `share`, else does as they do.
    Both are exact values of all steps to come, by linear systems.
    """
    data = _icu_tables()
    transition, clinicians = data["tx_mat"][:713, :, :713], data["expert_policy"][:713]
    survival = np.sum(data["tx_mat"][:713] * data["r_mat"][:713], -1)
    start = data["d_0"][:713]

    def value(policy: np.ndarray) -> np.ndarray:
        step = np.einsum("sa,sat->st", policy, transition)
        return np.linalg.solve(np.eye(713) - step, np.sum(policy * survival, -1))

    v, change = np.zeros(713), 1.0
    while change > 1e-9:
        v, change = (after := np.max(survival + transition @ v, -1)), float(np.max(np.abs(after - v)))
    best = np.eye(25)[np.argmax(np.where(clinicians > 0, survival + transition @ v, -np.inf), -1)]
    target = share * best + (1.0 - share) * clinicians
    known = {name: float(start @ value(x)) for name, x in (("clinicians", clinicians), ("target", target))}
    known |= {"random": float(start @ value(np.full((713, 25), 1 / 25))), "optimal": float(start @ v)}
    reward = np.zeros((713, 25, 714))
    reward[..., :713] = 0.0
    ends = 1.0 - transition.sum(-1)
    # Given that the episode ends, the chance that the patient survived.
    reward[..., 713] = np.divide(survival, ends, out=np.zeros_like(survival), where=ends > 1e-12)
    return Process(transition, reward, start, target, clinicians, horizon, np.arange(713)), known


def _icu_tables() -> dict[str, np.ndarray]:
    """The tables of the package on PyPI, which is fetched and not installed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, ICU]
        subprocess.run(command, check=True, capture_output=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            file = io.BytesIO(wheel.read("icu_sepsis/envs/assets/dynamics.npz"))
        with np.load(file) as tables:
            return {name: tables[name] for name in ("tx_mat", "r_mat", "d_0", "expert_policy")}
