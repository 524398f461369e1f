"""The policy of one learner in a folder of its own: saved, loaded to act, and drawn at work."""

import dataclasses
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from isjax._renamed import present
from isjax.learner import Config, Hyper, make_learner
from isjax.learner.algorithms import algorithms
from isjax.learner.evaluation import has_legal_action, longest
from isjax.learner.learner import make_agent
from isjax.learner.unroll import step_and_reset
from isjax.randomness import Domain, stream
from isjax.run.files import read_json, replacing, write_json
from isjax.run.plan import number_as_json

SETTINGS, PARAMS, EPISODE = "settings.json", "params.npz", "episode"
FRAMES = 500
"""Steps of an episode that are drawn, at most."""


class Policy(NamedTuple):
    """A learner's policy, ready to act."""

    agent: Any
    state: Any
    """A `LearnerState` that has come out of training."""

    def memory(self, batch: int) -> Any:
        """An empty memory for `batch` environments; `()` for a network without one."""
        return self.agent.memory(batch)

    def act(self, observation: Any, memory: Any = (), key: jax.Array | None = None) -> tuple[jax.Array, Any]:
        """Actions `[B, ...]` for observations `[B, ...]`, as the environment takes them, and the memory after them.

        The most likely actions, or sampled ones where a key is given.
        """
        actions = self.agent.adapter.actions
        params, memory = self.agent.policy(self.state, observation, memory)
        if key is None:
            return actions.execute(actions.mode(params)), memory
        noise = actions.noise(key, params.shape[:1])
        return actions.execute(actions.sample(params, noise)), memory


def save(folder: Path, config: Config, state: Any, run: dict[str, Any]) -> None:
    """Writes a learner's parameters, its settings, and what is known of the run that it comes from."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: getattr(state, name) for name in _parts(config)}
    named = {_name(path): np.asarray(x) for path, x in jax.tree.leaves_with_path(arrays)}
    with replacing(folder / PARAMS) as file:
        np.savez(file, **named)  # type: ignore[arg-type]
    hyper = {name: number_as_json(float(x)) for name, x in vars(state.hyper).items()}
    write_json(folder / SETTINGS, {"config": dataclasses.asdict(config), "hyper": hyper} | run)


def load(folder: str | Path) -> Policy:
    """The policy that `isjax best` saved.

    Raises:
      ValueError: the folder holds none.

    Example:
      `action, memory = load("runs/many/best").act(observation)`
    """
    folder = Path(folder)
    saved = read_json(folder / SETTINGS)
    config = Config(**present(saved["config"]))
    # Infinity is a word, and was null in version 0.1.
    hyper = Hyper(**{name: math.inf if x is None else float(x) for name, x in saved["hyper"].items()}).as_arrays()
    like = jax.eval_shape(make_learner(config).init, jax.random.key(0), hyper)
    part = {name: getattr(like, name) for name in _parts(config)}
    try:
        with np.load(folder / PARAMS) as file:
            part = jax.tree.map_with_path(lambda path, x: jnp.asarray(file[_name(path)], x.dtype), part)
    except KeyError as error:
        raise ValueError(f"{folder / PARAMS} was written by another version of isjax: {error.args[0]}.") from error
    return Policy(make_agent(config), dataclasses.replace(like, hyper=hyper, **part))


def _parts(config: Config) -> tuple[str, ...]:
    """The fields of a learner's state that its policy follows from."""
    has_action_values = algorithms.get(config.algorithm).has_action_values
    return ("params", "observation_moments", *(("algorithm",) if has_action_values else ()))


class Episode(NamedTuple):
    """One episode, played with the most likely actions."""

    states: list[Any]
    rewards: np.ndarray
    finished: bool
    """False where it was given up."""


class NotDrawn(Exception):
    """What the environment, or a library that it draws with, lacks."""


def draw(policy: Policy, key: jax.Array, folder: Path) -> str:
    """Draws an episode with the environment's own pictures; returns a line about it."""
    played = player(policy.agent)(policy.state, key)
    try:
        path = film(policy.agent.adapter, played, folder / EPISODE)
    except NotDrawn as error:
        return f"{read_json(folder / SETTINGS)['config']['env']} cannot be drawn here: {error}"
    cut = f", its first {FRAMES} steps" if len(played.states) > FRAMES else ""
    end = "" if played.finished else ", given up without an end,"
    return f"An episode of {len(played.states):,} steps{end} with return {played.rewards.sum():.4g}{cut}: {path}"


def film(adapter: Any, played: Episode, path: Path) -> Path:
    """Draws the first `FRAMES` steps of an episode to `path`, which gets the ending of what was drawn.

    Raises:
      NotDrawn: it cannot be drawn here.
    """
    import matplotlib

    matplotlib.use("Agg")
    states, returns = played.states[:FRAMES], np.cumsum(played.rewards)[:FRAMES]
    try:
        with tempfile.TemporaryDirectory() as place:
            asked = Path(place) / f"{path.name}.gif"
            adapter.draw(states, returns, asked)
            drawn = next(Path(place).iterdir(), asked)
            path = path.with_name(path.name + drawn.suffix)
            with replacing(path) as file:
                file.write(drawn.read_bytes())
    except Exception as error:
        raise NotDrawn(f"{error.__context__ or error}".partition("\n")[0]) from error
    return path


def player(agent: Any) -> Callable[[Any, jax.Array], Episode]:
    """`(state, key) → Episode` of any `LearnerState` of an agent, compiled once."""
    adapter = agent.adapter
    one = lambda tree: jax.tree.map(lambda x: x[None], tree)  # noqa: E731
    reset = jax.jit(adapter.reset)

    @jax.jit
    def step(learner, observation, state, memory, key):
        action, memory = Policy(agent, learner).act(one(observation), memory)
        here = None if adapter.resets_itself else (observation, state)
        after, (observation, state) = step_and_reset(adapter, key, state, action[0], here)
        return observation, state, memory, after.reward, after.ended

    def play(learner: Any, key: jax.Array) -> Episode:
        observation, state = reset(stream(key, Domain.EPISODE_RESETS))
        step_key = stream(key, Domain.EPISODE_STEPS)
        states, rewards, memory, ended = [], [], agent.memory(1), False
        for t in range(longest(adapter)):
            if not np.all(has_legal_action(adapter, one(observation))):
                break
            states.append(jax.device_get(state))
            step_t = jax.random.fold_in(step_key, t)
            observation, state, memory, reward, ended = step(learner, observation, state, memory, step_t)
            rewards.append(float(reward))
            if ended:
                break
        return Episode(states, np.asarray(rewards), bool(ended))

    return play


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
