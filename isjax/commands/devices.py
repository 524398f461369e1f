"""What has to be said to JAX before it looks for devices, and whether it finds them."""

import contextlib
import os
import socket
from typing import Any

import jax

from isjax.commands.flags import BadArguments
from isjax.commands.pages import with_page
from isjax.errors import MUST, FieldError


def set_up(flags: Any) -> None:
    """What has to be said to JAX before it looks for devices."""
    if flags.run.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", flags.run.compilation_cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    hosts = flags.hosts
    _check_hosts(hosts)
    if hosts.distributed or hosts.coordinator:
        from isjax.run.hosts import connect

        processes, process = hosts.processes or None, None if hosts.process < 0 else hosts.process
        connect(hosts.coordinator or None, processes, process, timeout=hosts.host_timeout)


def _check_hosts(hosts: Any) -> None:
    for name, absent, low in (("processes", 0, 1), ("process", -1, 0)):
        x = getattr(hosts, name)
        if x == absent:
            continue
        if not (hosts.distributed or hosts.coordinator):
            raise FieldError(name, "come with {distributed} or {coordinator}", x, MUST)
        if x < low:
            raise FieldError(name, f"at least {low}", x)
    if hosts.processes and hosts.process >= hosts.processes:
        raise FieldError("process", f"less than {{processes}}, which is {hosts.processes}", hosts.process)
    if not hosts.coordinator:
        return
    host, _, port = hosts.coordinator.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise FieldError("coordinator", "HOST:PORT", repr(hosts.coordinator))
    try:
        socket.getaddrinfo(host.strip("[]"), int(port))
    except (OSError, UnicodeError) as error:
        rule = "HOST:PORT of a host that can be found"
        raise FieldError("coordinator", rule, repr(hosts.coordinator)) from error


def use_every_core() -> None:
    """On a CPU, a virtual device for each core; a number given in XLA_FLAGS stays what it is."""
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    from isjax.run.limits import cores

    with contextlib.suppress(RuntimeError):  # devices that are in use already stay what they are
        jax.config.update("jax_num_cpu_devices", cores())


def find_devices() -> None:
    """Raises `BadArguments` where JAX has no such devices as it is asked for."""
    try:
        jax.devices()
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = str(error).partition("\n")[0]
        if asked:
            said = f"JAX_PLATFORMS must be a platform that JAX has here, but it is {asked!r}: {reason}"
        else:
            said = f"JAX finds no devices: {reason}"
        raise BadArguments(with_page(said, "devices")) from error
