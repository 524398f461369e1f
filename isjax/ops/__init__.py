"""Mathematics on arrays `[T, *B]`; needs jax alone."""

from isjax.ops.diagnostics import KLEstimates, effective_sample_size, kl_estimates, ratio_diagnostics
from isjax.ops.ratios import clipped_ratio, endings, log_ratios, product_of_ratios
from isjax.ops.recurrence import backward_affine
from isjax.ops.vtrace import VTrace, leaky_vtrace, vtrace

__all__ = [
    "KLEstimates",
    "VTrace",
    "backward_affine",
    "clipped_ratio",
    "effective_sample_size",
    "endings",
    "kl_estimates",
    "leaky_vtrace",
    "log_ratios",
    "product_of_ratios",
    "ratio_diagnostics",
    "vtrace",
]
