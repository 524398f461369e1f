"""The losses of docs/callers: with compat.rlax as with rlax, and right at time limits by the two lines that say so.

The witness at a cut is the same loss, with rlax itself and without these lines, of each episode alone.
"""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.peers import rlax

pytestmark = pytest.mark.filterwarnings("ignore:Rlax :PendingDeprecationWarning")

FOLDER = Path(__file__).parents[2] / "docs" / "callers"
STATES, ACTIONS, DISCOUNT = 6, 3, 0.99


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CALLERS = {path.stem: load(path.stem) for path in sorted(FOLDER.glob("*.py")) if path.stem != "tunix_loss"}
"""All but that of test_tunix.py, which needs a Tunix."""


def network(params, obs):
    """A table."""
    return jnp.asarray(params["logits"])[obs], jnp.asarray(params["v"])[obs]


def tables(seed):
    rng = np.random.default_rng(seed)
    return {"logits": rng.normal(size=(STATES, ACTIONS)), "v": rng.normal(size=STATES)}


MU = tables(1)["logits"]
"""Logits of the policy that acted."""
REWARD = np.random.default_rng(2).normal(size=STATES)
"""Of every state: whatever the action, the next state follows, in a circle."""
CIRCLE = DISCOUNT * np.roll(np.eye(STATES), 1, axis=1)
LEAVING = np.linalg.solve(np.eye(STATES) - CIRCLE, REWARD)
"""Values that are right where a state's reward is paid for leaving it, or came with it."""


def episode(start, steps):
    """`steps + 1` states, the last one final."""
    state = np.arange(start, start + steps + 1) % STATES
    action = np.random.default_rng(start).integers(0, ACTIONS, steps + 1)
    return SimpleNamespace(state=state, action=action)


A, B = episode(0, 3), episode(2, 2)
"""A time limit cut A, after which B began."""


def join(*rows, drop=0):
    """Fields of entries, one episode after another."""
    return [np.concatenate([getattr(e, field)[: len(e.state) - drop] for e in rows]) for field in ("state", "action")]


def flag(length, *places):
    return np.isin(np.arange(length), places)


# Each caller: the cut stream and another, one batch; and the episodes alone, each with its number of steps.


def cleanba(*episodes):
    state, action = join(*episodes)
    first = np.cumsum([0, *(len(e.state) for e in episodes)])[:-1]
    cut = flag(len(state), *(first[1:] - 1))
    reward = np.where(flag(len(state), *first), 0.0, REWARD[state])
    return CALLERS["cleanba"].Storage(state, action, MU[state], reward, cut, cut, flag(len(state), *first))


def acme(*episodes):
    state, action = join(*episodes)
    first = np.cumsum([0, *(len(e.state) for e in episodes)])[:-1]
    final = flag(len(state), *(first[1:] - 1))
    action, reward = np.where(final, 0, action), np.where(final, 0.0, REWARD[state])
    logits = np.where(final[:, None], 0.0, MU[state])
    return CALLERS["acme"].Sequence(state, action, reward, np.where(final, 0.0, 1.0), flag(len(state), *first), logits)


def steps(*episodes):
    """Entries of steps alone, `[T]`: states, states reached, actions, rewards, and where a time limit cut."""
    state, action = join(*episodes, drop=1)
    after = np.concatenate([e.state[1:] for e in episodes])
    ends = np.cumsum([len(e.state) - 1 for e in episodes]) - 1
    return state, after, action, REWARD[state], flag(len(state), *ends[:-1])


def log_mu(state, action):
    return MU[state, action] - np.log(np.sum(np.exp(MU[state]), axis=-1))


def stoix(*episodes):
    state, after, action, reward, cut = steps(*episodes)
    return CALLERS["stoix"].Transitions(state, after, action, reward, False & cut, cut, log_mu(state, action))


def open_spiel_ppo(params, *episodes):
    state, after, action, reward, cut = steps(*episodes)
    first = np.concatenate([[True], cut[:-1]])
    v, legal = params["v"], np.ones((len(state), ACTIONS), bool)
    last, logprob = v[episodes[-1].state[-1]], log_mu(state, action)
    return CALLERS["open_spiel_ppo"].Rollout(
        state, legal, action, logprob, reward, first, v[state], last, np.array(False), cut, v[after]
    )


def cleanrl_ppo(params, *episodes):
    state, after, _, reward, cut = steps(*episodes)
    v = params["v"]
    last, final = v[episodes[-1].state[-1]], np.where(cut, v[after], np.nan)
    return CALLERS["cleanrl_ppo"].Rollout(reward, v[state], cut, last, cut, final)


