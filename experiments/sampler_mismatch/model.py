"""A language model that two cores can train: digits in, the same digits in order out.

A text is `DIGITS` digits, a separator, and as many digits again, which the model is to write. Everything is time first:
texts are `[T, N]`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from isjax.types import Key, Tree

DIGITS, ALPHABET = 5, 8
SEPARATOR = ALPHABET
WIDTH = 48


class LanguageModel(nn.Module):
    """A recurrent network over characters; it computes in the type of its parameters."""

    @nn.compact
    def __call__(self, state: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`([N, WIDTH], [N]) → (state, log-probabilities of the next character [N, ALPHABET])`, the latter float32."""
        dtype = state.dtype
        x = nn.Embed(ALPHABET + 1, WIDTH, dtype=dtype)(tokens)
        state, x = nn.GRUCell(WIDTH, dtype=dtype)(state, x)
        logits = nn.Dense(ALPHABET, dtype=dtype)(x)
        return state, jax.nn.log_softmax(logits.astype(jnp.float32))


MODEL = LanguageModel()


def init(key: Key) -> Tree:
    """Parameters in float32."""
    return MODEL.init(key, jnp.zeros((1, WIDTH)), jnp.zeros(1, jnp.int32))


def prompts(key: Key, count: int) -> jax.Array:
    """`[DIGITS + 1, count]`: questions, each ending with the separator."""
    digits = jax.random.randint(key, (DIGITS, count), 0, ALPHABET)
    return jnp.concatenate([digits, jnp.full((1, count), SEPARATOR)])


def read(params: Tree, prompt: jax.Array) -> tuple[jax.Array, jax.Array]:
    """State and next log-probabilities after a prompt `[T, N]`."""
    start = jnp.zeros((prompt.shape[1], WIDTH), jax.tree.leaves(params)[0].dtype)
    state, log_probs = jax.lax.scan(lambda state, token: MODEL.apply(params, state, token), start, prompt)
    return state, log_probs[-1]


def write(params: Tree, prompt: jax.Array, key: Key) -> tuple[jax.Array, jax.Array]:
    """`(answer, log_mu)`, `[DIGITS, N]` both: what is sampled, and its log-probabilities when it was."""

    def step(carry, key):
        state, log_probs = carry
        token = jax.random.categorical(key, log_probs)
        return MODEL.apply(params, state, token), (token, of_tokens(log_probs, token))

    return jax.lax.scan(step, read(params, prompt), jax.random.split(key, DIGITS))[1]


def log_probabilities(params: Tree, prompt: jax.Array, answer: jax.Array) -> jax.Array:
    """`[DIGITS, N]`, of the characters of given answers."""
    state, first = read(params, prompt)
    _, others = jax.lax.scan(lambda state, token: MODEL.apply(params, state, token), state, answer[:-1])
    return of_tokens(jnp.concatenate([first[None], others]), answer)


def of_tokens(log_probs: jax.Array, token: jax.Array) -> jax.Array:
    """`[..., ALPHABET]` at the characters `[...]`."""
    return jnp.take_along_axis(log_probs, token[..., None], -1)[..., 0]


def solution(prompt: jax.Array) -> jax.Array:
    """`[DIGITS, N]`, the digits of prompts in order."""
    return jnp.sort(prompt[:-1], 0)


def reward(prompt: jax.Array, answer: jax.Array) -> jax.Array:
    """`[N]`: 1 where an answer is right as a whole, else 0."""
    return jnp.all(answer == solution(prompt), 0).astype(jnp.float32)
