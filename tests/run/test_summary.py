import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isjax.learner import Config, Hyper
from isjax.run.format import headline, number, rate
from isjax.run.plan import Plan, evaluation_key, training_key
from isjax.run.progress import describe
from isjax.run.results import LearnerResults
from isjax.run.scores import final_return, setting_scores
from isjax.run.summary import summarize
from isjax.stats import interquartile_mean
from isjax.stats.summaries import middle_mean
from isjax.types import Cause

KEY = jax.random.key(0)


def test_learners_without_a_score_count_nowhere_and_are_null():
    found = final_return(np.array([2.0, np.nan, 4.0]), KEY)
    assert found["per_learner"] == [2.0, None, 4.0]
    assert found["mean"] == 3.0
    assert found["iqm"] == 3.0
    low, high = found["ci95"]
    assert 2.0 <= low <= high <= 4.0


def test_one_learner_has_no_interval_and_none_alive_no_numbers():
    assert final_return(np.array([2.0]), KEY)["ci95"] is None
    nobody = final_return(np.array([np.nan]), KEY)
    assert nobody == {"mean": None, "iqm": None, "ci95": None, "per_learner": [None]}


def test_the_dead_count_as_the_worst_where_settings_are_ranked():
    settings = np.repeat([0, 1], 4)
    scores = np.array([1.0, 2.0, 3.0, np.nan, 9.0, 9.0, np.nan, np.nan])
    assert setting_scores(settings, scores) == {0: 1.5, 1: -np.inf}


def test_evaluations_on_the_way_have_keys_of_their_own():
    plan = Plan(config=Config(), hyper=Hyper())
    keys = [evaluation_key(plan, update) for update in (None, plan.config.updates, 10, 20)]
    data = [jax.random.key_data(key).tolist() for key in keys]
    assert data[0] == data[1]
    assert len({tuple(each) for each in data}) == 3


def test_no_learner_of_one_evaluation_plays_on_the_key_of_another():
    """The key of an evaluation on the way was that of a learner of the last one."""
    plan = Plan(config=Config(), hyper=Hyper())
    last = jax.vmap(lambda i: jax.random.fold_in(evaluation_key(plan), i))(jnp.arange(32))
    on_the_way = jnp.stack([evaluation_key(plan, update) for update in range(32)])
    both = np.concatenate([jax.random.key_data(last), jax.random.key_data(on_the_way)])
    assert len(np.unique(both, axis=0)) == 64


def test_evaluation_draws_from_keys_that_no_learner_trains_on():
    plan = Plan(config=Config(), hyper=Hyper(), learners=512, seed=5)
    index = jnp.arange(plan.learners)
    trained = jax.vmap(lambda i: jax.random.fold_in(training_key(plan), i))(index)
    evaluated = jax.vmap(lambda i: jax.random.fold_in(evaluation_key(plan), i))(index)
    every = np.concatenate([jax.random.key_data(trained), jax.random.key_data(evaluated)])
    assert len(np.unique(every, axis=0)) == 2 * plan.learners


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 64, 101])
def test_the_mean_shown_while_training_is_the_interquartile_mean(size):
    x = np.random.default_rng(0).normal(size=size).astype(np.float32)
    assert middle_mean(x) == pytest.approx(float(interquartile_mean(jnp.asarray(x))), rel=1e-5)


def test_numbers_are_short():
    assert [number(x) for x in (None, np.nan, 0.98765, 499.96, -89.3, 1e6)] == [
        "—",
        "—",
        "0.988",
        "500.0",
        "-89.3",
        "1e+06",
    ]
    assert [rate(x) for x in (None, 950.0, 340_000.0, 1_020_000.0)] == ["—", "950", "340 k", "1.02 M"]


def test_a_chunk_in_words_leaves_out_the_dead_and_those_without_episodes():
    metrics = {
        "alive": np.array([True, False, True]),
        "episodes": np.array([1.0, 1.0, 0.0]),
        "episode_return": np.array([21.0, 900.0, np.nan]),
    }
    assert describe(2e6, metrics) == "return 21.0  alive 2/3  2.00 M steps/s"


def test_the_headline_says_how_many_learners_were_left_out():
    final = {"mean": 2.0, "iqm": 2.0, "ci95": [1.0, 3.0], "per_learner": [1.0, None, 3.0]}
    seconds = {"env_steps_per_s": 1e6, "compile_s": 1.0, "wall_s": 2.0}
    lines = dict(headline({"final_return": final, "learners": 3, "alive": 2, **seconds}))
    assert lines["Alive"] == "2 of 3 learners   1 left out of the above"
    assert lines["IQM return"] == "2   95 % interval 1 to 3"


def _results(**changed):
    arrays = {
        "last_scores": np.array([1.0, np.nan]),
        "evaluated_at": np.array([9, 9]),
        "alive": np.array([True, False]),
        "died_at": np.array([-1, 4]),
        "died_of": np.array([Cause.NONE, Cause.NOT_FINITE]),
        "given_up": np.zeros(2, int),
        "updates": np.array([9, 3]),
        "stopped_at": np.full(2, -1),
    }
    return LearnerResults(**arrays | changed, seconds={})


def test_a_summary_says_which_learners_had_no_legal_action_and_which_episodes_had_no_end():
    plan = Plan(config=Config(), hyper=Hyper(), learners=2)
    seconds = {"compile_s": 1.0, "train_s": 1.0, "wall_s": 2.0}
    usual = summarize(plan, _results(), 9, jax.devices(), seconds)
    assert usual["died"] == [{"learner": 1, "update": 4}]
    assert "episodes_given_up" not in usual
    told = _results(died_of=np.array([Cause.NONE, Cause.NO_LEGAL_ACTION]), given_up=np.array([3, 0]))
    found = summarize(plan, told, 9, jax.devices(), seconds)
    assert found["died"] == [{"learner": 1, "update": 4, "cause": "no legal action"}]
    assert found["episodes_given_up"] == 3
    rows = dict(headline(found | {"final_return": final_return(told.scores, KEY)}))
    assert rows["Given up"].startswith("3 evaluated episodes without an end")
    assert rows["No legal action"] == "1 of the dead came to a state without any"
