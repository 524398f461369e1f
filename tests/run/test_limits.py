"""Limits of containers, read from trees as the kernel lays them out."""

import types

import pytest

from isjax.run import limits, programs

GIB = 2**30


def tree(folder, files: dict[str, object], own: str) -> tuple:
    for name, content in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    (folder / "own").write_text(own)
    return folder / "cgroup", folder / "own"


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("files", "own", "free"),
    [
        ({"memory.max": GIB, "memory.current": GIB // 4}, "0::/", 0.75 * GIB),
        ({"memory.max": "max", "memory.current": GIB // 4}, "0::/", None),
        ({"a/b/memory.max": "max", "a/memory.max": GIB, "a/memory.current": 0}, "0::/a/b", GIB),
        ({"a/b/memory.max": 2 * GIB, "a/memory.max": GIB, "memory.max": 3 * GIB}, "0::/a/b", GIB),
        ({"memory.max": GIB}, "0::/elsewhere/on/the/host", GIB),
        (
            {"memory.max": GIB, "memory.current": GIB, "memory.stat": f"anon 5\ninactive_file {GIB // 2}"},
            "0::/",
            GIB // 2,
        ),
        ({"memory.max": GIB, "memory.current": 2 * GIB}, "0::/", 0),
        ({"memory/memory.limit_in_bytes": GIB, "memory/memory.usage_in_bytes": 0}, "4:memory:/docker/x\n0::/", GIB),
        ({"memory/memory.limit_in_bytes": 9223372036854771712}, "4:memory:/", None),
        ({"memory/docker/x/memory.limit_in_bytes": GIB}, "4:cpu,memory:/docker/x", GIB),
        ({"memory.max": ""}, "0::/", None),
        ({}, "", None),
    ],
)
def test_the_memory_of_a_container_is_what_the_tightest_group_leaves(tmp_path, files, own, free):
    assert limits.free_memory(*tree(tmp_path, files, own)) == free


@pytest.mark.parametrize(
    ("files", "own", "cores"),
    [
        ({"cpu.max": "200000 100000"}, "0::/", 2),
        ({"cpu.max": "max 100000"}, "0::/", 8),
        ({"cpu.max": "50000 100000"}, "0::/", 1),
        ({"cpu.max": "150000 100000"}, "0::/", 2),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, "0::/a/b", 3),
        ({"cpu/cpu.cfs_quota_us": 400000, "cpu/cpu.cfs_period_us": 100000}, "3:cpu,cpuacct:/docker/x", 4),
        ({"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000}, "3:cpu,cpuacct:/", 8),
        ({"cpu.max": "nonsense"}, "0::/", 8),
        ({"cpu.max": "900000 100000"}, "0::/", 8),
        ({}, "", 8),
    ],
)
def test_the_cores_of_a_container_are_those_of_its_quota(tmp_path, files, own, cores):
    assert limits.cores(*tree(tmp_path, files, own)) == cores


def test_learners_take_no_more_memory_than_a_container_leaves(monkeypatch):
    cpu = types.SimpleNamespace(platform="cpu")
    monkeypatch.setattr(programs, "free_memory", lambda: 1e6)
    assert programs.free_bytes(cpu, 2) == programs.SHARE_OF_HOST * 1e6 / 2
    monkeypatch.setattr(programs, "free_memory", lambda: 1e30)
    assert programs.free_bytes(cpu, 2) < 1e15
