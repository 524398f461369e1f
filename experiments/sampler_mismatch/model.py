"""A language model of characters that learns to sort digits: what it is, how it writes, and how it is taught."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

DIGITS, LENGTH = 8, 6
"""How many different digits there are, and how many a prompt holds."""
SEPARATOR = DIGITS
HIDDEN, EMBEDDING = 48, 16


class Writer(nn.Module):
    """A gated recurrent network, one character at a time."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, memory: jax.Array, token: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The memory after a character, and the logits of the next."""
        x = nn.Embed(DIGITS + 1, EMBEDDING, dtype=self.dtype)(token)
        memory, x = nn.GRUCell(HIDDEN, dtype=self.dtype)(memory.astype(self.dtype), x)
        return memory, nn.Dense(DIGITS, dtype=self.dtype)(x)


class Text(NamedTuple):
    """Answers, time first: `[LENGTH, B]` each."""

    token: jax.Array
    log_mu: jax.Array
    """Log-probability of each token as its sampler had it."""


def init(key: jax.Array) -> Any:
    return Writer().init(key, jnp.zeros((1, HIDDEN)), jnp.zeros(1, jnp.int32))


def prompts(key: jax.Array, number: int) -> jax.Array:
    """`[LENGTH, number]`, digits at random."""
    return jax.random.randint(key, (LENGTH, number), 0, DIGITS)


def reward(prompt: jax.Array, answer: jax.Array) -> jax.Array:
    """`[B]`, the share of places that hold what the sorted prompt does."""
    return jnp.mean(answer == jnp.sort(prompt, axis=0), axis=0)


def _read(params: Any, prompt: jax.Array, dtype: Any) -> jax.Array:
    """The memory after a prompt."""
    step = Writer(dtype).apply
    memory = jnp.zeros((prompt.shape[1], HIDDEN), dtype)
    return jax.lax.scan(lambda memory, token: (step(params, memory, token)[0], None), memory, prompt)[0]


def write(key: jax.Array, params: Any, prompt: jax.Array, dtype: Any = jnp.float32) -> Text:
    """Answers to `[LENGTH, B]` prompts, sampled by the network as it computes in this precision."""

    def step(carry, key):
        memory, token = carry
        memory, logits = Writer(dtype).apply(params, memory, token)
        log_mu = jax.nn.log_softmax(logits.astype(jnp.float32))
        token = jax.random.categorical(key, log_mu)
        return (memory, token), (token, jnp.take_along_axis(log_mu, token[:, None], 1)[:, 0])

    start = _read(params, prompt, dtype), jnp.full(prompt.shape[1], SEPARATOR)
    return Text(*jax.lax.scan(step, start, jax.random.split(key, LENGTH))[1])


def score(params: Any, prompt: jax.Array, answer: jax.Array) -> jax.Array:
    """`[LENGTH, B, DIGITS]`, log-probabilities of all characters where an answer was written, in float32."""
    read = jnp.concatenate([jnp.full_like(answer[:1], SEPARATOR), answer[:-1]])

    def step(memory, token):
        return Writer().apply(params, memory, token)

    return jax.nn.log_softmax(jax.lax.scan(step, _read(params, prompt, jnp.float32), read)[1])


def of_tokens(log_odds: jax.Array, token: jax.Array) -> jax.Array:
    """`[LENGTH, B]`, those of the tokens written."""
    return jnp.take_along_axis(log_odds, token[..., None], -1)[..., 0]


def taught(key: jax.Array, steps: int, batch: int = 64, learning_rate: float = 1e-2) -> Any:
    """Parameters that have seen so many batches of sorted answers."""
    optimizer = optax.adam(learning_rate)
    params = init(jax.random.fold_in(key, 0))

    def loss(params, prompt):
        right = jnp.sort(prompt, axis=0)
        return -jnp.mean(of_tokens(score(params, prompt, right), right))

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, prompts(key, batch)), state)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.fold_in(key, 1), steps)
    return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]
