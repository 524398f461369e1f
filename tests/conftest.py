"""Settings of every test: float64 where a test asks for it, rank promotion raises, warnings are errors."""

import os

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
