"""Tables that learn online, many at once: one-step and λ-methods with traces, n-step methods with a window of steps.

Targets are those of `isjax.ops`. A method is a pair of pure functions of one learner; `learn` maps them over learners
and scans over steps until every learner has had its episodes.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.tabular.gridworlds import ACTIONS, Grid
from isjax import ops

CHUNK, LONGEST, PARTS = 500, 250, 50


class Options(NamedTuple):
    """What may differ from learner to learner."""

    step_size: jax.Array
    epsilon: jax.Array
    lambda_: jax.Array
    sigma: jax.Array


class Step(NamedTuple):
    """One step of a learner."""

    state_tm1: jax.Array
    action_tm1: jax.Array
    r_t: jax.Array
    state_t: jax.Array
    discount_t: jax.Array
    """1, and 0 where the episode ended."""
    log_pi_tm1: jax.Array
    """Of the action, under the policy that is to be learned about."""
    log_mu_tm1: jax.Array
    """Under the policy that acts."""


class Method(NamedTuple):
    """How a table learns; both are functions of one learner."""

    init: Callable[[], Any]
    """What it remembers besides the table."""
    update: Callable[[jax.Array, Any, Step, jax.Array, Options], tuple[jax.Array, Any]]
    """`(q, memory, step, next action, options) → (q, memory)`."""


class Learner(NamedTuple):
    """The state of one learner."""

    q: jax.Array
    memory: Any
    state: jax.Array
    action: jax.Array
    episode: jax.Array
    returns: jax.Array
    """`[PARTS]`, sums of rewards, each over an equal part of the episodes."""


def behavior(q: jax.Array, options: Options) -> jax.Array:
    """`[..., A]`, log-probabilities of the policy that acts: ε-greedy, ties shared."""
    return ops.epsilon_greedy_log_probs(q, options.epsilon)


def drawn(log_probs: jax.Array, noise: jax.Array) -> jax.Array:
    """An action by one uniform number."""
    return jnp.minimum(jnp.sum(jnp.cumsum(jnp.exp(log_probs)) <= noise), ACTIONS - 1)


def one_step(name: str) -> Method:
    """SARSA, expected SARSA or Q-learning."""

    def update(q, memory, step, action_t, options):
        target = target_of(name, q, step, action_t, options)
        place = (step.state_tm1, step.action_tm1)
        return q.at[place].add(options.step_size * (target - q[place])), memory

    return Method(tuple, update)


def with_traces(name: str, states: int) -> Method:
    """The same with replacing traces: SARSA(λ), or Watkins's Q(λ), whose trace ends with an action not greedy."""

    def update(q, trace, step, action_t, options):
        target = target_of(name, q, step, action_t, options)
        place = (step.state_tm1, step.action_tm1)
        trace = trace.at[place].set(1.0)
        updated = q + options.step_size * (target - q[place]) * trace
        goes_on = step.discount_t
        if name == "Q-learning":
            goes_on = goes_on * (q[step.state_t, action_t] == jnp.max(q[step.state_t]))
        return updated, goes_on * options.lambda_ * trace

    return Method(lambda: jnp.zeros((states, ACTIONS)), update)


def target_of(name: str, q: jax.Array, step: Step, action_t: jax.Array, options: Options) -> jax.Array:
    """The one-step target of the action taken."""
    q_t, r_t, discount_t = q[step.state_t][None], step.r_t[None], step.discount_t[None]
    if name == "SARSA":
        return ops.sarsa_target(q_t, action_t[None], r_t, discount_t)[0]
    if name == "expected SARSA":
        return ops.expected_sarsa_target(q_t, behavior(q_t, options), r_t, discount_t)[0]
    return ops.q_learning_target(q_t, r_t, discount_t)[0]


def windowed(kind: str, n: int, target_policy: Callable[[jax.Array, Options], jax.Array]) -> Method:
    """n-step methods: a row learns when n more have followed it, be they of the next episode.

    "sarsa" takes the product of ratios (Sutton & Barto 2018, eq. 7.11), "q_sigma" is eq. 7.17, and "uncorrected" is
    n-step expected SARSA without any ratio.
    """

    def update(q, window, step, action_t, options):
        window = jax.tree.map(lambda rows, x: jnp.concatenate([rows[1:], x[None].astype(rows.dtype)]), window, step)
        place = (window.state_tm1, window.action_tm1)
        taken, q_t = q[place], q[window.state_t]
        v_t = ops.expected_q(q_t, target_policy(q_t, options))
        log_rho = ops.log_ratios(window.log_pi_tm1, window.log_mu_tm1)
        if kind == "q_sigma":
            rows = (taken, v_t, *(window[k] for k in (2, 4, 5, 6)))
            target, weight = ops.q_sigma(*(x[:n] for x in rows), sigma=options.sigma)[0], 1.0
        elif kind == "sarsa":
            v_t = jnp.concatenate([taken[1:], taken[:1]])
            found = ops.n_step_off_policy(v_t, window.r_t, window.discount_t, log_rho, n=n, kind="sarsa")
            target, weight = found.return_tm1[0], ops.clipped_ratio(found.log_weight_tm1[0], jnp.inf)
        else:
            rows = (x[:n] for x in (v_t, window.r_t, window.discount_t, log_rho))
            target, weight = ops.n_step_off_policy(*rows, n=n, kind="expected_sarsa").return_tm1[0], 1.0
        # Until the window is full its oldest row is none.
        is_full = window.state_tm1[0] >= 0
        change = jnp.where(is_full, options.step_size * weight * (target - taken[0]), 0.0)
        return q.at[place[0][0], place[1][0]].add(change), window

    def init():
        none = jnp.full(n + 1, -1)
        zero = jnp.zeros(n + 1)
        return Step(none, jnp.zeros_like(none), zero, jnp.zeros_like(none), zero, zero, zero)

    return Method(init, update)


