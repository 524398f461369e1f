"""`isjax envs`."""

import pytest

from isjax.cli import main
from isjax.environments import registry as by_name
from tests.environments.test_registry import forget, own  # noqa: F401


def lines(capsys, *argv):
    assert main(["envs", *argv]) == 0
    found = capsys.readouterr().out.splitlines()
    assert max(map(len, found)) < 80
    return found


def test_without_a_name_every_suite_has_a_line_with_an_id_or_what_installs_it(capsys, monkeypatch):
    monkeypatch.setattr(by_name, "is_installed", lambda suite: suite in ("gymnax", "brax"))
    found = lines(capsys)
    assert found[0].split() == ["gymnax", "such", "as", "--env", "CartPole-v1"]
    assert "brax        such as --env brax/inverted_pendulum" in found
    assert "craftax     pip install 'isjax[craftax]'" in found


def test_a_suite_of_ones_own_lists_what_each_environment_is(own, capsys):  # noqa: F811
    title, head, *rows = lines(capsys, f"{own}:own-walks")
    assert title == "own_walks:own-walks: 2 environments, --env own_walks:own-walks/ID"
    assert head.split() == ["id", "observation", "actions", "limit", "settings"]
    assert [row.split() for row in rows] == [
        ["Hike-v0", "float32", "[1]", "2", "6", "general"],
        ["Walk-v0", "float32", "[1]", "2", "6", "general"],
    ]


def test_an_environment_lists_its_parameters(own, capsys):  # noqa: F811
    found = lines(capsys, "CartPole-v1")
    assert found[:5] == [
        "CartPole-v1",
        "  observation  float32 [4]",
        "  actions      2",
        "  limit        500",
        "  settings     tuned",
    ]
    assert "    gravity=9.8" in found
    assert "    goal=3" in lines(capsys, f"{own}:own-walk")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Catpole-v1", "did you mean CartPole-v1"),
        ("brx/ant", "env must be of a registered suite, but it is 'brx/ant'; did you mean brax"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(name, said, capsys):
    assert main(["envs", name]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_suite_that_is_not_installed_is_answered_with_what_installs_it(capsys, monkeypatch):
    monkeypatch.setattr(by_name, "is_installed", lambda suite: False)
    assert main(["envs", "navix"]) == 2
    said = capsys.readouterr().err
    assert (
        said
        == "isjax envs: error: suite must be one that is installed, but it is 'navix': pip install 'isjax[navix]'.\n"
    )
