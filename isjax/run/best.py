"""What `isjax best` does: one learner alone, with its settings, a fresh evaluation and a picture of it at work."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from isjax.errors import FieldError
from isjax.run.files import read_json, replacing, write_json

SETTINGS, PARAMS, EPISODE = "settings.json", "params.npz", "episode"
FRAMES = 500
"""Steps of an episode that are drawn, at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestFlags:
    """Save one learner of a run or sweep alone: its parameters and settings.

    It is evaluated again on fresh keys, since the evaluation that chose it flatters it, and an episode is drawn
    where gymnax can.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of a run or sweep."""
    learner: Annotated[str, tyro.conf.arg(metavar="{best,INDEX}")] = "best"
    """The best one alive by its last evaluation, or one by its index in the run."""
    out: Annotated[str, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: RUN/best)")] = ""
    """Where to put it."""
    episodes: int = 128
    """Episodes of the evaluation."""
    seed: int = 0
    """Of the evaluation and of the episode that is drawn."""
    draw: tyro.conf.FlagCreatePairsOff[bool] = False
    """Draw an episode, as an animated GIF."""


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
        params, _, memory = self.agent.step(self.state.params, self.state.observation_moments, observation, memory)
        if key is None:
            return actions.execute(actions.mode(params)), memory
        noise = actions.noise(key, params.shape[:1])
        return actions.execute(actions.sample(params, noise)), memory


def best(flags: BestFlags) -> None:
    """Saves the learner, evaluates it, draws it, and says so.

    Raises:
      ValueError: an argument or the run is not what it has to be; nothing was written.
    """
    from isjax.learner import make_learner
    from isjax.learner.randomness import Domain, stream
    from isjax.run.memory import check_memory
    from isjax.run.restore import open_run
    from isjax.run.sweep import best_group

    if flags.episodes < 1:
        raise FieldError("episodes", "at least 1", flags.episodes)
    if not 0 <= flags.seed < 2**32:
        raise FieldError("seed", "at least 0 and less than 2^32", flags.seed)
    if flags.learner != "best" and not (flags.learner.isascii() and flags.learner.isdigit()):
        raise FieldError("learner", "best or an index", repr(flags.learner))
    folder = best_group(Path(flags.run))
    trained = open_run(folder)
    picked = trained.pick(None if flags.learner == "best" else int(flags.learner))
    config = dataclasses.replace(trained.plan.config, evaluation_episodes=flags.episodes)
    check_memory(
        dataclasses.replace(trained.plan, config=config), jax.devices()[0], names={"evaluation_episodes": "episodes"}
    )
    seed = jax.random.key(flags.seed)
    evaluate_key, draw_key = stream(seed, Domain.FRESH_EVALUATION), stream(seed, Domain.PICTURE)
    evaluation = jax.jit(make_learner(config).evaluate)(picked.state, evaluate_key)
    out = Path(flags.out) if flags.out else Path(flags.run) / "best"
    out.mkdir(parents=True, exist_ok=True)
    found = _settings(trained.plan, folder, picked) | {"evaluation": _described(evaluation, flags, trained, picked)}
    _save(out, picked.state, found)
    print(f"Learner {picked.learner} of {folder}, update {picked.update:,}: {out / PARAMS}, {out / SETTINGS}")
    fresh, chosen = found["evaluation"], found["evaluation"]["chosen_by"]
    was = "" if chosen is None else f"; the evaluation that chose it said {chosen:.4g}"
    print(f"Return of {flags.episodes} fresh episodes: {fresh['mean']:.4g} ± {fresh['standard_error']:.2g}{was}")
    if "given_up" in fresh:
        print(f"Given up: {fresh['given_up']:,} of them, which came to no end; they count as far as they came.")
    if flags.draw:
        print(draw(load(out), draw_key, out))


