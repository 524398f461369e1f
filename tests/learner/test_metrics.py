import jax.numpy as jnp
import numpy as np

from isjax.learner import metrics


def _merge(*rows):
    merged = metrics.start(rows[0])
    for row in rows:
        merged = metrics.merge(merged, row)
    return metrics.finish(merged)


def _row(loss, episodes=0.0, episode_return=np.nan, low=1.0, high=1.0, alive=True, update=1):
    return {
        "loss/total": jnp.float32(loss),
        "episodes": jnp.float32(episodes),
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


def test_a_return_without_any_episode_is_nan():
    assert np.isnan(_merge(_row(0.0))["episode_return"])


def test_updates_after_a_death_change_nothing_but_the_flag():
    result = _merge(_row(1.0, 2, 5.0), _row(np.nan, 9, 99.0, low=0.0, high=np.inf, alive=False))
    assert result["loss/total"] == 1.0
    assert (result["episodes"], result["episode_return"]) == (2, 5.0)
    assert (result["ratio/min"], result["ratio/max"]) == (1.0, 1.0)
    assert not result["alive"]
