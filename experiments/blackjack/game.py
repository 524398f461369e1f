"""Blackjack from one state (Sutton & Barto 2018, example 5.4): by sampling, and exactly.

The dealer shows a 2, the player holds 13 with a usable ace; an infinite deck. The behavior policy hits or sticks with
equal odds, the target policy sticks on 20 or 21.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

DEALER_SHOWS, PLAYER_HOLDS = 2, 13
STICKS_FROM, DEALER_STANDS_FROM = 20, 17
CARDS = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}
MOST_DRAWS = 20
"""Neither hand takes more cards: from 13 with a usable ace, 21 aces would be needed for it."""


class Exact(NamedTuple):
    """Of one episode of the behavior policy, without sampling."""

    value: float
    """`E[ρ G]`, the value of the target policy."""
    variance: float
    """`Var(ρ G)`."""
    second_moment: float
    """`E[ρ²]`."""
    weighted_error_of_one: float
    """Mean squared error of the weighted estimate from one episode: its return, or 0 where ρ = 0."""


def add(total: int, usable: bool, card: int) -> tuple[int, bool]:
    """A hand after one more card; an ace counts 11 while that does not go over 21."""
    total, usable = (total + 11, True) if card == 1 and total + 11 <= 21 else (total + card, usable)
    return (total - 10, False) if total > 21 and usable else (total, usable)


@functools.cache
def dealer(total: int, usable: bool) -> dict[int, float]:
    """Odds of the totals at which the dealer stands; 22 for all above 21."""
    if total >= DEALER_STANDS_FROM:
        return {min(total, 22): 1.0}
    odds: dict[int, float] = {}
    for card, p in CARDS.items():
        for end, q in dealer(*add(total, usable, card)).items():
            odds[end] = odds.get(end, 0.0) + p * q
    return odds


@functools.cache
def moments(total: int, usable: bool, factor: float) -> tuple[float, float, float]:
    """`E[1]`, `E[G]` and `E[G²]` of the target from a hand on, each times `factor` for every decision taken.

    The ratio of the target's own action is 2: factors 1, 2 and ½ give the moments of 1 and ρ, of ρ², and of `ρ > 0`,
    of an episode of the behavior policy.
    """
    if total >= STICKS_FROM:
        ends = dealer(DEALER_SHOWS, False)
        won = sum(p for end, p in ends.items() if end > 21 or end < total)
        lost = sum(p for end, p in ends.items() if total < end <= 21)
        return factor, factor * (won - lost), factor * (won + lost)
    sums = [0.0, 0.0, 0.0]
    for card, p in CARDS.items():
        hand = add(total, usable, card)
        after = (1.0, -1.0, 1.0) if hand[0] > 21 else moments(*hand, factor)
        sums = [x + factor * p * y for x, y in zip(sums, after, strict=True)]
    return sums[0], sums[1], sums[2]


def exact() -> Exact:
    """By dynamic programming."""
    (_, value, _), (second, _, square), (share, mean, mean_square) = (
        moments(PLAYER_HOLDS, True, factor) for factor in (1.0, 2.0, 0.5)
    )
    # (G − v)² where ρ > 0, v² elsewhere.
    error = mean_square - 2.0 * value * mean + share * value**2 + (1.0 - share) * value**2
    return Exact(value, square - value**2, second, error)


def _added(total: jax.Array, usable: jax.Array, card: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`add`, for arrays."""
    as_eleven = (card == 1) & (total + 11 <= 21)
    total, usable = total + jnp.where(as_eleven, 11, card), usable | as_eleven
    return jnp.where((total > 21) & usable, total - 10, total), usable & (total <= 21)


def play(key: jax.Array, episodes: int) -> tuple[jax.Array, jax.Array]:
    """`(log ρ of the whole episode, return)`, `[episodes]` each, under the behavior policy."""
    card_key, dealer_key, action_key = jax.random.split(key, 3)
    shape = (MOST_DRAWS, episodes)
    cards, dealt = (jnp.minimum(jax.random.randint(k, shape, 1, 14), 10) for k in (card_key, dealer_key))
    hits = jax.random.bernoulli(action_key, 0.5, shape)

    def turn(hand, row):
        total, usable, playing, log_rho = hand
        card, hit = row
        is_targets = hit == (total < STICKS_FROM)
        log_rho = jnp.where(playing, log_rho + jnp.where(is_targets, jnp.log(2.0), -jnp.inf), log_rho)
        drawn_total, drawn_usable = _added(total, usable, card)
        draws = playing & hit
        total, usable = jnp.where(draws, drawn_total, total), jnp.where(draws, drawn_usable, usable)
        return (total, usable, draws & (total <= 21), log_rho), None

    def draw(hand, card):
        total, usable = hand
        drawn_total, drawn_usable = _added(total, usable, card)
        draws = total < DEALER_STANDS_FROM
        return (jnp.where(draws, drawn_total, total), jnp.where(draws, drawn_usable, usable)), None

    full = functools.partial(jnp.full, (episodes,))
    player = (full(PLAYER_HOLDS), full(True), full(True), full(0.0))
    (total, _, _, log_rho), _ = jax.lax.scan(turn, player, (cards, hits))
    (end, _), _ = jax.lax.scan(draw, (full(DEALER_SHOWS), full(False)), dealt)
    wins, loses = (end > 21) | (end < total), (end <= 21) & (end > total)
    return log_rho, jnp.where(total > 21, -1.0, jnp.where(wins, 1.0, jnp.where(loses, -1.0, 0.0)))
