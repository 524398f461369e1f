"""Environments and suites by name, one's own among them."""

import os
import subprocess
import sys
import warnings

import pytest

from isjax.cli import main
from isjax.environments import make
from isjax.environments import registry as by_name
from isjax.environments.gymnax import Gymnax
from isjax.run.files import read_json

OWN = """
import dataclasses
import jax.numpy as jnp
from isjax.environments import Discrete, Environment, Step, Suite, register, register_suite

@register("own-walk")
@dataclasses.dataclass
class Walk(Environment):
    goal: int = 3
    max_steps: int = 6
    action_space = Discrete(2)

    def reset(self, key):
        return jnp.zeros(1), jnp.zeros(1)

    def step(self, key, state, action):
        state = state + action
        return Step(state, state, -1.0, state[0] >= self.goal)

@register("own-argument")
class Argument(Walk):
    def __init__(self, argument):
        pass

@register_suite("own-walks")
class Walks(Suite):
    def ids(self):
        return ["Walk-v0", "Hike-v0"]

    def make(self, name, overrides):
        return Walk(goal={"Walk-v0": 3, "Hike-v0": 30}[name])
"""
NEEDY = """
import a_package_that_is_not_there
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a module in a file that nothing has imported yet."""
    (tmp_path / "own_walks.py").write_text(OWN)
    (tmp_path / "own_needy.py").write_text(NEEDY)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_walks"
    forget()


def forget():
    """As in another process, which knows nothing of the module."""
    sys.modules.pop("own_walks", None)
    for registry in (by_name.environments, by_name.suites):
        for name in [name for name in registry.names if name.startswith("own-")]:
            del registry._classes[name]


def test_ids_of_gymnax_stand_alone():
    environment = make("CartPole-v1", ("gravity=9.0",))
    assert isinstance(environment, Gymnax)
    assert environment.params.gravity == 9.0


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("gymnax/CartPole-v1", "env must be an id of gymnax without its suite, but it is 'gymnax/CartPole-v1'"),
        ("/CartPole-v1", "env must be of a registered suite, but it is '/CartPole-v1'; known are gymnax"),
        ("isjax.environments.gymnax:gymnax/CartPole-v1", "env must be an id of gymnax without its suite"),
        ("isjax.environments.gymnax:CartPole-v1", "env must be .*, but it is 'isjax.environments.gymnax:CartPole-v1'"),
    ],
)
def test_no_environment_of_gymnax_has_a_second_name(name, match):
    with pytest.raises(ValueError, match=match):
        make(name)


def test_environments_of_ones_own_are_asked_for_by_module_and_name(own):
    assert make(f"{own}:own-walk", ("goal=7", "max_steps=9")).goal == 7
    assert make("own-walk").max_steps == 6
    assert make(f"{own}:own-walks/Hike-v0").goal == 30
    assert make("own-walks/Walk-v0").goal == 3


def test_a_run_with_an_environment_of_ones_own_is_found_again_by_its_name(own, tmp_path, capsys):
    out = tmp_path / "run"
    small = "--learners 1 --steps 40 --num-envs 2 --unroll-length 5 --evaluation-episodes 2 --quiet"
    flags = ["train", "--env", f"{own}:own-walk", "--env-params", "goal=5", *small.split(), "--out", str(out)]
    assert main(flags) == 0
    forget()
    assert read_json(out / "config.json")["config"]["env"] == "own_walks:own-walk"
    assert main(["best", str(out), "--episodes", "2", "--draw"]) == 0
    assert "own_walks:own-walk cannot be drawn here: Walk has no pictures of its own." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("CartPol-v1", "env must be a registered environment, but it is 'CartPol-v1'; did you mean CartPole-v1"),
        ("own-wakl", "'own-wakl'; did you mean own-walk"),
        ("{own}:own-wakl", "env must be one of .*own-walk, own-argument, .*; did you mean own-walk"),
        ("own-walks/Hik-v0", "'own-walks/Hik-v0'; did you mean own-walks/Hike-v0"),
        ("{own}:own-walks/Hik-v0", "did you mean own_walks:own-walks/Hike-v0"),
        ("own-wals/Hike-v0", "env must be of a registered suite, but it is 'own-wals/Hike-v0'; did you mean own-walks"),
        ("{own}:own-wals/Hike-v0", "env must be one of .*own-walks.*did you mean own-walks"),
        ("nowhere:walk", "env must name a module that can be imported, but it is 'nowhere:walk'; .*No module named"),
        (
            "own-argument",
            "a class that can be called without arguments, but it is 'own-argument': .*argument",
        ),
        ("", "env must be a registered environment, but it is ''; known are"),
        ("Craftax-Symbolic-v1", "did you mean craftax/Craftax-Symbolic-v1"),
        (
            "kinetix/s/h0",
            "of a suite that goes together with isjax, but it is 'kinetix/s/h0': kinetix-env allows no JAX",
        ),
        ("popgym-arcade/X", "popgym-arcade installs stable-gymnax, which takes the place of gymnax"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(own, name, match):
    make(f"{own}:own-walk")
    with pytest.raises(ValueError, match=match):
        make(name.format(own=own))


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (("gaol=7",), "env_params must be NAME=NUMBER with NAME one of goal, max_steps, .* an example is goal=3"),
        (("max_steps=0",), "max_steps must be a whole number from 1 to"),
    ],
)
def test_parameters_of_ones_own_environment_are_its_fields(own, overrides, match):
    with pytest.raises(ValueError, match=match):
        make(f"{own}:own-walk", overrides)


def test_a_suite_that_is_not_installed_is_answered_with_the_command_that_installs_it(own, monkeypatch, capsys):
    monkeypatch.setitem(by_name.BUILT_IN, "needy", "own_needy")
    assert main(["train", "--env", "needy/Thing-v0", "--steps", "10"]) == 2
    said = capsys.readouterr().err
    assert "--env must be of a suite that is installed, but it is 'needy/Thing-v0': pip install 'isjax[needy]'" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("suite", [name for name in by_name.BUILT_IN if not by_name.is_installed(name)])
def test_suites_that_are_not_here_are_told_from_unknown_ones(suite):
    with pytest.raises(ValueError, match=rf"is installed, but it is '{suite}/x': pip install 'isjax\[{suite}\]'"):
        make(f"{suite}/x")


def test_a_name_is_answered_without_importing_any_suite():
    program = (
        "import sys; from isjax.environments import make\n"
        "for name in ('brx/ant', 'kinetix/x'):\n"
        "    try: make(name)\n"
        "    except ValueError as error: print(error)\n"
        "assert not {'brax', 'craftax', 'gymnax', 'jumanji', 'navix', 'pgx', 'xminigrid'} & set(sys.modules)"
    )
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "did you mean brax" in result.stdout


def test_an_environment_of_ones_own_needs_no_gymnax(own):
    program = (
        "import sys, jax; from isjax.learner import Config, make_learner\n"
        f"learner = make_learner(Config(env='{own}:own-walk'))\n"
        "jax.eval_shape(learner.init, jax.random.key(0)); assert 'gymnax' not in sys.modules"
    )
    path = os.pathsep.join([sys.path[0], os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_what_a_suites_package_prints_and_warns_of_is_not_heard(monkeypatch, capsys):
    suite = type(by_name.get_suite("gymnax"))
    quiet = suite.make

    def noisy(self, name, overrides):
        print("Failed to import something else")
        warnings.warn("not actively maintained", stacklevel=1)
        return quiet(self, name, overrides)

    monkeypatch.setattr(suite, "make", noisy)
    assert make("Catch-bsuite").name
    assert capsys.readouterr().out == ""
