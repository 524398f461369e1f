import dataclasses
import errno
import fcntl
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import pytest

from isjax.learner import Config, Hyper
from isjax.run.files import Damaged
from isjax.run.plan import Plan
from isjax.run.store import check_folder, claim, holds_run, locked


def a_plan(**changes) -> Plan:
    return dataclasses.replace(Plan(config=Config(torso=(8, 4)), hyper=Hyper(discount=0.9)), **changes)


def test_a_plan_survives_json():
    saved = json.loads(json.dumps(a_plan().as_json()))
    assert Plan.from_json(saved).as_json() == saved
    assert Plan.from_json(saved).config == a_plan().config
    assert a_plan().difference(saved) is None


def test_a_plan_keeps_settings_that_differ_between_learners():
    saved = a_plan(learners=2, hyper=Hyper(learning_rate=jnp.array([0.5, 0.25]))).as_json()
    assert saved["hyper"]["learning_rate"] == [0.5, 0.25]


def test_infinity_survives_json():
    saved = json.loads(json.dumps(a_plan(learners=2, hyper=Hyper(clip_rho=jnp.array([1.0, jnp.inf]))).as_json()))
    assert saved["hyper"]["clip_rho"] == [1.0, "inf"]
    assert Plan.from_json(saved).hyper.clip_rho.tolist() == [1.0, float("inf")]


def test_learners_of_one_place_in_their_settings_share_a_stream():
    plan = a_plan(learners=6, replicas=3, hyper=Hyper(discount=jnp.repeat(jnp.array([0.5, 0.75]), 3)))
    assert plan.per_setting == 3
    assert plan.streams(jnp.arange(6)).tolist() == [0, 1, 2, 0, 1, 2]
    assert plan.hyper_of(jnp.array([2, 3])).discount.tolist() == [0.5, 0.75]
    with pytest.raises(ValueError, match="replicas must divide learners, 6, but it is 4"):
        dataclasses.replace(plan, replicas=4)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (a_plan(seed=3), ("seed", 3, 0)),
        (a_plan(learners=2), ("learners", 2, 64)),
        (a_plan(log_every=7), ("log_every", 7, 40)),
        (a_plan(config=Config(torso=(8, 5))), ("torso", [8, 5], [8, 4])),
        (a_plan(config=Config(torso=(8, 4), steps=600_000), log_every=40), ("steps", 600_000, 500_000)),
        (a_plan(hyper=Hyper(discount=0.8)), ("discount", 0.8, 0.9)),
    ],
)
def test_the_first_field_that_differs_is_named(other, difference):
    assert a_plan().difference(other.as_json()) == difference


def test_a_field_that_the_saved_plan_lacks_had_its_default_there():
    saved = a_plan().as_json()
    del saved["config"]["actor_lag"]
    assert a_plan().difference(saved) is None
    lagging = a_plan(config=dataclasses.replace(a_plan().config, actor_lag=2))
    assert lagging.difference(saved) == ("actor_lag", 0, 2)


def test_a_plan_of_another_version_is_refused():
    saved = a_plan().as_json()
    saved["config"]["flux"] = 1
    with pytest.raises(ValueError, match="another version"):
        Plan.from_json(saved)


@pytest.mark.parametrize(("field", "value"), [("learners", 0), ("seed", -1), ("log_every", -1), ("seed", 2**32)])
def test_an_impossible_plan_names_the_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be"):
        a_plan(**{field: value})


def test_about_a_hundred_rows_unless_told_otherwise():
    assert a_plan(config=Config(steps=128_000)).chunk == 10
    assert a_plan(config=Config(steps=1)).chunk == 1
    assert a_plan(log_every=3).chunk == 3


def test_a_free_folder_gets_a_number(tmp_path):
    first = claim(tmp_path / a_plan().name)
    assert first.name == "CartPole-v1-impala-0"
    assert first.is_dir()  # made by the same call: no other job can get it
    assert claim(tmp_path / a_plan().name).name == "CartPole-v1-impala-0-2"
    assert not holds_run(first)


def test_a_folder_in_use_by_another_process_is_refused(tmp_path):
    code = f"from pathlib import Path\nfrom isjax.run.store import locked\nwith locked(Path({str(tmp_path)!r})): pass"
    with locked(tmp_path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "is in use" in other.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_failure(number, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()


def test_jobs_that_choose_a_folder_at_the_same_moment_get_different_ones(tmp_path):
    with ThreadPoolExecutor(8) as jobs:
        chosen = list(jobs.map(lambda _: claim(tmp_path / a_plan().name), range(16)))
    assert len(set(chosen)) == 16


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file", "out must be a folder, but .* is a file"),
        ("file/below", "out must be a folder that can be made, but .* lies below a file"),
        ("file/far/below", "out must be a folder that can be made, but .* lies below a file"),
        ("fifo", "out must be a folder, but .* is a file"),
        ("dangling", "out must be a folder, but .* is a link that leads nowhere"),
        ("x" * 300, "out must have names of at most 255 bytes"),
        ("a/" + "é" * 150 + "/b", "out must have names of at most 255 bytes"),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused_in_a_short_line(place, message, tmp_path):
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(ValueError, match=message) as caught:
        check_folder(tmp_path / place)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("learners",), "2"),
        (("learners",), 2.5),
        (("learners",), True),
        (("learners",), None),
        (("learners",), 0),
        (("seed",), -1),
        (("config",), []),
        (("config",), "x"),
        (("config", "num_envs"), "8"),
        (("config", "num_envs"), 0),
        (("config", "torso"), "64"),
        (("config", "torso"), [64.5]),
        (("config", "memory"), "gnu"),
        (("config", "normalize_rewards"), 1),
        (("hyper",), None),
        (("hyper", "discount"), "x"),
        (("hyper", "discount"), None),
        (("hyper", "discount"), [0.9, 0.9, 0.9]),
    ],
)
def test_a_saved_field_that_holds_what_it_cannot_is_named(path, value):
    saved = a_plan().as_json()
    place = saved if len(path) == 1 else saved[path[0]]
    place[path[-1]] = value
    with pytest.raises(Damaged, match=path[-1]):
        Plan.from_json(saved)


def test_names_are_found_where_they_were_with_a_warning():
    from isjax.run import best, policy, store

    with pytest.warns(DeprecationWarning, match=r"isjax\.run\.plan\.Plan now"):
        assert store.Plan is Plan
    with pytest.warns(DeprecationWarning, match=r"isjax\.run\.policy\.load now"):
        assert best.load is policy.load
