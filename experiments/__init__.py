"""Experiments: one folder a question."""

import os
import sys

if "jax" not in sys.modules and "XLA_FLAGS" not in os.environ:  # learners spread over the cores of a CPU
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(os.cpu_count() or 1))
