"""The policy of one learner in a folder of its own: saved, loaded to act, and drawn at work."""

import dataclasses
import tempfile
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
    hyper = {name: float(x) for name, x in vars(state.hyper).items()}
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
    like = jax.eval_shape(make_learner(config).init, jax.random.key(0), Hyper(**saved["hyper"]))
    part = {name: getattr(like, name) for name in _parts(config)}
    try:
        with np.load(folder / PARAMS) as file:
            part = jax.tree.map_with_path(lambda path, x: jnp.asarray(file[_name(path)], x.dtype), part)
    except KeyError as error:
        raise ValueError(f"{folder / PARAMS} was written by another version of isjax: {error.args[0]}.") from error
    return Policy(make_agent(config), dataclasses.replace(like, hyper=Hyper(**saved["hyper"]).as_arrays(), **part))


def _parts(config: Config) -> tuple[str, ...]:
    """The fields of a learner's state that its policy follows from."""
    has_action_values = algorithms.get(config.algorithm).has_action_values
    return ("params", "observation_moments", *(("algorithm",) if has_action_values else ()))


def draw(policy: Policy, key: jax.Array, folder: Path) -> str:
    """Draws an episode with the environment's own pictures; returns a line about it."""
    import matplotlib

    matplotlib.use("Agg")
    config = read_json(folder / SETTINGS)["config"]
    states, rewards, finished = episode(policy, key)
    path = folder / f"{EPISODE}.gif"
    try:
        with tempfile.TemporaryDirectory() as place, replacing(path) as file:
            drawn = Path(place) / path.name
            policy.agent.adapter.draw(states[:FRAMES], np.cumsum(rewards)[:FRAMES], drawn)
            file.write(drawn.read_bytes())
    except Exception as error:  # whatever the environment and the libraries that it draws with may lack
        reason = f"{error.__context__ or error}".partition("\n")[0]
        return f"{config['env']} cannot be drawn here: {reason}"
    cut = f", its first {FRAMES} steps" if len(states) > FRAMES else ""
    end = "" if finished else ", given up without an end,"
    return f"An episode of {len(states):,} steps{end} with return {rewards.sum():.4g}{cut}: {path}"


def episode(policy: Policy, key: jax.Array) -> tuple[list[Any], np.ndarray, bool]:
    """`(states, rewards, finished)` of one episode with the most likely actions; finished, unless it was given up."""
    adapter = policy.agent.adapter
    observation, state = jax.jit(adapter.reset)(stream(key, Domain.EPISODE_RESETS))
    step_key = stream(key, Domain.EPISODE_STEPS)
    one = lambda tree: jax.tree.map(lambda x: x[None], tree)  # noqa: E731

    @jax.jit
    def step(observation, state, memory, key):
        action, memory = policy.act(one(observation), memory)
        here = None if adapter.resets_itself else (observation, state)
        after, (observation, state) = step_and_reset(adapter, key, state, action[0], here)
        return observation, state, memory, after.reward, after.ended

    states, rewards, memory, ended = [], [], policy.memory(1), False
    for t in range(longest(adapter)):
        if not np.all(has_legal_action(adapter, one(observation))):
            break
        states.append(jax.device_get(state))
        observation, state, memory, reward, ended = step(observation, state, memory, jax.random.fold_in(step_key, t))
        rewards.append(float(reward))
        if ended:
            break
    return states, np.asarray(rewards), bool(ended)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