def batch(*streams):
    """Streams side by side: `[T, B]`, and `[B]` what each has once."""
    return jax.tree.map(lambda *x: jnp.stack([jnp.asarray(y) for y in x], axis=min(np.ndim(x[0]), 1)), *streams)


def cleanba_loss(params, streams, right):
    data = batch(*(cleanba(*s) for s in streams))
    return CALLERS["cleanba"].impala_loss(network, params, data, right_at_time_limits=right)


def acme_loss(params, streams, right):
    """Every step counts once, and the mean is one over entries, all of the same sequence."""

    def one(s):
        data = jax.tree.map(jnp.asarray, acme(*s))
        return (len(data.reward) - 1) * CALLERS["acme"].impala_loss(network, params, data, right_at_time_limits=right)

    return sum(map(one, streams))


def stoix_loss(params, streams, right):
    data = batch(*(stoix(*s) for s in streams))
    actor, critic = (lambda p, obs: network(p, obs)[0]), (lambda p, obs: network(p, obs)[1])
    last = jnp.array([s[-1].state[-1] for s in streams])
    losses = CALLERS["stoix"].impala_losses(actor, critic, (params, params), data, last, right_at_time_limits=right)
    return sum(losses) * data.reward.size


def ppo_advantages(name, params, streams, right):
    make = {"open_spiel_ppo": open_spiel_ppo, "cleanrl_ppo": cleanrl_ppo}[name]
    data = batch(*(make(params, *s) for s in streams))
    return CALLERS[name].advantages(data, right_at_time_limits=right), data


def open_spiel_ppo_loss(params, streams, right):
    _, data = ppo_advantages("open_spiel_ppo", START, streams, right)
    loss = CALLERS["open_spiel_ppo"].ppo_loss(network, params, data, right_at_time_limits=right)
    return loss * data.rewards.size


def cleanrl_ppo_loss(params, streams, right):
    """Of a minibatch, whose advantages are normalized over all of it: no sum of losses of episodes."""
    advantage, _ = ppo_advantages("cleanrl_ppo", START, streams, right)
    each = [steps(*s) for s in streams]
    state, action = (np.stack([x[i] for x in each], 1).ravel() for i in (0, 2))
    old = log_mu(state, action), START["v"][state]
    data = CALLERS["cleanrl_ppo"].Minibatch(state, action, *old, advantage.ravel())
    return CALLERS["cleanrl_ppo"].ppo_loss(network, params, data)


START = tables(0)
LOSSES = {
    "cleanba": cleanba_loss,
    "acme": acme_loss,
    "stoix": stoix_loss,
    "open_spiel_ppo": open_spiel_ppo_loss,
    "cleanrl_ppo": cleanrl_ppo_loss,
}
LENGTHS = {"cleanba": 6, "acme": 6, "stoix": 5, "open_spiel_ppo": 5, "cleanrl_ppo": 5}
"""How many steps the cut stream has: where the final observation is an entry, so is a step that is none."""


def streams_of(name):
    """The cut stream, and one of the same length."""
    return (A, B), (episode(1, LENGTHS[name]),)


def value_and_gradient(name, streams, right):
    return jax.jit(jax.value_and_grad(lambda p: LOSSES[name](p, streams, right)))(START)


def assert_same(x, y):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12), x, y)


@pytest.fixture
def with_rlax(monkeypatch):
    """A function that puts rlax itself into a caller."""
    return lambda name: monkeypatch.setattr(CALLERS[name], "rlax", rlax)


@pytest.mark.parametrize("name", LOSSES)
def test_the_unmodified_loss_is_that_of_rlax(x64, name, with_rlax):
    mine = value_and_gradient(name, streams_of(name), False)
    with_rlax(name)
    assert_same(mine, value_and_gradient(name, streams_of(name), False))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "cleanrl_ppo"])
def test_two_lines_make_the_loss_that_of_each_episode_alone(x64, name, with_rlax):
    streams = streams_of(name)
    right, wrong = (value_and_gradient(name, streams, x) for x in (True, False))
    with_rlax(name)
    alone = [value_and_gradient(name, [[e]], False) for s in streams for e in s]
    assert_same(right, jax.tree.map(lambda *x: sum(x), *alone))
    assert not np.allclose(right[0], wrong[0])


