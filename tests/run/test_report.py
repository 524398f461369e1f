import re
import shutil

import numpy as np

from isjax.run.report import Curves, diagnostics, died, final_returns, learning_curve, read_curves, write_report
from isjax.run.table import read_metrics

SETTINGS = {"learners": 2, "config": {"num_envs": 2, "unroll_length": 4}}


def curves(**columns) -> Curves:
    columns = {name: np.asarray(x, float) for name, x in columns.items()}
    updates, learners = next(iter(columns.values())).shape
    update = np.arange(1, updates + 1)
    return Curves(update, 8 * update, np.ones(learners, bool), columns)


def test_the_page_needs_no_network_and_stays_small(finished):
    page = (finished / "report.html").read_text()
    assert len(page.encode()) < 8e6
    own = page.replace(page[page.index("<script>") : page.index("</script>")], "")
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", own)
    for heading in ("Learning curve", "Final returns", "Off-policy diagnostics", "Who died", "Configuration"):
        assert f"<h2>{heading}</h2>" in own
    assert own.count("Plotly.newPlot") in (1 + 6, 2 + 6)  # a histogram only where returns differ


def test_the_page_of_a_run_that_is_still_running_can_be_built(finished, tmp_path):
    for name in ("config.json", "metrics.parquet"):
        shutil.copy(finished / name, tmp_path / name)
    page = write_report(tmp_path).read_text()
    assert "There is no evaluation" in page
    assert "50 updates" in page


def test_long_tables_are_thinned_and_keep_their_end(finished, monkeypatch):
    monkeypatch.setattr("isjax.run.report.POINTS", 4)
    thin = read_curves(read_metrics(finished), {"learners": 3, "config": SETTINGS["config"]})
    assert thin.update.tolist() == [4, 20, 36, 50]
    assert thin.columns["episode_return"].shape == (4, 3)


def test_the_curve_starts_where_everyone_has_a_return_and_fills_gaps():
    returns = [[np.nan, 1.0], [2.0, np.nan], [np.nan, 4.0]]
    caption, figure = learning_curve(curves(episode_return=returns))
    assert "2 learners" in caption
    assert '"y":[2.0,2.0]' in figure.replace(" ", "")
    assert '"y":[1.0,4.0]' in figure.replace(" ", "")


def test_without_an_episode_there_is_a_sentence_in_place_of_a_curve():
    caption, figure = learning_curve(curves(episode_return=[[np.nan, np.nan]]))
    assert figure == ""
    assert "No learner" in caption


def test_the_dead_are_listed_and_not_drawn():
    given = curves(episode_return=[[1.0, 900.0]], died_at=[[-1, 7]])._replace(alive=np.array([True, False]))
    assert "900" not in learning_curve(given)[1]
    assert "<td>1</td><td>7</td>" in died({}, given)[1]
    assert died({"died": []}, given)[0].startswith("Nobody")


def test_diagnostics_that_are_missing_are_left_out():
    assert len(diagnostics(curves(**{"ratio/min": [[0.5, 0.6]], "ratio/max": [[np.nan, np.nan]]}))) == 1


def test_returns_that_are_all_the_same_are_a_sentence():
    same = {"final_return": {"per_learner": [500.0, None, 500.0]}}
    assert final_returns(same) == ("The same for all 2 learners alive: 500.0.", "")
    other = {"final_return": {"per_learner": [500.0, None, 400.0]}}
    assert "histogram" in final_returns(other)[1]
