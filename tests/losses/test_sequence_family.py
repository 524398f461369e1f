"""Every loss on sequences against its formula and its hand-derived gradient, in NumPy, sequence by sequence."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax import losses
from isjax.losses.aggregation import aggregate

T, B = 5, 4
LENGTHS = np.array([5, 3, 0, 4])
VALID = np.arange(T)[:, None] < LENGTHS
SOFT = np.log([[1.0], [1.5], [0.4], [1.22], [0.85]])


def batch(seed=0, *, of_tokens=True):
    """`(log_pi, log_mu, advantage)` in float64, with ratios on both sides of every bound, and NaN in padding."""
    rng = np.random.default_rng(seed)
    log_pi = -0.05 - rng.exponential(size=(T, B))
    log_mu = np.minimum(log_pi - rng.permuted(np.broadcast_to(SOFT, (T, B)), axis=0), -0.01)
    advantage = rng.normal(size=(T, B)) if of_tokens else np.broadcast_to(rng.normal(size=B), (T, B))
    return tuple(np.where(VALID, x, np.nan) for x in (log_pi, log_mu, advantage))


def ppo(low, high, dual=np.inf):
    """Value and derivative by log π of `min(ρ A, clip(ρ) A)`, and at least `c A` for negative A."""

    def of(pi, mu, a):
        rho = np.exp(pi - mu)
        stopped = np.where(a > 0, rho > 1 + high, rho < 1 - low)
        value = np.where(stopped, np.where(a > 0, 1 + high, 1 - low), rho) * a
        beyond = (a < 0) & (rho > dual)
        return np.where(beyond, dual * a, value), np.where(stopped | beyond, 0.0, rho * a)

    return of


def weighted(weight):
    """Value and derivative of `sg(w) A log π`."""

    def of(pi, mu, a):
        w = weight(pi, mu, a)
        return w * a * pi, w * a

    return of


def mean_log(pi, mu):
    return np.full(pi.shape, np.mean(pi - mu))


def gspo(pi, mu, a):
    """`s = exp(mean ℓ)` has derivative `s / n` by each log π; every token holds the same objective."""
    value, slope = ppo(0.1, 0.15)(mean_log(pi, mu), 0.0, a)
    return value, np.full(pi.shape, np.sum(slope) / len(pi))


def gspo_token(pi, mu, a):
    return ppo(0.1, 0.15)(mean_log(pi, mu), 0.0, a)


def sapo(pi, mu, a):
    rho, tau = np.exp(pi - mu), np.where(a > 0, 1.0, 1.05)
    sigma = 1 / (1 + np.exp(-tau * (rho - 1)))
    return 4 / tau * sigma * a, 4 * sigma * (1 - sigma) * rho * a


def vespo(pi, mu, a):
    w = np.prod(np.exp(pi - mu))
    k, rate = np.where(a >= 0, 2.0, 3.0), np.where(a >= 0, 3.0, 2.0)
    return w**k * np.exp(rate * (1 - w))


def odds(pi, mu):
    return np.exp(pi), np.exp(mu)


def dppo_tv(pi, mu, a):
    p, q = odds(pi, mu)
    return np.minimum(p / q, 1.3) * np.where(a > 0, p - q <= 0.05, p - q >= -0.1)


def dppo_kl(pi, mu, a):
    p, q = odds(pi, mu)
    kl = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    return np.minimum(p / q, 1.3) * np.where(a > 0, (kl <= 0.02) | (p <= q), (kl <= 0.03) | (p >= q))


def dro(pi, mu, a):
    return a * pi - 0.35 * (pi - mu) ** 2, a - 0.7 * (pi - mu)


def dro_of_sequences(pi, mu, a):
    """A token bears its share of the square; the sum over tokens has derivative `2 Σ ℓ` by each."""
    total = np.sum(pi - mu)
    return a * pi - 0.35 * total**2 / len(pi), a - 0.7 * total


def topr(level):
    def weight(pi, mu, a):
        rho = np.exp(pi - mu)
        of = {"step": rho, "sequence": np.prod(rho), "geometric": np.prod(rho) ** (1 / max(len(rho), 1))}[level]
        return np.where(a >= 0, 1.0, np.minimum(of, 1.0))

    return weight


def sequence_mask(pi, mu, a):
    return np.exp(pi - mu) * (0.95 <= np.exp(np.mean(pi - mu)) <= 1.05)


FORMULAS = {
    "grpo": (losses.grpo_loss, {}, ppo(0.2, 0.2), "sequence-mean-token-mean"),
    "dapo": (losses.dapo_loss, {}, ppo(0.2, 0.28), "token-mean"),
    "dual clip": (losses.dapo_loss, {"dual_clip": 1.3}, ppo(0.2, 0.28, 1.3), "token-mean"),
    "dr-grpo": (losses.dr_grpo_loss, {"max_length": 9}, ppo(0.2, 0.2), "fixed-length"),
    "gspo": (losses.gspo_loss, {"clip_low": 0.1, "clip_high": 0.15}, gspo, "sequence-mean-token-mean"),
    "luspo": (losses.luspo_loss, {"clip_low": 0.1, "clip_high": 0.15}, gspo, "sequence-mean-token-sum"),
    "gspo-token": (
        losses.gspo_token_loss,
        {"clip_low": 0.1, "clip_high": 0.15},
        gspo_token,
        "sequence-mean-token-mean",
    ),
    "sapo": (losses.sapo_loss, {}, sapo, "sequence-mean-token-mean"),
    "vespo": (losses.vespo_loss, {}, weighted(vespo), "token-mean"),
    "dppo": (losses.dppo_loss, {"low": 0.1, "high": 0.05, "truncation": 1.3}, weighted(dppo_tv), "token-mean"),
    "dppo-kl": (
        losses.dppo_loss,
        {"divergence": "kl", "low": 0.03, "high": 0.02, "truncation": 1.3},
        weighted(dppo_kl),
        "token-mean",
    ),
    "dro": (losses.dro_loss, {"beta": 0.7}, dro, "token-mean"),
    "dro of sequences": (
        losses.dro_loss,
        {"beta": 0.7, "level": "sequence", "aggregation": "sequence-mean-token-sum"},
        dro_of_sequences,
        "sequence-mean-token-sum",
    ),
    "cispo": (
        losses.cispo_loss,
        {"clip_low": 0.3, "clip_high": 0.3},
        weighted(lambda pi, mu, a: np.clip(np.exp(pi - mu), 0.7, 1.3)),
        "token-mean",
    ),
    "sequence mask": (
        losses.masked_is_loss,
        {"mask_level": "geometric", "low": 0.95, "high": 1.05},
        weighted(sequence_mask),
        "token-mean",
    ),
} | {
    f"topr {level}": (losses.topr_loss, {"level": level}, weighted(topr(level)), "token-mean")
    for level in ("step", "sequence", "geometric")
}
OF_SEQUENCES = ("gspo", "luspo")
EACH = pytest.mark.parametrize("name", FORMULAS)


def expected(name, arguments, valid=VALID, weight=None, aggregation=None, max_length=9):
    """Value and gradient, every token's part weighted and divided as the aggregation says."""
    *_, formula, default = FORMULAS[name]
    aggregation = aggregation or default
    value, gradient = 0.0, np.zeros(valid.shape)
    sequences = valid.any(axis=0).sum()
    for i in np.flatnonzero(valid.any(axis=0)):
        inside = valid[:, i]
        parts, slopes = formula(*(x[inside, i] for x in arguments))
        share = {
            "token-mean": 1 / valid.sum(),
            "sequence-mean-token-mean": 1 / inside.sum() / sequences,
            "sequence-mean-token-sum": 1 / sequences,
            "fixed-length": 1 / sequences / max_length,
        }[aggregation]
        w = np.ones(inside.sum()) if weight is None else weight[inside, i]
        value -= np.sum(w * parts) * share
        # The losses of whole sequences: a token's log π enters every token's part.
        gradient[inside, i] -= (np.mean(w) if name in OF_SEQUENCES else w) * slopes * share
    return value, gradient


