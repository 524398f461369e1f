import dataclasses
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pyarrow.parquet as pq
import pytest

from isjax.cli import main
from isjax.learner import Hyper
from isjax.ops import RATIO_EDGES
from isjax.report import write_report
from isjax.report.comparison import improvements, names_of, write_comparison
from isjax.report.curves import Curves, learning_band, read_curves
from isjax.report.diagnostics import off_policy, optimization
from isjax.report.page import Html, table, value
from isjax.report.run import died, final_returns, learning_curve, speed
from isjax.report.sweep import effect, positions, write_sweep_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SETTINGS = {"learners": 2, "config": {"num_envs": 2, "unroll_length": 4}}


def curves(**columns) -> Curves:
    columns = {name: np.asarray(x, float) for name, x in columns.items()}
    updates, learners = next(iter(columns.values())).shape[:2]
    update = np.arange(1, updates + 1)
    return Curves(update, 8 * update, np.ones(learners, bool), columns)


def figures_in(page: str) -> list[dict]:
    return [json.loads(found) for found in re.findall(r'<script type="application/json">(.*?)</script>', page)]


@pytest.fixture(scope="module")
def other(finished, tmp_path_factory) -> Path:
    """A run as the finished one, but for its seed and its returns."""
    folder = tmp_path_factory.mktemp("runs") / "other"
    shutil.copytree(finished, folder)
    settings, summary = (json.loads((folder / name).read_text()) for name in ("config.json", "summary.json"))
    for content in (settings, summary):
        del content["checksums"]
    settings["seed"] = 7
    summary["final_return"]["per_learner"] = [2.0, None, 3.0]
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture(scope="module")
def sweep(finished, plan, tmp_path_factory) -> Path:
    """A sweep of three settings of one learner, whose group is the finished run."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    shutil.copytree(finished, folder / "group-0")
    rates = [1e-4, 1e-3, 1e-2]
    varied = dataclasses.replace(plan, replicas=1, hyper=Hyper(learning_rate=np.array(rates)))
    settings = [{"learning_rate": f"{rate:g}"} for rate in rates]
    groups = [{"settings": [0, 1, 2], "plan": varied.as_json()}]
    (folder / "sweep.json").write_text(
        json.dumps({"command": "isjax sweep --vary …", "settings": settings, "groups": groups})
    )
    ranked = [
        {"rank": rank, "setting": setting, "values": settings[setting], "iqm": iqm, "ci95": None, "learners": 1}
        | {"alive": 1, "updates": 50, "given_up": iqm is None, "train": "isjax train …"}
        for rank, setting, iqm in ((1, 2, 0.5), (2, 0, 0.25), (3, 1, None))
    ]
    summary = {"status": "finished", "learners": 3, "alive": 3, "compile_s": 1.0, "train_s": 1.0, "wall_s": 2.5}
    summary |= {"env_steps_per_s": 1000.0, "device": "cpu", "settings": ranked}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture(scope="module")
def pages(finished, other, sweep, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {
        "run": write_report(finished, folder / "run.html"),
        "comparison": write_comparison([finished, other], folder / "comparison.html"),
        "sweep": write_sweep_report(sweep, folder / "sweep.html"),
    }


HEADINGS = {
    "run": [
        "Learning curve",
        "Final returns",
        "Off-policy diagnostics",
        "Optimization",
        "Who died",
        "Speed",
        "Configuration",
    ],
    "comparison": ["Learning curves", "Final returns", "Probability of improvement", "Differences", "Commands"],
    "sweep": ["Ranking", "Best settings", "What each field does", "Commands"],
}


@pytest.mark.parametrize("kind", HEADINGS)
def test_a_page_needs_no_network_and_stays_small(pages, kind):
    page = pages[kind].read_text()
    assert len(page.encode()) < 8e6
    own = page.replace(page[page.index("<script>") : page.index("</script>")], "")
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|fetch\(""", own)
    assert re.findall("<h2>(.*?)</h2>", own) == HEADINGS[kind]


@pytest.mark.parametrize("kind", HEADINGS)
def test_plotly_knows_everything_that_figures_say(pages, kind):
    figures = figures_in(pages[kind].read_text())
    assert len(figures) >= 3
    for figure in figures:
        go.Figure(figure)  # refuses what it does not know


@pytest.mark.skipif(CHROMIUM is None, reason="pages are drawn by a browser, and no chromium is installed")
@pytest.mark.parametrize("kind", HEADINGS)
def test_a_browser_draws_every_figure_without_an_error(pages, kind, tmp_path):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom", pages[kind].as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert [line for line in result.stderr.splitlines() if "CONSOLE" in line] == []
    drawn = len(re.findall('<div class="plot js-plotly-plot"[^>]*><div class="plot-container', result.stdout))
    assert drawn == len(figures_in(pages[kind].read_text()))


