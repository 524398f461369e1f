import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.learner import metrics


def _merge(*rows):
    merged = metrics.start(rows[0])
    for row in rows:
        merged = metrics.merge(merged, row)
    return metrics.finish(merged)


def _stack(rows):
    return jax.tree.map(lambda *x: jnp.stack(x), *rows)


def _row(loss, episodes=0.0, episode_return=np.nan, low=1.0, high=1.0, alive=True, update=1):
    return {
        "loss/total": jnp.float32(loss),
        "episodes": jnp.int32(episodes),
        "episode_return": jnp.float32(episode_return),
        "ratio/min": jnp.float32(low),
        "ratio/max": jnp.float32(high),
        "alive": jnp.asarray(alive),
        "update": jnp.int32(update),
    }


def test_losses_are_averaged_episodes_added_and_extremes_kept():
    result = _merge(_row(1.0, low=0.5, high=1.5), _row(3.0, low=0.9, high=2.0, update=2))
    assert result["loss/total"] == 2.0
    assert (result["ratio/min"], result["ratio/max"]) == (0.5, 2.0)
    assert result["update"] == 2


def test_episode_returns_are_weighted_by_episodes_and_updates_without_one_do_not_count():
    result = _merge(_row(0.0, 1, 10.0), _row(0.0), _row(0.0, 3, 2.0))
    assert result["episodes"] == 4
    assert result["episode_return"] == 4.0


def test_histograms_are_averaged_for_each_learner_over_the_updates_it_lived():
    rows = [
        {"alive": jnp.array([True, alive]), "ratio/histogram": jnp.array([[x, 1 - x], [x, 1 - x]])}
        for x, alive in ((0.0, True), (0.5, False))
    ]
    np.testing.assert_allclose(_merge(*rows)["ratio/histogram"], [[0.25, 0.75], [0.0, 1.0]])


def test_extremes_of_an_objective_are_kept_and_its_other_metrics_averaged_whatever_their_type():
    rows = [
        {
            "alive": jnp.array(True),
            "own/error_max": jnp.float32(x),
            "own/hit": jnp.array(x > 2),
            "own/count": jnp.int32(x),
        }
        for x in (1, 9, 2, 2)
    ]
    merged = jax.lax.scan(lambda merged, row: (metrics.merge(merged, row), None), metrics.start(rows[0]), _stack(rows))[
        0
    ]
    result = metrics.finish(merged)
    assert (result["own/error_max"], result["own/hit"], result["own/count"]) == (9.0, 0.25, 3.5)


def test_episodes_and_updates_are_counted_beyond_what_float32_counts_one_by_one():
    merged = metrics.start(_row(0.0)) | {"_weight": jnp.int32(2**24), "episodes": jnp.int32(2**24)}
    result = metrics.merge(merged, _row(0.0, 1, 3.0))
    assert (result["_weight"], result["episodes"]) == (2**24 + 1, 2**24 + 1)


def test_names_of_the_learner_and_tables_of_numbers_are_refused():
    with pytest.raises(ValueError, match="must not be called episodes"):
        metrics.check_own({"episodes": jnp.zeros(())})
    with pytest.raises(ValueError, match=r"own/table must be a number or \[K\], but its shape is \[2, 3\]"):
        metrics.check_own({"own/table": jnp.zeros((2, 3))})


def test_a_return_without_any_episode_is_nan():
    assert np.isnan(_merge(_row(0.0))["episode_return"])


def test_updates_after_a_death_change_nothing_but_the_flag():
    result = _merge(_row(1.0, 2, 5.0), _row(np.nan, 9, 99.0, low=0.0, high=np.inf, alive=False))
    assert result["loss/total"] == 1.0
    assert (result["episodes"], result["episode_return"]) == (2, 5.0)
    assert (result["ratio/min"], result["ratio/max"]) == (1.0, 1.0)
    assert not result["alive"]


def test_a_registered_metric_is_reduced_as_it_says_and_called_by_its_title():
    for reduction, expected in dict(sum=6.0, min=1.0, max=3.0, last=2.0, mean=2.0).items():
        name = f"own/{reduction}_registered"
        registered = metrics.register_metric(name, title="Mine", reduction=reduction, unit="apples")
        assert metrics.metric_of(name) == registered == (name, reduction, "Mine", "apples")
        rows = [{"alive": jnp.array(True), name: jnp.float32(x)} for x in (1, 3, 2)]
        assert _merge(*rows)[name] == expected


def test_a_sum_of_flags_counts_them():
    metrics.register_metric("own/hits", title="Hits", reduction="sum")
    rows = [{"alive": jnp.array(True), "own/hits": jnp.array(x)} for x in (True, False, True, True)]
    assert _merge(*rows)["own/hits"] == 3


def test_a_name_of_isjax_and_an_unknown_reduction_are_not_registered():
    with pytest.raises(ValueError, match=r"must not be called ratio/max, which is one of isjax's own"):
        metrics.register_metric("ratio/max", title="Mine")
    with pytest.raises(ValueError, match="reduction must be one of mean, sum, min, max, last, but it is 'median'"):
        metrics.register_metric("own/error", title="Mine", reduction="median")
