"""Settings of every test: float64 where a test asks for it, rank promotion raises, warnings are errors."""

import os

# Eight virtual devices, so that sharding is rehearsed on any machine; before jax looks for devices.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """Whoever compiles a program that another test has compiled reads it from a folder."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("programs")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture
def x64():
    """float64 for the length of one test, for comparisons with oracles in NumPy."""
    with jax.enable_x64(True):
        yield