def test_the_page_of_a_run_that_is_still_running_can_be_built(finished, tmp_path):
    for name in ("config.json", "metrics.parquet"):
        shutil.copy(finished / name, tmp_path / name)
    page = write_report(tmp_path).read_text()
    assert "There is no evaluation" in page
    assert "50 updates" in page
    assert "Known once the run has come to an end" in page


def test_names_in_a_page_are_text_and_end_no_script(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    settings = json.loads((folder / "config.json").read_text())
    del settings["checksums"]
    settings["command"] = settings["config"]["env"] = "</script><b>$title"
    (folder / "config.json").write_text(json.dumps(settings))
    page = write_comparison([finished, folder], tmp_path / "page.html").read_text()
    assert "</script><b>" not in page
    assert html.escape("</script><b>$title") in page


def test_long_tables_are_thinned_and_keep_their_end(finished, monkeypatch):
    monkeypatch.setattr("isjax.report.curves.POINTS", 4)
    thin = read_curves(finished, {"learners": 3, "config": SETTINGS["config"]})
    assert thin.update.tolist() == [4, 20, 36, 50]
    assert thin.columns["episode_return"].shape == (4, 3)
    full = read_curves(finished, {"learners": 3, "config": SETTINGS["config"]}, ["loss/value"])
    assert set(full.columns) == {"loss/value", "alive"}


def test_extremes_of_the_rows_that_are_left_out_are_kept(finished, monkeypatch):
    monkeypatch.setattr("isjax.report.curves.POINTS", 4)
    settings = {"learners": 3, "config": SETTINGS["config"]}
    thin, rows = read_curves(finished, settings), pq.read_table(finished / "metrics.parquet").to_pandas()
    for name, reduce in (("ratio/max", "max"), ("ratio/min", "min")):
        groups = np.searchsorted(thin.update, rows["update"])
        expected = rows.groupby([groups, "learner"])[name].agg(reduce).unstack()
        np.testing.assert_array_equal(thin.columns[name], expected)
        assert (rows.groupby("learner")[name].agg(reduce) == getattr(thin.columns[name], reduce)(axis=0)).all()


def test_the_curve_starts_where_everyone_has_a_return_and_fills_gaps():
    given = curves(episode_return=[[np.nan, 1.0], [2.0, np.nan], [np.nan, 4.0]])
    caption, figure = learning_curve(given)
    assert "2 learners" in caption
    assert [trace["y"] for trace in figures_in(figure)[0]["data"][:2]] == [[2, 2], [1, 4]]
    band = learning_band(given, np.array([1]))
    np.testing.assert_array_equal(band.middle, [1.0, 1.0, 4.0])


def test_without_an_episode_there_is_a_sentence_in_place_of_a_curve():
    caption, figure = learning_curve(curves(episode_return=[[np.nan, np.nan]]))
    assert figure == ""
    assert "No learner" in caption


def test_the_dead_are_listed_and_not_drawn():
    given = curves(episode_return=[[1.0, 900.0]], died_at=[[-1, 7]])._replace(alive=np.array([True, False]))
    assert "900" not in learning_curve(given)[1]
    caption, body = died({}, given)
    assert caption.startswith("1 of 2")
    assert "<li>learner 1 at update 7</li>" in body
    assert died({"died": []}, given)[0].startswith("Nobody")


def test_the_dead_are_listed_with_what_they_died_of_where_that_is_known():
    given = curves(episode_return=[[1.0, 2.0]])
    body = died({"died": [{"learner": 1, "update": 7, "cause": "no legal action"}]}, given)[1]
    assert "<li>learner 1 at update 7: no legal action</li>" in body


def test_of_many_dead_the_first_are_named_and_all_are_counted():
    given = curves(episode_return=np.ones((4, 80)))
    gone = [{"learner": i, "update": 2} for i in range(70)]
    caption, body = died({"died": gone}, given)
    assert caption.startswith("70 of 80")
    assert "<li>and 20 more</li>" in body
    assert figures_in(body)[0]["data"][0]["y"] == [80, 10, 10, 10]


def test_diagnostics_that_are_missing_are_left_out_and_constant_ones_are_said():
    given = curves(
        **{"ratio/min": [[0.5, 0.6]], "ratio/max": [[np.nan, np.nan]], "ratio/lag": [[2, 2]], "other": [[1, 2]]}
    )
    panels = off_policy(given, {})
    assert len(panels.figures) == 1
    assert panels.constant == ["lag 2"]
    assert [len(figures_in(figure)) for figure in optimization(given, {}).figures] == [1]


def test_clip_fractions_that_are_the_same_share_a_line_and_others_have_their_own():
    same = [[0.1, 0.2], [0.3, 0.4]]
    given = {"ratio/clipped_rho": same, "ratio/clipped_c": same, "ratio/clipped": [[0.0, 0.0], [0.5, 0.5]]}
    (figure,) = off_policy(curves(**given), {}).figures
    lines = [trace["name"] for trace in figures_in(figure)[0]["data"] if trace["mode"] == "lines"]
    assert lines == ["above ρ̄ and above c̄", "by the loss"]


def test_the_histogram_of_ratios_is_a_mean_over_learners_by_bin_and_row(finished):
    shares = np.zeros((2, 3, len(RATIO_EDGES) + 1))
    shares[:, :, 9], shares[:, 0, 18] = 1.0, 0.001
    shares[0, 2] = 7.0
    given = curves(**{"ratio/histogram": shares})._replace(alive=np.array([True, True, False]))
    assert off_policy(given._replace(alive=np.zeros(3, bool)), {}).figures == []
    (figure,) = off_policy(given, {}).figures
    (drawn,) = figures_in(figure)
    (trace,) = drawn["data"]
    assert trace["x"] == [8, 16]
    np.testing.assert_allclose(trace["z"][9], [0, 0])
    np.testing.assert_allclose(trace["z"][18], np.log10([0.0005, 0.0005]), rtol=1e-4)
    assert trace["z"][0] == [-4, -4]
    assert trace["customdata"][18][0] == ["above 100", 0.05]
    assert trace["customdata"][9][1] == ["0.99 to 1.01", 100]
    ticks = dict(zip(drawn["layout"]["yaxis"]["ticktext"], drawn["layout"]["yaxis"]["tickvals"], strict=True))
    assert (ticks["0.01"], ticks["1"], ticks["100"]) == (0.5, 9, 17.5)
    read = read_curves(finished, {"learners": 3, "config": SETTINGS["config"]}).columns["ratio/histogram"]
    np.testing.assert_allclose(read.sum(2), 1.0, rtol=1e-5)


@pytest.mark.parametrize(("bound", "marked"), [(0.5, True), (50.0, False), ([0.5, 0.6], False)])
def test_a_bound_is_marked_where_all_share_it_and_come_near_it(bound, marked):
    panels = optimization(curves(**{"loss/grad_norm": [[1.0, 2.0]]}), {"max_grad_norm": bound})
    assert ("clipped above 0.5" in panels.figures[0]) == marked


def test_ratios_get_a_logarithmic_scale_where_they_need_one():
    for least, scale in ((0.5, None), (1e-9, "log")):
        (figure,) = off_policy(curves(**{"ratio/min": [[least, 0.6]], "ratio/max": [[1.2, 1.3]]}), {"clip_rho": 1.0})[0]
        assert figures_in(figure)[0]["layout"]["yaxis"].get("type") == scale
        assert ("is drawn there" in figure) == (scale == "log")
        assert "ρ̄ = 1" in json.dumps(figures_in(figure), ensure_ascii=False)


def test_values_over_many_decades_get_a_logarithmic_scale():
    (wide,) = optimization(curves(**{"loss/value": [[1e-3, 1.0, 1e6]]}), {}).figures
    (signed,) = optimization(curves(**{"loss/value": [[-1e-3, 1.0, 1e6]]}), {}).figures
    (narrow,) = optimization(curves(**{"loss/value": [[1.0, 2.0, 3.0]]}), {}).figures
    assert figures_in(wide)[0]["layout"]["yaxis"]["type"] == "log"
    for figure in (signed, narrow):
        assert "type" not in figures_in(figure)[0]["layout"]["yaxis"]


def test_returns_that_are_all_the_same_are_a_sentence():
    same = {"final_return": {"per_learner": [500.0, None, 500.0]}}
    assert final_returns(same) == ("The same for all 2 learners alive: 500.0.", "")
    other = {"final_return": {"per_learner": [500.0, None, 400.0], "iqm": 450.0, "ci95": None}}
    assert "histogram" in final_returns(other)[1]


def test_speed_says_where_the_time_went():
    summary = {"env_steps_per_s": 2e4, "env_steps_per_learner": 100, "learners": 2, "updates": 50}
    body = speed(summary | {"compile_s": 1.0, "train_s": 5.0, "wall_s": 6.5, "device": "cpu"})[1]
    assert "0.5 s" in body
    assert "<td>steps per second of a learner</td><td>10 k</td>" in body


def test_a_setting_that_differs_between_learners_is_a_range():
    assert value([0.1, 0.1, 0.3]) == "0.1 to 0.3, 2 values"
    assert value([0.1, 0.1]) == "0.1"
    assert value([64, 64]) == "64, 64"
    assert value([]) == "none"


def test_cells_are_text_unless_they_say_that_they_are_html():
    assert "<td>&lt;b&gt;</td><td><b></td>" in table([("<b>", Html("<b>"))])


def test_a_comparison_shows_the_settings_that_differ_and_hides_the_others(pages):
    page = pages["comparison"].read_text()
    differences = page[page.index("<h2>Differences") : page.index("<details>")]
    assert re.findall(r"<tr><td>(.*?)</td>", differences) == ["seed"]
    assert "<td>1</td><td>7</td>" in differences


def test_an_improvement_and_its_opposite_add_up_to_one(pages):
    page = pages["comparison"].read_text()
    pairs = page[page.index('class="pairs') : page.index("<h2>Differences")]
    one, other = (float(x) for x in re.findall(r"<b>([\d.]+)</b>", pairs))
    assert one + other == pytest.approx(1)


def test_runs_without_an_evaluation_are_compared_by_their_curves(finished, tmp_path):
    for name in ("config.json", "metrics.parquet"):
        shutil.copy(finished / name, tmp_path / name)
    page = write_comparison([finished, tmp_path], tmp_path / "page.html").read_text()
    assert "At least two runs must have come to their end" in page
    assert len([t for t in figures_in(page)[0]["data"] if t["mode"] == "lines"]) == 2
    assert improvements([])[1] == ""


def test_folders_of_one_name_are_told_apart_by_their_paths():
    assert names_of([Path("/a/x/run"), Path("/a/y/run"), Path("/a/other")]) == ["x/run", "y/run", "other"]


def test_a_sweep_is_ranked_linked_and_drawn_by_setting(pages, sweep):
    page = pages["sweep"].read_text()
    assert re.findall(r"<tr><td>(\d)</td><td>(.*?)</td>", page) == [("1", "0.01"), ("2", "0.0001"), ("3", "0.001")]
    assert "href=" not in page[page.index("<h2>Ranking") :]  # the page lies elsewhere
    assert 'href="group-0/report.html"' in write_sweep_report(sweep).read_text()
    lines = {trace["name"]: trace["y"] for trace in figures_in(page)[1]["data"] if trace["mode"] == "lines"}
    settings = {"learners": 3, "config": SETTINGS["config"]}
    expected = learning_band(read_curves(sweep / "group-0", settings), np.array([2]))
    np.testing.assert_allclose(lines["1: learning_rate 0.01"], expected.middle, rtol=1e-4)


def test_effects_are_means_over_the_settings_that_share_a_value():
    rows = [
        {"values": {"a": a, "b": b}, "iqm": iqm, "given_up": False}
        for a, b, iqm in (("10", "x", 1.0), ("10", "y", 3.0), ("9", "x", 5.0), ("9", "y", 9.0))
    ]
    mean, points = figures_in(effect("a", rows))[0]["data"]
    assert (mean["x"], mean["y"]) == ([0, 1], [7, 2])  # 9 comes before 10
    assert points["y"] == [1, 3, 5, 9]


def test_many_values_of_a_field_are_a_scale():
    assert positions([f"{10.0**-k:g}" for k in range(20)])[1] == {"type": "log"}
    assert positions([str(1 + k / 100) for k in range(20)])[1] == {}
    assert positions(["b", "a", "b"])[1]["ticktext"] == ["b", "a"]


def test_the_command_writes_beside_what_it_reports_on_or_where_it_is_told(
    finished, other, sweep, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(finished), str(other)]) == 0
    assert main(["report", str(finished), str(other), "--out", "two.html"]) == 0
    assert main(["report", str(other)]) == 0
    assert main(["report", str(sweep)]) == 0
    said = capsys.readouterr().out.split()
    assert said == ["comparison.html", "two.html", str(other / "report.html"), str(sweep / "report.html")]
    assert all((tmp_path / path).stat().st_size > 4e6 for path in said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "DIR is missing"),
        (["{run}", "{run}"], "is there twice"),
        (["{run}", "{sweep}"], "is a sweep: it has a page of its own"),
        (["{run}", "--out", "{run}"], "--out must be a file in a folder that exists"),
        (["{run}", "--out", "{run}/nowhere/page.html"], "--out must be a file in a folder that exists"),
        (["{run}", "{run}-none"], "holds no run"),
        (["{run}"] * 33, "33 runs are too many"),
    ],
)
def test_what_cannot_be_reported_on_is_refused_in_one_line(finished, sweep, capsys, arguments, message):
    assert main(["report", *(each.format(run=finished, sweep=sweep) for each in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_a_sweep_without_an_end_is_refused(sweep, tmp_path):
    shutil.copy(sweep / "sweep.json", tmp_path)
    with pytest.raises(ValueError, match="must be a sweep that has come to its end"):
        write_sweep_report(tmp_path)
