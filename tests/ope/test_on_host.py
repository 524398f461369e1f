"""Programs that NumPy runs give what JAX gives, in every primitive that estimators are made of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.ope import ESTIMATORS, on_host, primitives, resampling
from isjax.ope.evaluation import _answers
from isjax.ope.on_host import on_host as run
from isjax.ope.precision import in_float64
from isjax.ope.resampling import Draws
from isjax.ope.threefry import is_threefry
from isjax.ops.recurrence import backward_affine
from isjax.types import LoggedEpisodes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 4))


def same(function, *arrays, rtol=1e-12):
    found = run(function, *arrays)
    with in_float64():
        expected = jax.jit(function)(*arrays)
    for here, there in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert isinstance(here, np.ndarray)
        assert here.dtype == there.dtype
        np.testing.assert_allclose(here, there, rtol=rtol, atol=1e-14)


FUNCTIONS = {
    "elementwise": lambda x: jnp.where(x > 0, jnp.log1p(jnp.abs(x)), jnp.expm1(x)) ** 3 / (1.0 + x * x),
    "reductions": lambda x: (x.sum(0), x.max(1), x.min(), jnp.any(x > 1, 0), jnp.all(x > -9), jnp.argmin(x)),
    "shapes": lambda x: (x[1:, ::2], x.reshape(-1), x.T, jnp.stack([x, x], 1), jnp.concatenate([x, x]), x[2, 1]),
    "order": lambda x: (jnp.sort(x, 0), jnp.argsort(x, 1), jnp.cumsum(x, 0), x[jnp.array([3, 0])]),
    "whole numbers": lambda x: (jnp.arange(7) // 2 - 5, (x * 10).astype(int) % 3, jnp.floor(x)),
    "loops": lambda x: (backward_affine(x, x), jax.lax.fori_loop(0, 9, lambda i, y: y + i, x)),
    "captured": lambda x: tuple(jax.lax.fori_loop(0, 3, lambda i, y, a=a: y * a, x) for a in (X, X + 1.0)),
    "while": lambda x: jax.lax.while_loop(lambda y: jnp.sum(y) < 100.0, lambda y: y + 1.0, x),
    "branches": lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x),
    "scattered": lambda x: x[0].at[jnp.array([2, 0])].set(7.0).at[1].add(1.0),
    "gradients": jax.grad(lambda x: jnp.sum(jnp.exp(x) * x)),
    "products": lambda x: (x @ x.T, x[0] @ x[1], jnp.einsum("ij,ik->jk", x, x)),
    "what NumPy lacks": lambda x: (jax.lax.lgamma(jnp.abs(x)), jax.scipy.linalg.cho_factor(x.T @ x + jnp.eye(4))[0]),
    "special": lambda x: (jax.scipy.special.betainc(2.0, 0.5, jnp.abs(jnp.tanh(x))), jax.scipy.special.ndtri(0.3)),
    "size": lambda x: (jnp.frexp(x), jnp.ldexp(x, 3), jnp.clip(x, -0.5, 0.5), jnp.sign(x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numpy_runs_what_jax_compiles(name):
    same(FUNCTIONS[name], X, rtol=1e-10)


def test_a_long_loop_is_compiled_and_a_short_one_is_not(monkeypatch):
    compiled = []
    monkeypatch.setattr(on_host, "compiled", lambda equation, *values: compiled.append(equation) or values)
    run(FUNCTIONS["loops"], X)
    assert not compiled
    monkeypatch.setattr(on_host, "LONGEST_LOOP", 3)
    with pytest.raises(ValueError):  # noqa: PT011  (what it was given back in place of results)
        run(FUNCTIONS["loops"], X)
    assert compiled


def test_nothing_is_computed_twice(monkeypatch):
    times = []
    monkeypatch.setitem(on_host.PRIMITIVES, "exp", lambda equation, x: times.append(x) or np.exp(x))
    run(lambda x: jnp.exp(x) + jax.jit(jnp.exp)(x) + 0.0 * jnp.sum(jnp.exp(x)), X)
    assert len(times) == 1


def test_every_estimator_is_what_it_is_when_compiled_and_compiles_nothing(monkeypatch):
    shape = (4, 60)
    q, v = RNG.normal(size=(2, *shape))
    is_valid = np.arange(4)[:, None] < RNG.integers(1, 5, 60)[None]
    log = LoggedEpisodes(0.3 * RNG.normal(size=shape), RNG.normal(size=shape), is_valid, v, q)
    chosen = tuple(of for of in ESTIMATORS.values() if not of.needs_states)
    same(functools.partial(_answers, chosen, 0.95, 0), log, np.float64(0.9), rtol=1e-9)
    compiled = []
    for module in (on_host, primitives):
        monkeypatch.setattr(module, "compiled", lambda equation, *values: compiled.append(equation))
    run(_answers, log, np.float64(0.9), static=(chosen[:7], 0.95, 0))
    assert not compiled


@pytest.mark.parametrize(("n", "resamples"), [(1, 3), (7, 5), (300, 300), (70_001, 3)])
@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_episodes_are_drawn_as_jax_draws_them(n, resamples, kind):
    key = jax.random.key(3, impl=kind)
    counts = np.concatenate(list(Draws(key, (1, n), resamples)))
    keys = jax.random.split(key, resamples)
    index = jax.vmap(lambda key: jax.random.randint(key, (n,), 0, n))(keys)
    expected = [np.bincount(row, minlength=n) for row in np.asarray(index)]
    np.testing.assert_array_equal(counts, expected)
    assert is_threefry(key) == (kind == "threefry2x32")


def test_draws_in_parts_are_those_of_one(monkeypatch):
    key = jax.random.key(1)
    whole = np.concatenate(list(Draws(key, (2, 50), 33)))
    monkeypatch.setattr(resampling, "DRAWN_AT_ONCE", 500)
    parts = list(Draws(key, (2, 50), 33))
    assert [len(part) for part in parts] == [10, 10, 10, 3]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
