"""Settings of every test: float64 where a test asks for it, rank promotion raises, warnings are errors."""

import os
import tempfile

# Eight virtual devices, so that sharding is rehearsed on any machine; before jax looks for devices.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

# What is compiled once need not be compiled again, by another test, another worker or a process that a test starts.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    CACHE = tempfile.TemporaryDirectory(prefix="isjax-tests-")
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": CACHE.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }

import jax
import pytest
from jax import experimental

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """float64 for the length of one test, for comparisons with oracles in NumPy."""
    switch = jax.enable_x64 if hasattr(jax, "enable_x64") else experimental.enable_x64  # before jax 0.8
    with switch(True):
        yield