@functools.cache
def compiled(name, **options):
    loss, own, *_ = FORMULAS[name]
    return jax.jit(jax.value_and_grad(functools.partial(loss, **(own | options))))


def check(found, wanted):
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-10, atol=1e-13)


@EACH
def test_value_and_gradient_are_those_derived_by_hand(x64, name):
    arguments = batch(of_tokens=name not in OF_SEQUENCES)
    found = compiled(name)(*arguments, VALID)
    check(found, expected(name, arguments))
    assert np.count_nonzero(found[1]) > 2


@pytest.mark.parametrize("aggregation", ["token-mean", "sequence-mean-token-mean", "sequence-mean-token-sum"])
@pytest.mark.parametrize("name", ["dapo", "gspo", "vespo"])
def test_a_weight_multiplies_every_tokens_part_under_every_aggregation(x64, name, aggregation):
    arguments = batch(1, of_tokens=name != "gspo")
    weight = np.where(VALID, np.random.default_rng(2).exponential(size=(T, B)), np.inf)
    found = compiled(name, aggregation=aggregation)(*arguments, VALID, weight_tm1=weight)
    check(found, expected(name, arguments, weight=weight, aggregation=aggregation))


def packed(x, fill):
    """Two streams `[T, B]` with their sequences one after the other in a single one, padding between and after."""
    return np.concatenate([np.append(x[:, i], fill) for i in range(B)])[:, None]