def load(folder: str | Path) -> Policy:
    """The policy that `isjax best` saved.

    Raises:
      ValueError: the folder holds none.

    Example:
      `action, memory = load("runs/many/best").act(observation)`
    """
    from isjax.learner import Config, Hyper, make_learner
    from isjax.learner.learner import make_agent

    folder = Path(folder)
    saved = read_json(folder / SETTINGS)
    settings: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in saved["config"].items()}
    config = Config(**settings)
    like = jax.eval_shape(make_learner(config).init, jax.random.key(0), Hyper(**saved["hyper"]))
    with np.load(folder / PARAMS) as file:
        part = {"params": like.params, "observation_moments": like.observation_moments}
        part = jax.tree.map_with_path(lambda path, x: jnp.asarray(file[_name(path)], x.dtype), part)
    return Policy(make_agent(config), dataclasses.replace(like, **part))


def draw(policy: Policy, key: jax.Array, folder: Path) -> str:
    """Draws an episode with gymnax's own pictures; returns a line about it."""
    import matplotlib

    from isjax.learner.environments import animate

    matplotlib.use("Agg")
    config = read_json(folder / SETTINGS)["config"]
    states, rewards, finished = episode(policy, key)
    path = folder / f"{EPISODE}.gif"
    try:
        with tempfile.TemporaryDirectory() as place, replacing(path) as file:
            drawn = Path(place) / path.name
            animate(config["env"], tuple(config["env_params"]), states[:FRAMES], np.cumsum(rewards)[:FRAMES], drawn)
            file.write(drawn.read_bytes())
    except Exception as error:  # whatever gymnax and the libraries that it draws with may lack
        reason = f"{error.__context__ or error}".partition("\n")[0]
        return f"gymnax cannot draw {config['env']} here: {reason}"
    cut = f", its first {FRAMES} steps" if len(states) > FRAMES else ""
    end = "" if finished else ", given up without an end,"
    return f"An episode of {len(states):,} steps{end} with return {rewards.sum():.4g}{cut}: {path}"


def episode(policy: Policy, key: jax.Array) -> tuple[list[Any], np.ndarray, bool]:
    """`(states, rewards, finished)` of one episode with the most likely actions; finished, unless it was given up."""
    from isjax.learner.evaluation import has_legal_action, longest
    from isjax.learner.randomness import Domain, stream

    adapter = policy.agent.adapter
    observation, state = jax.jit(adapter.reset)(stream(key, Domain.EPISODE_RESETS))
    step_key = stream(key, Domain.EPISODE_STEPS)
    one = lambda tree: jax.tree.map(lambda x: x[None], tree)  # noqa: E731

    @jax.jit
    def step(observation, state, memory, key):
        action, memory = policy.act(one(observation), memory)
        fresh = (observation, state) if adapter.takes_fresh else None
        after = adapter.step(key, state, action[0], fresh)
        return after.observation, after.state, memory, after.reward, after.terminated | after.truncated

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


def _settings(plan: Any, folder: Path, picked: Any) -> dict[str, Any]:
    hyper = {name: float(x) for name, x in vars(picked.state.hyper).items()}
    config = plan.as_json()["config"]
    return {"config": config, "hyper": hyper, "run": str(folder), "learner": picked.learner, "update": picked.update}


def _described(evaluation: Any, flags: BestFlags, trained: Any, picked: Any) -> dict[str, Any]:
    returns = np.asarray(evaluation.episode_return, np.float64)
    error = returns.std(ddof=1) / np.sqrt(len(returns)) if len(returns) > 1 else np.nan
    given_up = int(np.sum(~np.asarray(evaluation.finished)))
    chosen = trained.tally.last_scores[picked.learner]
    return {
        "episodes": flags.episodes,
        "seed": flags.seed,
        "mean": returns.mean(),
        "standard_error": error,
        "chosen_by": float(chosen) if np.isfinite(chosen) else None,
    } | ({"given_up": given_up} if given_up else {})


def _save(out: Path, state: Any, found: dict[str, Any]) -> None:
    arrays = {"params": state.params, "observation_moments": state.observation_moments}
    named = {_name(path): np.asarray(x) for path, x in jax.tree.leaves_with_path(arrays)}
    with replacing(out / PARAMS) as file:
        np.savez(file, **named)  # type: ignore[arg-type]
    write_json(out / SETTINGS, found)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
