"""Ten lines register a loss that Tunix finds: in Tunix where it is installed, else in what stands in for it."""

import importlib.util
import runpy
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.docs.pages import ROOT

CALLER = ROOT / "docs" / "callers" / "tunix_loss.py"
B, T, A = 3, 4, 5


class Table(nnx.Module):
    """A model as Tunix calls one: logits that depend on the position alone."""

    def __init__(self):
        self.logits = nnx.Param(jax.random.normal(jax.random.key(0), (16, A)))

    def __call__(self, tokens, positions, cache, attention_mask):
        return jnp.broadcast_to(self.logits[...][: tokens.shape[1]], (*tokens.shape, A)), cache


def stand_in(monkeypatch):
    """Modules with the two functions of Tunix 0.1.7 that the file calls, and its way to score a text."""
    found = {}

    def register(name):
        return lambda function: found.setdefault(name, function)

    def log_probs(graph, state, prompt_tokens, completion_tokens, pad_id, eos_id, stop_gradient=True):
        tokens = jnp.concatenate([prompt_tokens, completion_tokens], axis=1)
        logits = nnx.merge(graph, state)(tokens, None, None, None)[0][:, -T - 1 : -1]
        return jnp.take_along_axis(jax.nn.log_softmax(logits), completion_tokens[..., None], -1)[..., 0]

    registry = types.SimpleNamespace(register_policy_loss_fn=register, get_policy_loss_fn=found.__getitem__)
    rl = types.ModuleType("tunix.rl")
    rl.common, rl.function_registry = types.SimpleNamespace(compute_per_token_logps=log_probs), registry
    monkeypatch.setitem(sys.modules, "tunix", types.ModuleType("tunix"))
    monkeypatch.setitem(sys.modules, "tunix.rl", rl)
    return registry


@pytest.mark.parametrize("knows_old", [False, True])
def test_a_registered_loss_is_found_and_has_the_value_and_gradient_of_its_definition(knows_old, monkeypatch):
    if importlib.util.find_spec("tunix"):
        from tunix.rl import function_registry as registry
    else:
        registry = stand_in(monkeypatch)
    runpy.run_path(str(CALLER))
    rng = np.random.default_rng(0)
    tokens, mask = rng.integers(1, A, (B, T)), np.float32([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])
    advantages, weights = np.float32([1.0, -0.5, 2.0]), rng.uniform(0.5, 2.0, (B, T)).astype(np.float32)
    model = Table()
    # The token at place t of the answer is predicted at the place before it, behind a prompt of two.
    table = jax.nn.log_softmax(model.logits[...])[1 : T + 1]
    log_pi = np.take_along_axis(np.broadcast_to(table, (B, T, A)), tokens[..., None], -1)[..., 0]
    log_old = log_pi + rng.normal(size=(B, T)).astype(np.float32) if knows_old else None
    batch = types.SimpleNamespace(
        prompt_ids=jnp.ones((B, 2), int),
        completion_ids=jnp.asarray(tokens),
        completion_mask=jnp.asarray(mask),
        advantages=jnp.asarray(advantages),
        old_per_token_logps=log_old,
        sampler_is_weights=jnp.asarray(weights),
    )
    loss = registry.get_policy_loss_fn("isjax-cispo")
    (value, told), gradient = nnx.value_and_grad(loss, has_aux=True)(
        model, batch, algo_config=None, pad_id=0, eos_id=-1
    )
    rho = np.ones((B, T)) if log_old is None else np.exp(log_pi - log_old)
    each = mask * weights * np.minimum(rho, 5.0) * advantages[:, None] / mask.sum()
    assert told["tokens"] == mask.sum()
    np.testing.assert_allclose(value, -np.sum(each * log_pi), rtol=1e-5)
    expected = np.zeros((16, A))
    for row in range(B):
        for t in range(T):
            expected[t + 1] -= each[row, t] * (np.eye(A)[tokens[row, t]] - np.exp(table[t]))
    np.testing.assert_allclose(gradient["logits"][...], expected, rtol=1e-4, atol=1e-6)
