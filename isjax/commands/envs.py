"""`isjax envs`: which environments there are, and what each of them is."""

import dataclasses
import shutil
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro

from isjax.commands.running import run_checked
from isjax.errors import FieldError


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvsFlags:
    """List the suites of environments, the ids of one, or the parameters of one environment.

    A suite that is not installed is named with the command that installs it.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[SUITE|ENV]")] = ""
    """A suite, whose ids are listed, or an environment, whose parameters are."""


class _Row(NamedTuple):
    """What the list says of an environment."""

    id: str
    observation: str
    actions: str
    limit: str
    settings: str


_TITLES = _Row("id", "observation", "actions", "limit", "settings")
_WIDTHS = (18, 13, 7, 8)
"""Of the columns behind the id."""


def main(argv: list[str]) -> int:
    """Runs `isjax envs`."""
    return run_checked(envs, EnvsFlags, argv, prog="isjax envs")


def envs(flags: EnvsFlags) -> None:
    """Prints the list that was asked for; raises `FieldError` for a name that is none."""
    from isjax.environments import registry

    if not flags.name:
        _print_suites()
    elif "/" in flags.name or not _is_suite(flags.name):
        _print_environment(flags.name)
    else:
        if flags.name in registry.BUILT_IN and not registry.is_installed(flags.name):
            value = f"{flags.name!r}: {registry.install_command(flags.name)}"
            raise FieldError("suite", "one that is installed", value)
        _print_ids(flags.name)


def _is_suite(name: str) -> bool:
    """Whether a name, perhaps behind `MODULE:`, is that of a suite."""
    from isjax.environments import registry

    if ":" not in name:
        return name in registry.known_suites()
    try:
        registry.get_suite(name)
    except ValueError:
        return False
    return True


def _print_suites() -> None:
    from isjax.environments import registry

    names = registry.known_suites()
    width = max(map(len, names))
    for name in names:
        if registry.is_installed(name):
            example = registry.EXAMPLES.get(name)
            note = f"such as --env {example}" if example else "of this program"
        else:
            note = registry.install_command(name)
        print(f"{name:<{width}}  {note}")
    for name in registry.environments.names:
        print(f"{name:<{width}}  an environment of its own")
    print("\nisjax envs SUITE lists the ids of a suite, isjax envs ENV what one takes.")


def _print_ids(suite: str) -> None:
    """A line each, as soon as it is known: some suites take seconds to make an environment."""
    from isjax.environments import registry

    family = registry.get_suite(suite)
    prefix = "" if suite == registry.GYMNAX else f"{suite}/"
    ids = sorted(family.ids())
    width = max(map(len, (*ids, _TITLES.id)))
    print(f"{suite}: {len(ids)} environments, --env {prefix}ID")
    _print_row(_TITLES, width)
    for each in ids:
        try:
            _print_row(_row(each, f"{prefix}{each}"), width)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}" if not isinstance(error, FieldError) else str(error.value)
            line = f"{each:<{width}}  {reason}".partition("\n")[0]
            print(line[: max(shutil.get_terminal_size().columns, 80) - 1], flush=True)


def _print_row(row: _Row, width: int) -> None:
    cells = [f"{text:<{size}}" for text, size in zip(row[1:], _WIDTHS, strict=True)]
    print("  ".join([f"{row.id:<{width}}", *cells]).rstrip(), flush=True)


def _print_environment(name: str) -> None:
    from isjax.environments import registry

    row = _row(name, name)
    print(f"{name}\n  observation  {row.observation}\n  actions      {row.actions}\n  limit        {row.limit}")
    print(f"  settings     {row.settings}")
    parameters = registry.parameters(name)
    if parameters:
        print("  parameters, --env-params NAME=VALUE:")
    for key, x in parameters.items():
        print(f"    {key}={x}")


def _row(shown: str, name: str) -> _Row:
    from isjax.environments import make
    from isjax.environments.contract import types_of_reset
    from isjax.environments.encoding import split_mask
    from isjax.environments.spaces import action_distribution
    from isjax.learner.defaults import settings_of

    environment = make(name)
    observation = types_of_reset(environment.name, lambda: environment.reset(jax.random.key(0)))[0]
    seen, mask = split_mask(observation)
    action_distribution(environment.action_space)
    actions = _actions(environment.action_space) + (" masked" if mask is not None else "")
    limit = "none" if environment.max_steps is None else f"{environment.max_steps:,}"
    return _Row(shown, _shapes(seen), actions, limit, settings_of(name))


def _shapes(observation: Any) -> str:
    leaves = jax.tree.leaves(observation)
    if len(leaves) == 1:
        return f"{leaves[0].dtype} {list(leaves[0].shape)}".replace(", ", ",")
    return f"tree of {sum(x.size for x in leaves):,}"


def _actions(space: Any) -> str:
    if hasattr(space, "nvec"):
        counts = np.asarray(space.nvec).ravel().tolist()
        return f"{counts[0]}^{len(counts)}" if len(set(counts)) == 1 else "×".join(map(str, counts))
    return f"{space.n}" if hasattr(space, "n") else f"Box {list(space.shape)}"
