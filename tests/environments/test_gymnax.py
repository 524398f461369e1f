import functools

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from isjax.environments import make
from isjax.environments.adapter import adapt
from isjax.environments.distributions import Categorical, Gaussian
from isjax.environments.seaquest import SEAQUEST_ROOM
from isjax.learner import Config, make_learner
from isjax.learner.unroll import step_and_reset
from tests.learner.probes import Duck, Probe, adapted


def _mnist_or_its_refusal(config):
    """The config where the data can be downloaded; elsewhere one clear line says that it cannot."""
    try:
        make(config.env)
    except ValueError:
        with pytest.raises(ValueError, match=r"\Aenv 'MNISTBandit-bsuite' downloads its data, which failed: .*\.\Z"):
            make_learner(config)
        return None
    return config


@pytest.mark.parametrize("env", gymnax.registered_envs)
def test_every_registered_environment_trains(env):
    config = Config(env=env, num_envs=2, unroll_length=3, torso=(8,), evaluation_episodes=2)
    if env == "MNISTBandit-bsuite":
        config = _mnist_or_its_refusal(config)
        if config is None:
            return
    with jax.numpy_rank_promotion("allow"):  # some environments of gymnax rely on it
        learner = make_learner(config)
        state = learner.init(jax.random.key(0))
        update = jax.jit(learner.update)
        for _ in range(2):
            state, metrics = update(state)
    assert metrics["alive"]
    assert metrics["env_steps"] == 12
    assert all(np.isfinite(x) for name, x in metrics.items() if name != "episode_return")


def test_an_unknown_environment_is_answered_with_near_matches():
    with pytest.raises(ValueError, match=r"'CartPol-v1'; did you mean CartPole-v1"):
        make("CartPol-v1")


def test_a_five_value_step_is_refused():
    with pytest.raises(ValueError, match=r"Duck.step must return .* returns 5 values"):
        adapted(Duck(Probe(), five_values=True))


def test_a_step_without_final_observation_is_refused():
    with pytest.raises(ValueError, match=r"final_observation"):
        adapted(Duck(Probe(), drop_final=True))


def test_an_action_space_that_is_neither_discrete_nor_box_is_refused():
    probe = Probe()
    probe.action_space = lambda params=None: gymnax.environments.spaces.Tuple(())
    with pytest.raises(TypeError, match=r"Discrete or Box"):
        adapted(probe)


def test_spaces_become_distributions():
    assert adapt(make("Acrobot-v1")).actions == Categorical(3)
    assert adapt(make("Pendulum-v1"), box_actions="clip").actions == Gaussian((1,), (-2.0,), (2.0,), "clip")


def _actions(space, box_actions="tanh"):
    probe = Probe()
    probe.action_space = lambda params=None: space
    probe.step_env = lambda key, state, action, params: Probe.step_env(probe, key, state, jnp.sum(action), params)
    return adapted(probe, box_actions=box_actions).actions


LARGE = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("low", "high", "shape", "bounds"),
    [
        (-1.0, 1.0, (), ((-1.0,), (1.0,))),
        (-2, 3, (2, 2), ((-2.0,) * 4, (3.0,) * 4)),
        (0.0, np.inf, (1,), ((0.0,), (np.inf,))),
        (-np.inf, np.inf, (3,), (None, None)),
        (-1e300, 1e300, (1,), (None, None)),
        (-LARGE, LARGE, (1,), ((-LARGE,), (LARGE,))),
        (np.array([-1.0, -np.inf]), np.array([1.0, 5.0]), (2,), ((-1.0, -np.inf), (1.0, 5.0))),
        (np.array([[0.0], [1.0]]), 2.0, (2, 3), ((0.0,) * 3 + (1.0,) * 3, (2.0,) * 6)),
    ],
)
def test_bounds_of_a_box_belong_to_its_dimensions(low, high, shape, bounds):
    assert _actions(spaces.Box(low, high, shape)) == Gaussian(shape, *bounds)


class Shifted(spaces.Discrete):
    start = 1


class Binary:
    """As gymnasium has it: n flags."""

    n, shape = 3, (3,)


@pytest.mark.parametrize(
    ("space", "error", "match"),
    [
        (spaces.Box(1.0, -1.0, (2,)), ValueError, "low ≤ high, but in dimension 0 of 2 they are 1 and -1"),
        (spaces.Box(np.array([0.0, np.nan]), 1.0, (2,)), ValueError, "in dimension 1 of 2 they are nan and 1"),
        (
            spaces.Box(np.zeros(3), 1.0, (2,)),
            ValueError,
            r"Bounds of a Box must have its shape, \[2\], but theirs are \[3\]",
        ),
        (spaces.Box(0.0, 1.0, (0,)), ValueError, "at least one dimension"),
        (spaces.Box(0, 3, (1,), jnp.int32), TypeError, "Discrete or Box of real numbers, but it is .*int32"),
        (spaces.Discrete(0), ValueError, "with n ≥ 1, but it is Discrete"),
        (Shifted(3), ValueError, "must be one of {0, …, n − 1}"),
        (Binary(), ValueError, "must be one of {0, …, n − 1}"),
    ],
)
def test_action_spaces_that_cannot_be_acted_in_are_refused(space, error, match):
    with pytest.raises(error, match=match):
        _actions(space)


