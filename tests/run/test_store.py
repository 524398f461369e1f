import contextlib
import dataclasses
import json
import math
import subprocess
import sys

import jax.numpy as jnp
import pytest

from isjax.learner import Config, Hyper
from isjax.run.store import Plan, free_folder, holds_run, locked, read_json, replacing, write_json


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


def test_a_field_that_the_saved_plan_lacks_is_a_difference():
    saved = a_plan().as_json()
    del saved["config"]["actor_lag"]
    assert a_plan().difference(saved) == ("actor_lag", None, 0)


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


def test_what_is_not_finite_becomes_null(tmp_path):
    write_json(tmp_path / "x.json", {"a": math.nan, "b": [1.0, math.inf], "c": {"d": -math.inf}})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [1.0, None], "c": {"d": None}}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    with contextlib.suppress(RuntimeError), replacing(path) as file:
        file.write(b"half of")
        raise RuntimeError("disk full")
    assert read_json(path) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_a_missing_or_broken_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run: config\.json is missing"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        read_json(tmp_path / "config.json")


def test_a_free_folder_gets_a_number(tmp_path):
    first = free_folder(a_plan(), tmp_path)
    assert first.name == "CartPole-v1-impala-0"
    first.mkdir()
    assert free_folder(a_plan(), tmp_path).name == "CartPole-v1-impala-0-2"
    assert not holds_run(first)


def test_a_folder_in_use_by_another_process_is_refused(tmp_path):
    code = f"from pathlib import Path\nfrom isjax.run.store import locked\nwith locked(Path({str(tmp_path)!r})): pass"
    with locked(tmp_path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "is in use" in other.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
