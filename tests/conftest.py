"""Settings of every test: float64 where a test asks for it, rank promotion raises, warnings are errors."""

import atexit
import os
import shutil
import tempfile

# What one process has compiled is there for all others: workers and the commands that tests run.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="programs-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# Eight virtual devices, so that sharding is rehearsed on any machine; before jax looks for devices.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """float64 for the length of one test, for comparisons with oracles in NumPy."""
    with jax.enable_x64(True):
        yield