@EACH
def test_packed_sequences_are_what_they_are_apart(name):
    arguments = [x.astype(np.float32) for x in batch(3, of_tokens=name not in OF_SEQUENCES)]
    apart, gradient = compiled(name)(*arguments, VALID)
    segments = packed(np.broadcast_to(np.array([4, 9, 4, 7]), (T, B)), 0)
    together, found = compiled(name)(
        *(packed(x, np.float32(np.nan)) for x in arguments), packed(VALID, False), segment_ids_t=segments
    )
    np.testing.assert_allclose(together, apart, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(found, packed(gradient, 0.0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dapo", "dual clip", "gspo", "gspo-token", "sapo", "vespo", "dppo-kl", "dro"])
@pytest.mark.parametrize("aggregation", ["token-mean", "sequence-mean-token-mean", "sequence-mean-token-sum"])
@pytest.mark.parametrize("log_rho", [-1000.0, 1000.0])
def test_extreme_log_ratios_are_finite_under_every_aggregation(name, aggregation, log_rho):
    log_pi, _, advantage = (np.nan_to_num(x.astype(np.float32)) for x in batch(4))
    value, gradient = compiled(name, aggregation=aggregation)(log_pi, log_pi - np.float32(log_rho), advantage, VALID)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_gspo_token_with_one_advantage_a_sequence_is_gspo(x64):
    arguments = batch(5, of_tokens=False)
    check(compiled("gspo-token")(*arguments, VALID), compiled("gspo")(*arguments, VALID))


def test_two_sided_clipping_is_dual_clipping(x64):
    log_pi, log_mu, a = batch(6)
    rho = np.exp(log_pi - log_mu)
    two_sided = np.minimum(np.minimum(rho, 1.4) * a, np.clip(rho, 0.8, 1.28) * a)
    found = losses.dapo_loss(log_pi, log_mu, a, VALID, dual_clip=1.4)
    np.testing.assert_allclose(found, -np.mean(two_sided[VALID]), rtol=1e-12)


def test_kl_cov_holds_the_tokens_of_the_largest_covariance():
    """By hand: of means 0 and −2 the covariances are 1, 6, 1 and 6."""
    log_pi, a = np.float32([-1.0, 0.0, -3.0, -4.0]), np.float32([1.0, 3.0, -1.0, -3.0])
    held = np.array([False, True, False, True])
    log_mu = log_pi - np.float32(0.2)
    value, gradient = jax.value_and_grad(losses.kl_cov_loss)(log_pi, log_mu, a, share=0.5, beta=2.0)
    rho = np.exp(0.2)
    np.testing.assert_allclose(value, -np.mean(rho * a - 2.0 * 0.2 * held), rtol=1e-5)
    np.testing.assert_allclose(gradient, -(rho * a - 2.0 * held) / 4, rtol=1e-5)


def test_clip_cov_draws_its_share_from_the_tokens_between_its_bounds():
    rng = np.random.default_rng(0)
    log_pi, a = -rng.exponential(size=400).astype(np.float32), rng.normal(size=400).astype(np.float32)
    covariance = (a - a.mean()) * (log_pi - log_pi.mean())
    candidates = (covariance > 0.2) & (covariance < 1.0)
    loss = functools.partial(losses.clip_cov_loss, low=0.2, high=1.0, share=0.05)
    dropped = []
    for seed in (0, 1):
        gradient = jax.grad(loss)(log_pi, log_pi, a, key=jax.random.key(seed))
        missing = np.asarray(gradient) == 0.0
        np.testing.assert_allclose(gradient[~missing], -a[~missing] / 400, rtol=1e-5)
        assert missing.sum() == 20
        assert np.all(candidates[missing])
        dropped.append(missing)
    assert np.any(dropped[0] != dropped[1])
    everything = jax.grad(loss)(log_pi, log_pi, a, key=jax.random.key(0), low=50.0, high=60.0)
    assert np.all(everything != 0.0)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_which_estimates_of_a_divergence_are_unbiased_in_value_and_which_in_gradient(x64, estimator):
    """By enumeration of one token: a mean over what π samples is a sum over all tokens weighted with π."""
    logits, reference = jnp.array([0.3, -0.5, 1.0, 0.0]), jax.nn.log_softmax(jnp.array([0.0, 0.4, -0.2, 1.0]))
    mu = jnp.array([0.4, 0.3, 0.2, 0.1])

    def mean(logits, weights, **options):
        log_pi = jax.nn.log_softmax(logits)
        each = [
            losses.kl_to_reference_loss(
                log_pi[i : i + 1],
                reference[i : i + 1],
                log_mu_tm1=jnp.log(mu[i : i + 1]) if options.get("sampled") else None,
                estimator=estimator,
                exact_gradient=options["exact"],
            )
            for i in range(4)
        ]
        return jnp.sum(jax.lax.stop_gradient(weights) * jnp.stack(each))

    def kl(logits):
        log_pi = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(log_pi) * (log_pi - reference))

    def reverse(logits):
        return jnp.sum(jnp.exp(reference) * (reference - jax.nn.log_softmax(logits)))

    pi = jax.nn.softmax(logits)
    true, slope = jax.value_and_grad(kl)(logits)
    for weights, options in ((pi, {}), (mu, {"sampled": True})):
        value, exact = jax.value_and_grad(functools.partial(mean, exact=True, **options))(logits, weights)
        np.testing.assert_allclose(exact, slope, rtol=1e-10)
        assert np.isclose(value, true, rtol=1e-10) == (estimator != "k2")
    own = jax.grad(functools.partial(mean, exact=False))(logits, pi)
    wanted = {"k1": jnp.zeros(4), "k2": slope, "k3": jax.grad(reverse)(logits)}[estimator]
    np.testing.assert_allclose(own, wanted, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_padding_is_inert_in_the_divergence_from_a_reference(estimator, garbage):
    log_pi, log_reference, _ = (x.astype(np.float32) for x in batch(7))
    value_and_grad = jax.value_and_grad(functools.partial(losses.kl_to_reference_loss, estimator=estimator))
    clean, dirty = (
        value_and_grad(np.where(VALID, log_pi, fill), np.where(VALID, log_reference, fill), VALID)
        for fill in (np.float32(0.0), np.float32(garbage))
    )
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    np.testing.assert_array_equal(dirty[1][~VALID], 0.0)
    far = value_and_grad(np.float32([[-1.0], [-1001.0]]), np.float32([[-1001.0], [-1.0]]))
    assert all(np.all(np.isfinite(x)) for x in far)


def test_sums_and_denominators_of_batches_add_up(x64):
    x = np.where(VALID, np.arange(20.0).reshape(T, B), np.nan)
    for aggregation in ("token-mean", "sequence-mean-token-mean", "sequence-mean-token-sum", "fixed-length"):
        how = dict(aggregation=aggregation, max_length=9 if aggregation == "fixed-length" else None)
        whole = aggregate(x, VALID, **how)
        parts = [aggregate(x[:, i : i + 1], VALID[:, i : i + 1], **how) for i in range(B)]
        np.testing.assert_allclose(sum(part.sum for part in parts), whole.sum, rtol=1e-12)
        np.testing.assert_allclose(sum(part.denominator for part in parts), whole.denominator)
        assert (parts[2].sum, parts[2].denominator, parts[2].mean) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "mean"}, "aggregation must be one of token-mean, .*, but it is 'mean'"),
        ({"aggregation": "fixed-length"}, "max_length must be given with aggregation fixed-length"),
        ({"max_length": 5}, "max_length must be given with aggregation fixed-length, and with no other, but it is 5"),
        ({"dual_clip": 0.9}, r"dual_clip must be greater than 1, but it is 0\.9"),
        ({"weight_tm1": jnp.ones(4)}, r"share one shape, but got: .*weight_tm1 \[4\]"),
        ({"segment_ids_t": jnp.zeros(4, int)}, r"share one shape, but got: .*segment_ids_t \[4\]"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        losses.dapo_loss(jnp.zeros(3), jnp.zeros(3), jnp.zeros(3), **options)


def test_levels_and_divergences_that_do_not_exist_are_named():
    x = jnp.zeros(3)
    with pytest.raises(ValueError, match="divergence must be one of total-variation, kl, but it is 'js'"):
        losses.dppo_loss(x, x, x, divergence="js")
    with pytest.raises(ValueError, match="level must be step or sequence, but it is 'geometric'"):
        losses.dro_loss(x, x, x, beta=1.0, level="geometric")
    with pytest.raises(ValueError, match="estimator must be one of k1, k2, k3, but it is 'k4'"):
        losses.kl_to_reference_loss(x, x, estimator="k4")
    with pytest.raises(TypeError, match="segment_ids_t must hold integers"):
        losses.gspo_loss(x, x, x, segment_ids_t=x)
