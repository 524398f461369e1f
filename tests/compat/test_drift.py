"""The drift of a sampler, against the same numbers by loops over tokens."""

import math

import numpy as np
import pytest

from isjax.compat.drift import sampler_drift

RNG = np.random.default_rng(0)
B, T = 5, 9
LOG_MU = -RNG.exponential(size=(B, T))
LOG_PI = LOG_MU + RNG.normal(size=(B, T))
MASK = (RNG.uniform(size=(B, T)) < 0.8).astype(np.float32)
MASK[2] = 0.0
SEGMENTS = np.sort(RNG.integers(0, 3, size=(B, T)), axis=1)
CLASSES = RNG.choice(["digit", "word"], size=(B, T))
OPTIONS = {"truncation": 1.5, "low": 0.7, "high": 1.8}


def by_hand(key):
    """`key(row, column, position, sequence)` → the ratios of its tokens; and the products of sequences so far."""
    groups, products, position, last, product = {}, {}, -1, None, 0.0
    for row in range(B):
        for column in range(T):
            if not MASK[row, column]:
                continue
            sequence = (row, SEGMENTS[row, column])
            position, product = (position + 1, product) if sequence == last else (0, 0.0)
            last, x = sequence, LOG_PI[row, column] - LOG_MU[row, column]
            product += x
            name = key(row, column, position, sequence)
            groups.setdefault(name, []).append(x)
            products.setdefault(name, []).append(product)
    return groups, products


def told(ratios):
    w = np.exp(ratios)
    return {
        "tokens": len(w),
        "mean_log_ratio": np.mean(ratios),
        "kl": np.mean([math.exp(x) - 1 - x for x in ratios]),
        "truncated": np.mean(w > 1.5),
        "masked": np.mean([not 0.7 <= x <= 1.8 for x in w]),
    }


def drift(**changes):
    given = {"mask": MASK, "segment_ids": SEGMENTS, "classes": CLASSES} | OPTIONS | changes
    pi = np.where(MASK > 0, LOG_PI, np.nan)  # what stands in padding is inert
    return sampler_drift(pi, np.where(MASK > 0, LOG_MU, np.inf), **given)


@pytest.mark.parametrize(
    ("table", "key", "name"),
    [
        ("overall", lambda row, column, position, sequence: 0, None),
        ("by_position", lambda row, column, position, sequence: position, "position"),
        ("by_class", lambda row, column, position, sequence: CLASSES[row, column], "class"),
        ("by_sequence", lambda row, column, position, sequence: sequence, ("row", "segment")),
    ],
)
def test_every_table_is_that_of_a_loop_over_its_tokens(table, key, name):
    found, (groups, _) = getattr(drift(), table), by_hand(key)
    assert len(found["tokens"]) == len(groups)
    for place in range(len(groups)):
        who = (
            0 if name is None else found[name][place] if isinstance(name, str) else tuple(found[n][place] for n in name)
        )
        expected = told(groups[who])
        assert {n: found[n][place] for n in expected} == pytest.approx(expected), who
        if table == "by_sequence":
            assert found["log_ratio"][place] == pytest.approx(sum(groups[who]))


def test_the_effective_share_is_that_of_products_up_to_a_position_and_of_whole_sequences():
    _, products = by_hand(lambda row, column, position, sequence: position)
    for place, found in enumerate(drift().by_position["ess_fraction"]):
        w = np.exp(products[place])
        assert found == pytest.approx(w.sum() ** 2 / (w**2).sum() / len(w)), place
    _, whole = by_hand(lambda row, column, position, sequence: sequence)
    w = np.exp([x[-1] for x in whole.values()])
    assert drift().overall["ess_fraction"] == pytest.approx(w.sum() ** 2 / (w**2).sum() / len(w))
    assert drift().overall["sequences"] == len(w)


def test_the_worst_tokens_are_those_with_the_largest_ratios_in_either_direction():
    found = drift(worst=4, tokens=np.arange(B * T).reshape(B, T)).worst
    x = np.where(MASK > 0, np.abs(LOG_PI - LOG_MU), 0.0)
    assert found["token"].tolist() == np.argsort(-x.ravel())[:4].tolist()
    at = found["row"], found["column"]
    np.testing.assert_allclose(found["log_ratio"], (LOG_PI - LOG_MU)[at])
    assert found["class"].tolist() == CLASSES[at].tolist()


def test_impossible_tokens_are_counted_and_enter_no_mean():
    pi, mu = np.log([[0.5, 0.25], [0.5, 0.5]]), np.log([[0.5, 0.5], [0.5, 0.5]])
    pi[1, 1] = -np.inf
    found = sampler_drift(pi, mu)
    assert found.overall["impossible"].tolist() == [1]
    assert found.overall["mean_log_ratio"] == pytest.approx(np.log(0.5) / 3)
    assert found.overall["masked"] == 0.25
    assert found.overall["ess_fraction"] == pytest.approx(0.5)  # the sequence weighs 0
    mu[1, 1] = -np.inf  # under both: no difference
    assert sampler_drift(pi, mu).overall["impossible"].tolist() == [0]
    assert sampler_drift(np.log([[0.5], [0.5]]), np.array([[-np.inf], [0.0]])).overall["ess_fraction"] == 0.5


def test_one_call_gives_a_table_and_a_figure():
    found = drift()
    text = str(found)
    assert "mean_log_ratio" in text
    assert "digit" in text
    assert len({len(line) for line in text.split("\n\n")[0].splitlines()[1:]}) == 1
    figure = found.figure()
    assert len(figure.axes) == 4
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), found.by_position["kl"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": np.zeros((B, T))}, "mask must be 1 for some token, but it is 0 for all."),
        ({"mask": np.ones((B, T))}, "log_pi must be a number wherever mask is 1, but it is NaN."),
        ({"segment_ids": np.zeros((B, 2), int)}, r"segment_ids must be of log_pi's shape \[5, 9\], but it is of shape"),
        ({"low": 2.0}, "low must be between 0 and high, which is 1.8, but it is 2.0."),
        ({"truncation": 0.0}, "truncation must be"),
        ({"worst": 0}, "worst must be at least 1, but it is 0."),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message):
        drift(**changes)
    with pytest.raises(ValueError, match=r"log_pi must be \[B, T\]"):
        sampler_drift(np.zeros(3), np.zeros(3))
