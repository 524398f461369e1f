"""Parameters of environments as texts."""

import dataclasses

import gymnax
import pytest

from isjax.environments import make
from isjax.environments.parameters import changes, defaults_of, overridden, scalars_of


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "max_steps_in_episode=0",
            "max_steps_in_episode must be a whole number from 1 to 2,147,483,647, but it is '0'.",
        ),
        ("max_steps_in_episode=3000000000", "max_steps_in_episode must be a whole number from 1 to 2,147,483,647"),
        ("max_steps_in_episode=1.5", "max_steps_in_episode must be a whole number"),
        ("gravity=nan", "gravity must be a number that float32 can hold, but it is 'nan'."),
        ("gravity=-inf", "gravity must be a number that float32 can hold, but it is '-inf'."),
        ("gravity=1e39", "gravity must be a number that float32 can hold, but it is '1e39'."),
        ("gravity=1e-50", "gravity must be a number that float32 can hold, but it is '1e-50'."),
        ("gravity=ten", "gravity must be a number"),
        ("gravity", "env_params must be NAME=NUMBER"),
    ],
)
def test_parameters_that_are_no_such_numbers_are_refused(override, message):
    with pytest.raises(ValueError, match="env_params") as error:
        make("CartPole-v1", (override,))
    assert message in str(error.value)


def test_a_parameter_is_named_once():
    with pytest.raises(ValueError, match="env_params must name each parameter once, but gravity is there twice"):
        make("CartPole-v1", ("gravity=9.0", "gravity=10.0"))


def test_parameters_that_are_flags_are_true_or_false():
    known = {f"{name}.{field}": x for name in ("DeepSea-bsuite",) for field, x in vars(gymnax.make(name)[1]).items()}
    assert known["DeepSea-bsuite.deterministic"] is True
    for text, expected in (("false", False), ("0", False), ("True", True)):
        assert make("DeepSea-bsuite", (f"deterministic={text}",)).params.deterministic is expected
    with pytest.raises(ValueError, match="deterministic must be true or false, but it is 'no'"):
        make("DeepSea-bsuite", ("deterministic=no",))


def test_a_limit_that_is_a_float_is_a_number_of_at_least_one():
    assert make("BernoulliBandit-misc", ("max_steps_in_episode=7",)).params.max_steps_in_episode == 7
    with pytest.raises(ValueError, match="max_steps_in_episode must be"):
        make("BernoulliBandit-misc", ("max_steps_in_episode=0",))


def constructed(backend="generalized", frames=4, noise=0.5, walls=True, generator=None, *, kind="soft"):
    """A constructor as suites have them."""


def test_arguments_of_a_function_that_texts_can_name_are_those_with_simple_defaults():
    known = defaults_of(constructed)
    assert known == {"backend": "generalized", "frames": 4, "noise": 0.5, "walls": True, "kind": "soft"}
    given = changes(known, ("backend=spring", "frames=2", "noise=1e-3", "walls=false"), {"backend": ("spring", "mjx")})
    assert given == {"backend": "spring", "frames": 2, "noise": 1e-3, "walls": False}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backend=sprig", "env_params: backend must be one of spring, mjx, but it is 'sprig'."),
        ("kind=", "env_params: kind must be a word, but it is ''."),
        ("frame=2", "env_params must be NAME=VALUE with NAME one of backend, frames, noise, walls, kind, but one is"),
        ("frames=spring", "env_params: frames must be a whole number"),
    ],
)
def test_words_are_among_those_that_are_allowed(override, message):
    with pytest.raises(ValueError, match="env_params") as error:
        changes(defaults_of(constructed), (override,), {"backend": ("spring", "mjx")})
    assert message in str(error.value)


@dataclasses.dataclass
class Settings:
    limit: int = 3
    kind: str = "soft"
    angles: tuple = (None, None)


def test_a_field_of_a_dataclass_may_be_a_word():
    assert overridden(Settings(), ("kind=hard",)) == Settings(kind="hard")
    assert scalars_of(Settings()) == {"limit": 3, "kind": "soft"}