@functools.partial(jax.jit, static_argnames="make_step")
def learn(make_step: Callable, key: jax.Array, options: Options, *, episodes: int) -> Learner:
    """Learners `[L]` after so many episodes, a multiple of `PARTS`; later ones do not count.

    Nobody gets more than `LONGEST` steps an episode on average: some tables go in circles.
    """
    init, step = make_step()
    count = len(options.step_size)

    def chunk(carry):
        learners, index = carry
        noise = jax.random.uniform(jax.random.fold_in(key, index), (CHUNK, 2, count))

        def advance(learners, noise):
            # Who has had all episodes goes on without learning.
            learns = options._replace(step_size=jnp.where(learners.episode < episodes, options.step_size, 0.0))
            return jax.vmap(lambda x, u, o: step(x, u, o, episodes // PARTS))(learners, noise.T, learns), None

        return jax.lax.scan(advance, learners, noise)[0], index + 1

    first = jax.random.uniform(jax.random.fold_in(key, 2**31 - 1), (count, 2))
    learners = jax.vmap(init)(first, options)
    limit = -(-episodes * LONGEST // CHUNK)

    def goes_on(carry):
        return jnp.any(carry[0].episode < episodes) & (carry[1] < limit)

    return jax.lax.while_loop(goes_on, chunk, (learners, 0))[0]


@functools.cache
def control(grid: Callable[[], Grid], method: Callable[[], Method], is_drawn_first: bool) -> Callable:
    """What `learn` takes, for a table that the policy that acts is ε-greedy for.

    SARSA draws the next action before it learns, the others afterwards.
    """

    def make():
        world, how = tables(grid()), method()

        def init(noise, options):
            q = jnp.zeros((len(world.reward), ACTIONS))
            state = world.starts[0]
            action = drawn(behavior(q[state], options), noise[0])
            return Learner(q, how.init(), state, action, jnp.zeros((), jnp.int32), jnp.zeros(PARTS))

        def step(x, noise, options, width):
            place = (x.state, x.action)
            ends = world.ends[place]
            following = jnp.where(ends, world.starts[0], world.following[place])
            log_mu = behavior(x.q[x.state], options)[x.action]
            row = Step(*place, world.reward[place], following, jnp.where(ends, 0.0, 1.0), log_mu, log_mu)
            action = drawn(behavior(x.q[following], options), noise[0])
            q, memory = how.update(x.q, x.memory, row, action, options)
            if not is_drawn_first:
                action = drawn(behavior(q[following], options), noise[0])
            returns = x.returns.at[x.episode // width].add(row.r_t, mode="drop")
            return Learner(q, memory, following, action, x.episode + ends, returns)

        return init, step

    return make


def tables(grid: Grid) -> Grid:
    """The same with arrays of JAX."""
    return grid._replace(
        following=jnp.asarray(grid.following, jnp.int32),
        reward=jnp.asarray(grid.reward, jnp.float32),
        ends=jnp.asarray(grid.ends),
        starts=jnp.asarray(grid.starts, jnp.int32),
    )


@functools.partial(jax.jit, static_argnames=("grid", "method", "steps", "last"))
def prediction_errors(
    grid: Callable[[], Grid],
    method: Callable[[], Method],
    key: jax.Array,
    options: Options,
    policies: tuple[jax.Array, jax.Array, jax.Array],
    *,
    steps: int,
    last: int,
) -> jax.Array:
    """`[L]`, the root mean squared error of tables in the last of so many steps of a fixed policy.

    `policies` are target and behavior `[S, A]` and the exact values of the target.
    """
    world, how = tables(grid()), method()
    pi, mu, exact = policies
    count, states = len(options.step_size), jnp.any(exact != 0.0, -1)

    def one(carry, noise, options):
        q, memory, state, action, total, index = carry
        place = (state, action)
        ends = world.ends[place]
        start = world.starts[jnp.minimum((noise[1] * len(world.starts)).astype(jnp.int32), len(world.starts) - 1)]
        reached = world.following[place]
        row = Step(
            *place, world.reward[place], reached, jnp.where(ends, 0.0, 1.0), jnp.log(pi[place]), jnp.log(mu[place])
        )
        q, memory = how.update(q, memory, row, action, options)
        state = jnp.where(ends, start, reached)
        squared = jnp.sum(jnp.where(states[:, None], (q - exact) ** 2, 0.0)) / (ACTIONS * jnp.sum(states))
        total = total + jnp.where(index >= steps - last, jnp.sqrt(squared), 0.0)
        return q, memory, state, drawn(jnp.log(mu[state]), noise[0]), total, index + 1

    def advance(carry, key):
        return jax.vmap(one)(carry, jax.random.uniform(key, (count, 2)), options), None

    def init(_):
        zero = jnp.zeros((), jnp.int32)
        return jnp.zeros(exact.shape), how.init(), world.starts[0], zero, jnp.zeros(()), zero

    carry = jax.lax.scan(advance, jax.vmap(init)(options.step_size), jax.random.split(key, steps))[0]
    return carry[4] / last