@pytest.mark.parametrize("name", ["open_spiel_ppo", "cleanrl_ppo"])
def test_two_lines_make_the_advantages_those_of_each_episode_alone(x64, name, with_rlax):
    right, wrong = (ppo_advantages(name, START, streams_of(name), x)[0] for x in (True, False))
    with_rlax(name)
    alone = [ppo_advantages(name, START, [[e]], False)[0] for e in (A, B, *streams_of(name)[1])]
    np.testing.assert_allclose(right, jnp.concatenate([jnp.concatenate(alone[:2]), alone[2]], axis=1), rtol=1e-10)
    assert np.max(np.abs(right - wrong)) > 0.1


@pytest.mark.parametrize("name", LOSSES)
def test_right_values_leave_nothing_to_learn_at_a_time_limit(x64, name, monkeypatch):
    """An exact dynamic program gives the values; the policy cannot matter, whatever the ratios."""
    known = START | {"v": LEAVING}
    monkeypatch.setitem(globals(), "START", known)
    if "ppo" in name:
        right, wrong = (ppo_advantages(name, known, streams_of(name), x)[0] for x in (True, False))
    else:
        right, wrong = (value_and_gradient(name, streams_of(name), x)[1]["v"] for x in (True, False))
    np.testing.assert_allclose(right, 0.0, atol=1e-12)
    assert np.max(np.abs(wrong)) > 0.1


# R-NaD: games from their first move on, one longer than the trajectory


def games(moves):
    """A game that is over after two moves and one that is not, `[T, B]`; the winner is paid at the end."""
    at = np.stack([np.arange(moves), np.arange(moves) + 1], 1) % STATES
    valid = np.stack([np.arange(moves) < 2, np.ones(moves, bool)], 1)
    action = np.random.default_rng(4).integers(0, ACTIONS, (12, 2))[:moves]
    legal = np.ones((moves, 2, ACTIONS), bool)
    legal[:, :, 1] = (action == 1) | ~valid
    policy = jax.nn.softmax(jnp.where(legal, MU[at], -jnp.inf))
    reward = np.where(valid, REWARD[at], 0.0)
    after = np.array([moves, moves + 1]) % STATES
    return CALLERS["rnad"].Trajectory(
        at, legal, np.arange(moves)[:, None] % 2 + np.zeros((1, 2), int), valid, action, policy, reward, after,
        np.array([False, True]),
    )  # fmt: skip


def rnad(params, right, moves=5, **settings):
    """The sum over moves of the game that is cut."""
    data = games(moves)
    data = type(data)(*(x[..., 1:] if x.ndim == 1 else x[:, 1:] for x in map(jnp.asarray, data)))
    loss = CALLERS["rnad"].rnad_loss(network, params, tables(5), data, right_at_time_limits=right, **settings)
    return moves * loss


def test_the_unmodified_loss_of_rnad_is_that_of_rlax(x64, with_rlax):
    loss = lambda p: CALLERS["rnad"].rnad_loss(  # noqa: E731
        network, p, tables(5), jax.tree.map(jnp.asarray, games(5)), right_at_time_limits=False
    )
    mine = jax.value_and_grad(loss)(START)
    with_rlax("rnad")
    assert_same(mine, jax.value_and_grad(loss)(START))
    assert np.isfinite(mine[0])


def test_right_values_of_a_game_that_is_cut_leave_nothing_to_learn(x64):
    """Seen from the end, the values are those of the rest of a game that lasts ten moves."""
    paid = REWARD[(np.arange(10) + 1) % STATES]
    worth = np.cumsum(paid[::-1])[::-1]
    known = {"logits": START["logits"], "v": worth}

    def errors(right):
        # One state a move, so that the table holds the value of each.
        data = games(5)
        own = np.arange(5)[:, None]
        data = data._replace(obs=own, legal=data.legal[:, 1:], player=data.player[:, 1:], valid=data.valid[:, 1:])
        data = data._replace(action=data.action[:, 1:], policy=data.policy[:, 1:], reward=paid[:5, None])
        data = data._replace(obs_after=np.array([5]), valid_after=np.array([True]))
        table = lambda p, obs: (jnp.asarray(p["logits"])[obs % STATES], jnp.asarray(p["v"])[obs])  # noqa: E731
        loss = lambda p: CALLERS["rnad"].rnad_loss(  # noqa: E731
            table, p, known, jax.tree.map(jnp.asarray, data), right_at_time_limits=right, eta=0.0
        )
        return jax.grad(loss)(known)

    jax.tree.map(lambda x: np.testing.assert_allclose(x, 0.0, atol=1e-12), errors(True))
    assert np.max(np.abs(errors(False)["v"])) > 0.1
