"""Several discrete actions at once, against an enumeration of all their combinations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.environments import Discrete, Environment, MultiDiscrete, Step
from isjax.environments.adapter import adapt
from isjax.environments.product import MultiCategorical
from isjax.environments.spaces import action_distribution
from isjax.learner import Config, make_learner

UNEVEN, EVEN = MultiCategorical((2, 3, 1), (3,)), MultiCategorical((3, 3), (2,))


def enumerated(distribution, policy):
    """`{action: probability}` in float64, from the definition."""
    ends = np.cumsum(distribution.counts)
    parts = [np.exp(np.float64(x)) for x in np.split(np.asarray(policy), ends[:-1])]
    parts = [x / x.sum() for x in parts]
    ranges = [range(n) for n in distribution.counts]
    return {a: np.prod([p[i] for p, i in zip(parts, a, strict=True)]) for a in itertools.product(*ranges)}


@pytest.mark.parametrize("distribution", [UNEVEN, EVEN])
@pytest.mark.parametrize("masked", [False, True])
def test_probabilities_entropy_and_divergence_are_those_of_all_combinations(distribution, masked):
    policy, other = jax.random.normal(jax.random.key(0), (2, distribution.num_params)) * 2.0
    if masked:
        policy = policy.at[1].set(-jnp.inf)
    p, q = enumerated(distribution, policy), enumerated(distribution, other)
    possible = {a: x for a, x in p.items() if x > 0}
    assert sum(p.values()) == pytest.approx(1.0)
    for action, x in possible.items():
        assert float(jnp.exp(distribution.log_prob(policy, jnp.array(action)))) == pytest.approx(x, rel=1e-5)
    assert float(distribution.entropy(policy)) == pytest.approx(
        -sum(x * np.log(x) for x in possible.values()), rel=1e-5
    )
    kl = sum(x * np.log(x / q[a]) for a, x in possible.items())
    assert float(distribution.kl(policy, other)) == pytest.approx(kl, rel=1e-4)
    assert tuple(np.asarray(distribution.mode(policy)).tolist()) == max(p, key=p.get)


def test_samples_come_as_often_as_their_probabilities_say():
    policy = jnp.array([0.0, 1.0, -jnp.inf, 0.5, 2.0, 0.0])
    count = 20_000
    noise = UNEVEN.noise(jax.random.key(1), (count,))
    actions = np.asarray(UNEVEN.sample(jnp.broadcast_to(policy, (count, 6)), noise))
    for action, p in enumerated(UNEVEN, policy).items():
        share = np.mean(np.all(actions == action, axis=1))
        assert abs(share - p) <= 5 * np.sqrt(p * (1 - p) / count)


def test_the_gradient_of_a_masked_policy_is_finite():
    policy = jnp.array([0.0, -jnp.inf, 0.3, -jnp.inf, 0.1, 0.0])

    def loss(policy):
        return UNEVEN.log_prob(policy, jnp.array([0, 2, 0])) + UNEVEN.entropy(policy)

    gradient = np.asarray(jax.grad(loss)(policy))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[[1, 3]], 0.0)


def test_an_action_is_possible_where_each_part_is():
    legal = jnp.array([[1, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 1], [0, 0, 1, 1, 1, 1]], bool)
    np.testing.assert_array_equal(UNEVEN.can_act(legal), [True, False, False])


def test_a_space_of_several_integers_is_read_by_its_numbers():
    assert action_distribution(MultiDiscrete([[2, 3], [4, 5]])) == MultiCategorical((2, 3, 4, 5), (2, 2))
    assert EVEN.rows == (2, 3)
    assert UNEVEN.rows is None
    for wrong in ([], [2, 0]):
        with pytest.raises(ValueError, match="must have numbers n ≥ 1"):
            action_distribution(MultiDiscrete(wrong))


class Locks(Environment):
    """Two wheels of three: pays 1 for each that stands where it should; of the second, one place is barred."""

    action_space = MultiDiscrete([3, 3])
    max_steps = 4

    def __init__(self, flags=((True, True, True), (True, False, True))):
        self.flags = flags

    def reset(self, key):
        return {"x": jnp.ones(1), "action_mask": jnp.array(self.flags)}, jnp.zeros(())

    def step(self, key, state, action):
        barred = action[1] == 1
        reward = jnp.where(barred, jnp.nan, (action[0] == 2).astype(jnp.float32) + (action[1] == 0))
        return Step(self.reset(key)[0], state, reward, terminated=False)


def test_a_learner_of_several_integers_never_takes_a_barred_one_and_learns():
    learner = make_learner(Config(num_envs=16, unroll_length=8, torso=(8,)), environment=Locks())
    state, update = learner.init(jax.random.key(0)), jax.jit(learner.update)
    for _ in range(120):
        state, metrics = update(state)
    assert state.alive
    assert metrics["episode_return"] > 6.0  # of 8; who only keeps to what is legal has 3.3
    assert np.isfinite(learner.evaluate(state, jax.random.key(1)).episode_return).all()


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"flag for each action, \[6\] or \[2, 3\], but its shape is \[2, 2\]"):
        adapt(Locks(flags=((True, True), (True, False))))


class Wheel(Locks):
    action_space = Discrete(3)


def test_a_mask_of_one_integer_has_one_row():
    with pytest.raises(ValueError, match=r"flag for each action, \[3\], but its shape is \[2, 3\]"):
        adapt(Wheel())
