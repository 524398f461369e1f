"""How far a sampler has drifted from the policy that a trainer takes its ratios to: numbers, a table and a figure.

On the host, in float64, for arrays `[B, T]` of a batch that was sampled: what a trainer of language models looks at
when rewards fall and nobody knows whether it is the learning or the sampler.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from isjax._checks import check_positive
from isjax.errors import FieldError

__all__ = ["Drift", "sampler_drift"]

Columns = dict[str, np.ndarray]
"""A table by column: `pandas.DataFrame` takes it as it is."""


class Drift(NamedTuple):
    """What `sampler_drift` found. Of all tables, `pandas.DataFrame(drift.by_position)` makes a frame.

    Each row tells, of its tokens: `tokens`, how many; `impossible`, how many of these one policy excludes, which enter
    no mean; `mean_log_ratio`, the mean of `log π − log μ`, negative where the sampler likes its own tokens better than
    π does, as it always will on the average; `kl`, the mean of the estimate k3 of `KL(μ‖π)`, in nats a token (see
    `isjax.ops.kl_estimates`); `truncated`, the share with a ratio above the truncation; `masked`, the share outside of
    `[low, high]`.
    """

    overall: Columns
    """One row; also `sequences` and `ess_fraction`, the effective share of sequences under products of their ratios."""
    by_position: Columns
    """A row for each `position`, the number of tokens of the sequence before it; also `ess_fraction`, under the
    products up to there, of the sequences that are as long."""
    by_class: Columns
    """A row for each `class`, the one that is farthest off first; empty where no classes were given."""
    by_sequence: Columns
    """A row for each sequence: its `row` and `segment` in the batch; also `log_ratio`, that of its product."""
    worst: Columns
    """The tokens with the largest ratios in either direction: `row`, `column`, `position`, `log_pi`, `log_mu`,
    `log_ratio`, and `token` and `class` where these were given."""

    def __str__(self) -> str:
        """The table: the batch, its classes and the worst tokens."""
        tables = {"all tokens": self.overall, "by class": self.by_class, "worst tokens": self.worst}
        return "\n\n".join(f"{name}\n{_text(table)}" for name, table in tables.items() if table)

    def figure(self) -> Any:
        """A matplotlib `Figure`: mean log-ratio, divergence, effective share and what is cut, by position."""
        from matplotlib.figure import Figure

        drawing = Figure(figsize=(11.0, 6.0), layout="constrained")
        x, panels = self.by_position["position"], drawing.subplots(2, 2, sharex=True)
        shown = (
            ("mean of log π − log μ", {"mean_log_ratio": "all"}),
            ("KL(μ‖π), nats a token", {"kl": "k3"}),
            ("effective share of sequences", {"ess_fraction": "products up to here"}),
            ("share of tokens", {"truncated": "truncated", "masked": "masked"}),
        )
        for panel, (label, columns) in zip(panels.flat, shown, strict=True):
            for name, title in columns.items():
                panel.plot(x, self.by_position[name], label=title, linewidth=1.2)
            panel.set(ylabel=label, xlabel="position in the sequence")
            panel.grid(alpha=0.25)
            panel.legend(frameon=False, fontsize=8)
        panels[0, 0].axhline(0.0, color="0.4", linewidth=0.7)
        return drawing


def sampler_drift(
    log_pi: Any,
    log_mu: Any,
    *,
    mask: Any = None,
    segment_ids: Any = None,
    tokens: Any = None,
    classes: Any = None,
    truncation: float = 2.0,
    low: float = 0.5,
    high: float = 5.0,
    worst: int = 10,
) -> Drift:
    """Compares the log-probabilities that a sampler had with those that the trainer computes for the same tokens.

    On a fresh sampler they should agree to its precision: `mean_log_ratio` near 0 at every position, `kl` near its
    square. A mean that falls with the position is drift that adds up; one class that stands out (digits, tool calls,
    ends of texts) is a difference of tokenizers or of sampling settings, such as a top-p that only the sampler applies.

    Args:
      log_pi: `[B, T]`, under the policy that ratios are taken to, π or π_old.
      log_mu: `[B, T]`, under the sampler, as it sampled them.
      mask: `[B, T]`, 1 for tokens that the sampler wrote and 0 for others; all if left out.
      segment_ids: `[B, T]`, integers, where rows hold several sequences: a new one begins wherever the number changes.
      tokens: `[B, T]`, ids or words, for the list of the worst.
      classes: `[B, T]`, whatever tokens are to be told apart by: numbers or names.
      truncation: C > 0, from which a ratio counts as truncated (`ops.truncated_weights`).
      low: the least ratio that is not masked, at least 0 (`ops.masked_weights`).
      high: the largest one, above `low`.
      worst: tokens to list, at least 1.

    Raises:
      ValueError: shapes differ, no token counts, one of them has no number, or an option is out of range.

    >>> drift = sampler_drift(np.log([[0.5, 0.2], [0.5, 0.1]]), np.log([[0.5, 0.1], [0.5, 0.4]]), worst=1)
    >>> drift.by_position["mean_log_ratio"].round(3), drift.overall["masked"], drift.worst["column"]
    (array([ 0.   , -0.347]), array([0.25]), array([1]))
    """
    check_positive(truncation=truncation, high=high)
    if not 0 <= low <= high:
        raise FieldError("low", f"between 0 and {{high}}, which is {high}", low)
    if worst < 1:
        raise FieldError("worst", "at least 1", worst)
    pi, mu = _numbers("log_pi", log_pi), _numbers("log_mu", log_mu)
    counts = np.ones(pi.shape, bool) if mask is None else np.asarray(mask) > 0
    ids = np.zeros(pi.shape, int) if segment_ids is None else np.asarray(segment_ids)
    given = {"log_mu": mu, "mask": counts, "segment_ids": ids}
    given |= {name: np.asarray(x) for name, x in (("tokens", tokens), ("classes", classes)) if x is not None}
    for name, x in given.items():
        if x.shape != pi.shape:
            raise FieldError(name, f"of log_pi's shape {list(pi.shape)}", f"of shape {list(x.shape)}")
    if not counts.any():
        raise FieldError("mask", "1 for some token", "0 for all")
    for name, x in (("log_pi", pi), ("log_mu", mu)):
        if np.isnan(x[counts]).any():
            raise FieldError(name, "a number wherever {mask} is 1", "NaN")

    row, column = np.nonzero(counts)
    pi, mu, of_segment = pi[counts], mu[counts], ids[counts]
    with np.errstate(invalid="ignore"):
        ratio = np.where(pi == mu, 0.0, pi - mu)
    sequence, position = _sequences(row, of_segment, ids, column)
    tell = _Teller(ratio, np.log(truncation), np.log(low) if low > 0 else -np.inf, np.log(high))
    up_to_here = _products(ratio, sequence)
    is_last = np.append(sequence[1:] != sequence[:-1], True)

    overall = tell.rows(np.zeros(len(ratio), int), 1)
    overall |= {"sequences": np.array([is_last.sum()]), "ess_fraction": np.array([_ess(up_to_here[is_last])])}
    places = np.arange(position.max() + 1)
    shares = np.array([_ess(up_to_here[position == place]) for place in places])
    by_position = {"position": places} | tell.rows(position, len(places)) | {"ess_fraction": shares}
    by_sequence = {"row": row[is_last], "segment": of_segment[is_last]}
    by_sequence |= tell.rows(sequence, is_last.sum()) | {"log_ratio": up_to_here[is_last]}
    by_class: Columns = {}
    if classes is not None:
        names, which = np.unique(given["classes"][counts], return_inverse=True)
        found = {"class": names} | tell.rows(which.reshape(-1), len(names))
        order = np.argsort(-found["kl"], kind="stable")
        by_class = {name: x[order] for name, x in found.items()}
    farthest = np.argsort(-np.abs(ratio), kind="stable")[:worst]
    each = {"row": row, "column": column, "position": position, "log_pi": pi, "log_mu": mu, "log_ratio": ratio}
    each |= {name: given[key][counts] for name, key in (("token", "tokens"), ("class", "classes")) if key in given}
    return Drift(overall, by_position, by_class, by_sequence, {name: x[farthest] for name, x in each.items()})


class _Teller(NamedTuple):
    """Log-ratios of all tokens, and the bounds that they are judged by."""

    log_ratio: np.ndarray
    truncation: float
    low: float
    high: float

    def rows(self, group: np.ndarray, count: int) -> Columns:
        """The numbers of each group of tokens; NaN for means over none."""
        ratio, is_finite = self.log_ratio, np.isfinite(self.log_ratio)
        known = np.where(is_finite, ratio, 0.0)
        with np.errstate(over="ignore"):
            k3 = np.where(is_finite, np.expm1(known) - known, 0.0)
        tokens, possible = (np.bincount(group, weights, count) for weights in (np.ones(len(group)), is_finite))
        means = {"mean_log_ratio": (known, possible), "kl": (k3, possible)}
        means |= {"truncated": (ratio > self.truncation, tokens)}
        means |= {"masked": ((ratio < self.low) | (ratio > self.high), tokens)}
        told = {"tokens": tokens.astype(int), "impossible": (tokens - possible).astype(int)}
        with np.errstate(invalid="ignore"):
            return told | {name: np.bincount(group, x, count) / over for name, (x, over) in means.items()}


def _numbers(name: str, x: Any) -> np.ndarray:
    found = np.asarray(x).astype(float)
    if found.ndim != 2:
        raise FieldError(name, "[B, T]", f"of shape {list(found.shape)}")
    return found


def _sequences(
    row: np.ndarray, of_segment: np.ndarray, ids: np.ndarray, column: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For tokens in order, the number of the sequence that each is of, and how many of its tokens come before."""
    runs = np.cumsum(ids[:, 1:] != ids[:, :-1], axis=1)
    run = np.concatenate([np.zeros((len(ids), 1), int), runs], axis=1)[row, column]
    is_first = np.append(True, (row[1:] != row[:-1]) | (run[1:] != run[:-1]))
    sequence = np.cumsum(is_first) - 1
    return sequence, np.arange(len(row)) - np.flatnonzero(is_first)[sequence]


def _products(log_ratio: np.ndarray, sequence: np.ndarray) -> np.ndarray:
    """Logarithms of the products of each sequence's ratios, up to every token."""
    starts = np.flatnonzero(np.append(True, sequence[1:] != sequence[:-1]))
    with np.errstate(invalid="ignore"):
        return np.concatenate([np.cumsum(part) for part in np.split(log_ratio, starts[1:])])


def _ess(log_weights: np.ndarray) -> float:
    """`(Σ w)² / (n Σ w²)`; 0 where every weight is 0."""
    finite = np.where(np.isnan(log_weights), -np.inf, log_weights)
    if np.isposinf(finite).any():
        return float(np.isposinf(finite).mean())
    if np.isneginf(finite).all():
        return 0.0
    w = np.exp(finite - finite.max())
    return float(w.sum() ** 2 / (len(w) * np.sum(w * w)))


def _text(table: Columns) -> str:
    """A table in columns of equal width, numbers with four digits."""
    cells = [
        [name, *(f"{x:.4g}" if isinstance(x, float) else str(x) for x in column.tolist())]
        for name, column in table.items()
    ]
    widths = [max(map(len, column)) for column in cells]
    lines: Sequence[Sequence[str]] = list(zip(*cells, strict=True))
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
