"""Each suite's own facts: how episodes end, and what the value of their last state is.

Suites that are not installed are skipped; `pip install -e '.[suites]'` installs all of them, `.ci/suites` five.
"""

import base64
import importlib.util
import json
import re
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from isjax.environments import make
from isjax.environments import registry as by_name
from isjax.environments.adapter import adapt
from isjax.environments.limits import Limited
from isjax.learner import Config
from isjax.learner.agent import Agent
from isjax.learner.algorithms import Algorithm
from isjax.learner.unroll import act, reset_actors

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def as_other_packages_have_it():
    """They promote ranks, and warn of much."""
    with jax.numpy_rank_promotion("allow"):
        yield


def needs(suite):
    """Skips a test where a suite's packages are not there."""
    missing = not by_name.is_installed(suite)
    return pytest.mark.skipif(missing, reason=f"{suite} is not installed: {by_name.install_command(suite)}")


def value_of_features(features):
    """A number that nearly no two observations share."""
    flat = features.reshape(features.shape[0], -1)
    return flat @ jnp.sin(jnp.arange(1.0, flat.shape[1] + 1.0))


class FixedValue(NamedTuple):
    """A network that learns nothing and has no preferences."""

    num_params: int

    def init(self, key, features):
        return {}

    def apply(self, params, features):
        return jnp.zeros((features.shape[0], self.num_params)), value_of_features(features)


class Played(NamedTuple):
    unroll: tuple
    v_t: np.ndarray
    """`[T, B]`, of the state actually reached."""
    value_of: callable
    """The value of one observation."""


