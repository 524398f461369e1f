"""What the losses on sequences share: checked tokens, ratios of every level, and weight × objective × aggregation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from isjax._checks import check_integer, check_same_shape, series
from isjax.losses._rows import Rows, constant_ratio, off_policy_rows, ratio
from isjax.losses.aggregation import Aggregation, aggregate
from isjax.ops.ratios import Level, log_ratio_of
from isjax.ops.recurrence import scaled
from isjax.ops.sequences import largest_by_sequence
from isjax.types import Flags, Scalar, Series


class Tokens(NamedTuple):
    """The arguments that losses on sequences have in common, checked; and everything that is made of them."""

    rows: Rows
    is_valid_t: Flags | None
    segment_ids_t: jax.Array | None

    @property
    def advantage_tm1(self) -> Series:
        """`[T, *B]`, constant; 0 where the token is impossible or padding."""
        return self.rows.advantage_tm1

    def counted(self) -> Flags:
        """`[T, *B]`, tokens that are neither padding nor impossible."""
        possible = self.rows.possible_tm1
        return possible if self.is_valid_t is None else possible & self.is_valid_t

    def log_ratio(self, level: Level) -> Series:
        """Log-ratios of a level, `[T, *B]` or, one for each stream, `[1, *B]`; gradients flow through them."""
        return log_ratio_of(level, self.rows.log_rho_tm1, self.is_valid_t, self.segment_ids_t)

    def constant_ratio(self, level: Level, clip: Scalar | None = None) -> Series:
        """`min(clip, ρ)` of a level, as a weight."""
        return constant_ratio(jax.lax.stop_gradient(self.log_ratio(level)), clip)

    def of_possible_tokens(self) -> "Tokens":
        """The same with ratios of 1 for impossible tokens."""
        possible = jnp.where(self.rows.possible_tm1, self.rows.log_rho_tm1, 0.0)
        return self._replace(rows=self.rows._replace(log_rho_tm1=possible))

    def of_possible_sequences(self) -> "Tokens":
        """The same with an advantage of 0 in sequences with an impossible token."""
        impossible = (~self.rows.possible_tm1).astype(self.advantage_tm1.dtype)
        spoiled = largest_by_sequence(impossible, self.segment_ids_t) > 0
        return self._replace(rows=self.rows._replace(advantage_tm1=jnp.where(spoiled, 0.0, self.advantage_tm1)))

    def weighted(self, weight: Series) -> Series:
        """`sg(w) A log π`, whose gradient is `w A ∇log π`."""
        return jax.lax.stop_gradient(weight) * self.advantage_tm1 * self.rows.log_pi_tm1

    def clipped(self, log_rho: Series, low: Scalar, high: Scalar, dual_clip: Scalar | None = None) -> Series:
        """`min(ρ A, clip(ρ, low, high) A)`, and at least `c A` where A is negative: each sign has one bound."""
        rho = ratio(log_rho)
        rising, falling = jnp.minimum(rho, high), jnp.maximum(rho, low)
        if dual_clip is not None:
            falling = jnp.minimum(falling, dual_clip)
        return jnp.where(self.advantage_tm1 < 0, falling, rising) * self.advantage_tm1

    def loss(
        self,
        objective: Series,
        weight_tm1: Series | None,
        aggregation: Aggregation,
        max_length: Scalar | None,
    ) -> jax.Array:
        """Minus the weighted objective, aggregated."""
        if weight_tm1 is not None:
            check_same_shape(log_pi_tm1=objective, weight_tm1=weight_tm1)
            (weight_tm1,) = series(weight_tm1=weight_tm1, is_valid_t=self.is_valid_t)
            objective = scaled(jax.lax.stop_gradient(weight_tm1).astype(objective.dtype), objective)
        return aggregate(
            -objective,
            self.is_valid_t,
            aggregation=aggregation,
            max_length=max_length,
            segment_ids_t=self.segment_ids_t,
        ).mean


def tokens_of(
    log_pi_tm1: Series,
    log_mu_tm1: Series,
    advantage_tm1: Series,
    is_valid_t: Flags | None,
    segment_ids_t: jax.Array | None,
) -> Tokens:
    """Checked tokens.

    Raises:
      ValueError: shapes differ, or there is no step.
      TypeError: an array is of the wrong kind.
    """
    rows = off_policy_rows(log_pi_tm1, log_mu_tm1, advantage_tm1, is_valid_t)
    check_same_shape(log_pi_tm1=log_pi_tm1, segment_ids_t=segment_ids_t)
    if segment_ids_t is not None:
        check_integer(segment_ids_t=segment_ids_t)
    return Tokens(rows, is_valid_t, segment_ids_t)
