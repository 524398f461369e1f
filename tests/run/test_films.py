"""Films that a run leaves on its way."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from isjax.environments.gymnax import Gymnax
from isjax.report import write_report
from isjax.run.files import SUMMARY
from isjax.run.train import Run

EVERY = 100


def test_the_best_learner_of_the_moment_is_filmed_now_and_then_and_nothing_else_changes(
    plan, options, finished, tmp_path, monkeypatch
):
    def write_rewards(self, states, returns, path):
        path.with_suffix(".html").write_text(f"<p>{len(states)} states</p>")

    monkeypatch.setattr(Gymnax, "draw", write_rewards)
    folder = tmp_path / "filmed"
    Run(plan, folder, options=dataclasses.replace(options, film=EVERY), write_page=write_report).train()
    table = pq.read_table(folder / "metrics.parquet")
    assert table.equals(pq.read_table(finished / "metrics.parquet"))
    returns = table.to_pandas().pivot(index="update", columns="learner", values="episode_return")
    updates, steps = returns.index.to_numpy(), returns.index.to_numpy() * plan.config.steps_per_update
    due = updates[np.diff(steps // EVERY, prepend=0) > 0]
    assert len(due) == 4
    expected = [f"update-{update:09d}-learner-{returns.loc[update].idxmax()}.html" for update in due]
    assert sorted(path.name for path in (folder / "films").iterdir()) == expected
    page = (folder / "report.html").read_text()
    assert [page.count(f"learner {name[-6]} at update {int(name[7:16])}<") for name in expected] == [1] * 4
    assert page.count("9 states") == 4  # of Catch, whose board has ten rows


def test_a_film_that_cannot_be_made_says_why_and_the_run_goes_on(plan, options, tmp_path, monkeypatch, capsys):
    def fail(self, states, returns, path):
        raise ImportError("there is no brush")

    monkeypatch.setattr(Gymnax, "draw", fail)
    Run(plan, tmp_path / "run", options=dataclasses.replace(options, film=EVERY, quiet=False)).train()
    said = capsys.readouterr().err
    assert said.count("No film at update") == 4
    assert "Catch-bsuite cannot be drawn here: there is no brush" in said
    assert (tmp_path / "run" / SUMMARY).exists()


def test_films_are_made_every_so_many_steps_or_never(options):
    with pytest.raises(ValueError, match=r"film must be at least 0, but it is -1"):
        dataclasses.replace(options, film=-1)