def play(environment, actions, change=lambda state: state):
    """Actions `[T, B, ...]` one after another, in episodes that start from `change` of a reset's state."""
    adapter = adapt(environment)
    rows, envs = actions.shape[:2]
    config = Config(num_envs=envs, unroll_length=rows, resets_per_unroll=1)
    agent = Agent(adapter, FixedValue(adapter.actions.num_params), Algorithm(config))
    start = jax.jit(lambda key: reset_actors(adapter, envs, key, jnp.zeros(envs, jnp.int32)))
    actors = start(jax.random.key(0))
    actors = actors._replace(state=change(actors.state))

    def policy(observation, memory):
        chosen = jnp.asarray(actions)[jnp.minimum(memory, rows - 1), jnp.arange(envs)]
        if actions.dtype == np.float32:  # far from 0 in tanh, and nearly without noise
            return jnp.concatenate([chosen, jnp.full_like(chosen, -9.0)], axis=-1), memory + 1
        logits = jax.nn.one_hot(chosen, adapter.actions.num_params // max(chosen[0].size, 1)) * 1e6
        return logits.reshape(envs, -1), memory + 1

    @jax.jit
    def run(actors):
        unroll = act(adapter, config, policy, actors, jax.random.key(1))[0]
        return unroll, agent.forward_unroll({}, None, unroll).v_t

    def value_of(observation):
        features = adapter.encode(jax.tree.map(lambda x: jnp.asarray(x)[None], observation))
        return float(value_of_features(features)[0])

    unroll, v_t = run(actors)
    return Played(jax.tree.map(np.asarray, unroll), np.asarray(v_t), value_of), actors


def ends(played, env):
    """`(rows that terminate, rows that are cut)` of one environment."""
    unroll = played.unroll
    return np.flatnonzero(unroll.terminated_t[:, env]).tolist(), np.flatnonzero(unroll.truncated_t[:, env]).tolist()


def assert_bootstraps_from(played, row, env, final_observation):
    """The value of a cut is that of the observation reached, not of the one that the next episode starts with."""
    unroll = played.unroll
    start = jax.tree.map(lambda x: x[row + 1, env], unroll.observation_tm1)
    np.testing.assert_allclose(played.v_t[row, env], played.value_of(final_observation), rtol=1e-3, atol=1e-4)
    assert abs(played.value_of(start) - played.v_t[row, env]) > 1e-3


@needs("craftax")
def test_craftax_tells_death_from_the_time_limit():
    environment = make("craftax/Craftax-Classic-Symbolic-v1", ("max_timesteps=3",))

    def kill_the_first(limited):
        health = limited.state.player_health
        return limited._replace(state=limited.state.replace(player_health=health.at[0].set(-5)))

    played, _ = play(environment, np.zeros((4, 2), np.int32), kill_the_first)
    assert ends(played, 0)[0] == [0]
    assert ends(played, 1) == ([], [2])
    cut = played.unroll.cut_observation[played.unroll.cut_slot_t[2, 1], 1]
    assert_bootstraps_from(played, 2, 1, cut)
    last_seen = played.unroll.observation_tm1[2, 1]
    new_world = played.unroll.observation_tm1[3, 1]
    assert np.abs(cut - last_seen).sum() < np.abs(cut - new_world).sum()


@needs("brax")
def test_brax_tells_a_fall_from_the_time_limit():
    """Neither of the two is stepped as brax's own wrappers would: these lose the final observation."""
    environment = make("brax/inverted_pendulum", ("backend=spring", "episode_length=6"))
    actions = np.zeros((20, 2, 1), np.float32)
    actions[:, 0] = 4.0
    played, actors = play(environment, actions, lambda x: Limited(x.state, x.steps.at[0].set(-100)))
    terminated, truncated = ends(played, 0)
    assert len(terminated) > 0
    assert all(row > terminated[0] for row in truncated)  # of later episodes, whose steps were not set back
    assert ends(played, 1)[1][:2] == [5, 11]
    state = jax.tree.map(lambda x: x[1], actors.state.state)
    step = jax.jit(environment.inner.step)
    for action in np.tanh(played.unroll.action_tm1[:6, 1]):
        state = step(state, action)
    assert_bootstraps_from(played, 5, 1, state.obs)
    tilt = np.abs(played.unroll.observation_tm1[terminated[0], 0, 1])
    assert tilt < 0.2


@needs("jumanji")
def test_jumanji_s_snake_ends_at_a_wall():
    played, _ = play(make("jumanji/Snake-v1"), np.zeros((13, 1), np.int32))
    terminated, truncated = ends(played, 0)
    assert len(terminated) >= 1
    assert truncated == []


@needs("jumanji")
def test_jumanji_cuts_where_it_says_that_more_could_be_gained():
    environment = make("jumanji/LevelBasedForaging-v0", ("time_limit=3",))
    played, actors = play(environment, np.zeros((4, 1, 2), np.int32))
    assert ends(played, 0) == ([], [2])
    state = jax.tree.map(lambda x: x[0], actors.state)
    for _ in range(3):
        state, timestep = jax.jit(environment.inner.step)(state, jnp.zeros(2, jnp.int32))
    assert timestep.discount.max() == 1.0
    seen = {name: getattr(timestep.observation, name) for name in (*environment.parts, "action_mask")}
    assert_bootstraps_from(played, 2, 0, seen)


@needs("navix")
def test_navix_tells_the_goal_from_the_time_limit():
    environment = make("navix/Navix-Empty-5x5-v0", ("max_steps=7",))
    forward, right = 2, 1
    actions = np.full((8, 2), right, np.int32)
    actions[:5, 0] = [forward, forward, right, forward, forward]
    played, actors = play(environment, actions)
    assert ends(played, 0)[0][:1] == [4]
    assert played.unroll.r_t[4, 0] == 1.0
    assert ends(played, 1) == ([], [6])
    state = jax.tree.map(lambda x: x[1], actors.state)
    for _ in range(7):
        state = jax.jit(environment.inner.step)(state, right)
    assert state.is_truncation()
    assert_bootstraps_from(played, 6, 1, state.observation)


@needs("navix")
def test_navix_s_player_is_among_the_features():
    """navix says that there are nine kinds of things, and its player is number ten."""
    adapter = adapt(make("navix/Navix-Empty-5x5-v0"))
    features = adapter.encode(jax.vmap(adapter.reset)(jax.random.split(jax.random.key(0), 1))[0])
    np.testing.assert_array_equal(features.reshape(-1, 11).sum(axis=1), 1.0)


@needs("pgx")
def test_pgx_s_breakout_is_over_when_the_ball_is_lost():
    played, _ = play(make("pgx/minatar-breakout"), np.zeros((40, 1), np.int32))
    terminated, truncated = ends(played, 0)
    assert len(terminated) >= 1
    assert truncated == []


@needs("pgx")
def test_pgx_s_freeway_is_cut_by_its_clock():
    environment = make("pgx/minatar-freeway")

    def late(limited):
        clock = jnp.full_like(limited.state._terminate_timer, 1)
        return Limited(limited.state.replace(_terminate_timer=clock), jnp.full_like(limited.steps, 2499))

    played, _ = play(environment, np.zeros((3, 1), np.int32), late)
    assert ends(played, 0) == ([], [1])
    assert_bootstraps_from(played, 1, 0, played.unroll.cut_observation[played.unroll.cut_slot_t[1, 0], 0])


@needs("xminigrid")
def test_xminigrid_tells_the_goal_from_the_time_limit():
    environment = make("xminigrid/MiniGrid-Empty-5x5", ("max_steps=7",))
    forward, right = 0, 1
    actions = np.full((8, 2), right, np.int32)
    actions[:5, 0] = [forward, forward, right, forward, forward]
    played, actors = play(environment, actions)
    assert ends(played, 0)[0][:1] == [4]
    assert played.unroll.r_t[4, 0] == pytest.approx(1.0 - 0.9 * 5 / 7)
    assert ends(played, 1) == ([], [6])
    state, step = jax.tree.map(lambda x: x[1], actors.state), jax.jit(environment.inner.step)
    for _ in range(7):
        state = step(environment.params, state, right)
    assert state.last()
    assert state.discount == 1.0
    assert_bootstraps_from(played, 6, 1, state.observation)


@needs("playground")
def test_playground_tells_what_has_diverged_from_the_time_limit():
    """Of the tasks whose models come with it, none ends in another way; robots that fall are downloaded."""
    environment = make("playground/CartpoleBalance", ("episode_length=3",))

    def break_the_first(limited):
        data = limited.state.data
        return limited._replace(state=limited.state.replace(data=data.replace(qvel=data.qvel.at[0].set(jnp.nan))))

    played, actors = play(environment, np.zeros((4, 2, 1), np.float32), break_the_first)
    assert ends(played, 0)[0][:1] == [0]
    assert ends(played, 1) == ([], [2])
    state, step = jax.tree.map(lambda x: x[1], actors.state.state), jax.jit(environment.inner.step)
    for action in np.tanh(played.unroll.action_tm1[:3, 1]):
        state = step(state, action)
    assert_bootstraps_from(played, 2, 1, state.obs)


def frames_of(path):
    """How many frames a picture has."""
    if path.suffix == ".gif":
        with Image.open(path) as film:
            return film.n_frames
    if path.suffix == ".svg":
        return path.read_text().count('class="frame"')
    (packed,) = re.findall(r'var system = "(.*)"', path.read_text())
    return len(json.loads(zlib.decompress(base64.b64decode(packed)))["states"]["x"])


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("brax/inverted_pendulum", "html"),
        ("jumanji/Game2048-v1", "gif"),
        ("navix/Navix-DoorKey-5x5-v0", "gif"),
        ("pgx/2048", "svg"),
        ("pgx/minatar-freeway", "gif"),
        ("xminigrid/MiniGrid-DoorKey-5x5", "gif"),
    ],
)
def test_a_suite_draws_its_states(name, ending, tmp_path):
    if not by_name.is_installed(name.partition("/")[0]):
        pytest.skip("its suite is not installed")
    environment = make(name)
    reset = jax.jit(environment.reset)
    states = [jax.device_get(reset(jax.random.key(seed))[1]) for seed in range(3)]
    environment.draw(states, np.zeros(3), tmp_path / "episode.gif")
    (drawn,) = tmp_path.iterdir()
    assert drawn.name == f"episode.{ending}"
    assert frames_of(drawn) == 3


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("jumanji/Snke-v1", "did you mean jumanji/Snake-v1"),
        ("pgx/chess", "env must be one of 2048, .*, but it is 'pgx/chess', a game of several players"),
        ("brax/inverted_pendulm", "did you mean brax/inverted_pendulum"),
    ],
)
def test_unknown_ids_are_answered_with_near_ones(name, match):
    if importlib.util.find_spec(name.partition("/")[0]) is None:
        pytest.skip(f"{name.partition('/')[0]} is not installed")
    with pytest.raises(ValueError, match=match):
        make(name)