@pytest.mark.parametrize("box_actions", ["tanh", "clip"])
def test_learners_of_a_mixed_box_live_and_act_within_its_bounds(box_actions):
    """The reward is NaN outside them."""
    low, high = jnp.array([-1.0, 0.0, -LARGE, 2.0]), jnp.array([1.0, np.inf, LARGE, 2.0])

    class Bounded(Probe):
        def action_space(self, params=None):
            return spaces.Box(low, high, (4,))

        def step_env(self, key, state, action, params):
            observation, state, _, terminated, info = super().step_env(key, state, 0, params)
            reward = jnp.where(jnp.all((action >= low) & (action <= high)), -jnp.sum(action[:2] ** 2), jnp.nan)
            return observation, state, reward, terminated, info

    config = Config(num_envs=8, unroll_length=8, torso=(4,), box_actions=box_actions, evaluation_policy="sample")
    learner = make_learner(config, environment=Bounded(2))
    state = learner.init(jax.random.key(0))
    update = jax.jit(learner.update)
    for _ in range(5):
        state, metrics = update(state)
        assert np.isfinite(metrics["loss/total"])
    assert state.alive
    assert np.isfinite(learner.evaluate(state, jax.random.key(1)).episode_return).all()


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


def test_integer_observations_are_one_hot_and_others_are_cast():
    rooms = adapt(make("FourRooms-misc"))
    encoded = rooms.encode(jnp.array([[1, 11, 4, 1]]))
    assert encoded.shape == (1, 4 * 11)
    np.testing.assert_array_equal(np.flatnonzero(encoded), [0, 11 + 10, 22 + 3, 33])
    lake = adapt(make("FrozenLake-misc"))
    np.testing.assert_array_equal(lake.encode(jnp.array([3]))[0], np.eye(16)[3])
    assert adapt(make("Breakout-MinAtar")).encode(jnp.zeros((1, 10, 10, 4))).shape == (1, 10, 10, 4)


@pytest.mark.parametrize("ends", ["terminated", "truncated", "both"])
def test_stepping_onto_drawn_resets_equals_the_step_of_gymnax(ends):
    """The same actions and resets through gymnax's own step and through ours."""
    probe = Probe(3, ends=ends)
    ours, theirs = adapted(probe), adapted(Duck(probe))
    assert not ours.resets_itself
    assert theirs.resets_itself
    _, state = ours.reset(jax.random.key(3))
    state_2 = state
    for t in range(8):
        key = jax.random.fold_in(jax.random.key(7), t)
        fresh = ours.reset(jax.random.split(key)[1])
        step, (observation, state) = step_and_reset(ours, key, state, jnp.int32(0), fresh)
        step_2, (observation_2, state_2) = step_and_reset(theirs, key, state_2, jnp.int32(0), None)
        jax.tree.map(np.testing.assert_array_equal, (observation, state), (observation_2, state_2))
        for one, other in zip(step, step_2, strict=True):
            if one is not step.state and other is not step_2.following:
                jax.tree.map(np.testing.assert_array_equal, one, other)


def test_an_episode_that_terminates_at_its_time_limit_is_terminated_and_not_truncated():
    probe = adapted(Probe(2, ends="both"))
    _, state = probe.reset(jax.random.key(0))
    step = probe.step(jax.random.key(0), state, jnp.int32(0))
    step = probe.step(jax.random.key(0), step.state, jnp.int32(0))
    assert step.terminated
    assert not step.truncated


@functools.cache
def _seaquest(name):
    """Plays 32 boards with random actions, half of them as hard from the start as they can ever become."""
    environment = {"gymnax": gymnax.make("Seaquest-MinAtar")[0], "isjax": make("Seaquest-MinAtar").inner}[name]
    adapter = adapted(environment)
    hardest = jnp.arange(32) % 2 == 1

    @jax.jit
    def play(key, num_actions):
        _, state = jax.vmap(adapter.reset)(jax.random.split(key, 32))
        spawn, move = (jnp.where(hardest, x, y) for x, y in ((1, state.e_spawn_speed), (2, state.move_speed)))
        start = state.replace(e_spawn_speed=spawn, e_spawn_timer=spawn, move_speed=move)
        fresh = jax.vmap(adapter.reset)(jax.random.split(key, 32))[0], start

        def row(state, key):
            action = jax.random.randint(jax.random.fold_in(key, 1), (32,), 0, num_actions)
            step_all = jax.vmap(functools.partial(step_and_reset, adapter))
            step, (observation, now) = step_all(jax.random.split(key, 32), state, action, fresh)
            counts = [now.e_fish_count, now.e_subs_count, now.e_bullet_count, now.divers_count, now.f_bullet_count]
            return now, ((observation, step.reward, step.terminated), jnp.stack(counts))

        return jax.lax.scan(row, start, jax.random.split(key, 300))[1]

    return play


def test_seaquest_is_the_game_of_gymnax():
    """Bit for bit, where shots hit, divers come aboard and episodes end, on easy boards and on the hardest."""
    (observation, reward, terminated), _ = ours = _seaquest("isjax")(jax.random.key(0), 6)
    jax.tree.map(np.testing.assert_array_equal, ours, _seaquest("gymnax")(jax.random.key(0), 6))
    assert reward.sum() > 50
    assert terminated.sum() > 50
    assert bool(jnp.all(jnp.any(observation, (0, 1, 2, 3)))), "every channel was seen"


def test_seaquest_never_fills_its_room():
    """The submarine stays where nothing reaches it, and so does everything else on the board."""
    (_, _, terminated), counts = _seaquest("gymnax")(jax.random.key(1), 1)
    assert not terminated.any()
    most = counts.max((0, 2))
    assert most[:2].sum() > 25, "the board is crowded"
    assert most.max() < SEAQUEST_ROOM
    assert (counts[:, 0] + counts[:, 1]).max() <= 31


def test_seaquest_with_parameters_of_its_own_has_all_the_room_of_gymnax():
    for overrides, room in (((), 32), (("init_spawn_speed=1",), 100)):
        environment = make("Seaquest-MinAtar", overrides)
        assert jax.eval_shape(environment.reset, jax.random.key(0))[1].divers.shape == (room, 4)