@needs("brax")
@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("backend=sprig", "backend must be one of generalized, positional, spring, mjx, but it is 'sprig'"),
        ("backed=spring", "env_params must be NAME=VALUE with NAME one of backend, episode_length"),
        ("episode_length=0", "episode_length must be a whole number from 1"),
    ],
)
def test_parameters_may_be_words(override, match):
    with pytest.raises(ValueError, match=match):
        make("brax/inverted_pendulum", (override,))


@needs("jumanji")
def test_an_action_of_many_combinations_is_one_index_with_a_flat_mask():
    """A Tetris piece is turned 4 ways and falls into one of 10 columns; a legal one fills four cells."""
    environment = make("jumanji/Tetris-v0")
    observation, state = environment.reset(jax.random.key(0))
    assert environment.action_space.n == 40
    np.testing.assert_array_equal(observation["action_mask"].reshape(4, 10), state.action_mask)
    action = 13  # turned once, column 3
    assert observation["action_mask"][action]
    after = jax.jit(environment.step)(jax.random.key(1), state, jnp.int32(action))
    expected, _ = jax.jit(environment.inner.step)(state, jnp.array([1, 3]))
    np.testing.assert_array_equal(after.state.grid_padded, expected.grid_padded)


@needs("jumanji")
def test_one_part_of_an_observation_can_be_seen_alone():
    environment = make("jumanji/Snake-v1", ("observe=grid",))
    observation = jax.eval_shape(environment.reset, jax.random.key(0))[0]
    assert set(observation) == {"grid", "action_mask"}
    with pytest.raises(ValueError, match="env_params must be one of everything, grid, step_count as observe"):
        make("jumanji/Snake-v1", ("observe=gird",))
