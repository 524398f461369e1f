"""Experiments have their records, say what these hold, run, and agree with what is known exactly."""

import hashlib
import importlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats

from experiments import __main__ as rerun
from experiments import index
from experiments.blackjack import chain, game
from experiments.many_seeds import papers
from experiments.off_policy_prediction import baird, collision
from experiments.policy_lag import run as lag_run
from experiments.state_ratios import processes
from experiments.tabular import gridworlds, learners, triad
from experiments.tabular import measures as tabular
from experiments.variance_bomb import page
from isjax import ops

FOLDERS = [index.ROOT / name for name in index.names()]
EACH = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def record(name):
    return json.loads((index.ROOT / name / "result.json").read_text())


def fingerprint():
    """Of every file that an experiment could write."""
    files = sorted(path for path in index.ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def between(found, place, value, slack=0.5):
    """Whether a value lies in a summary's interval, widened on both sides by a share of its width."""
    low, high = found["low"][place], found["high"][place]
    return low - slack * (high - low) <= value <= high + slack * (high - low)


@EACH
def test_every_folder_holds_record_and_figure(folder):
    result = record(folder.name)
    assert set(result) >= {"question", "answer", "minutes", "versions"}
    assert any("seed" in name for name in result)
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r"\d", result["answer"]), "an answer has numbers"


@EACH
def test_answers_are_those_of_the_records(folder):
    experiment = importlib.import_module(f"experiments.{folder.name}.run").EXPERIMENT
    result = record(folder.name)
    stands = experiment.question, experiment.answer(result), experiment.details(result)
    assert (result["question"], result["answer"], result["details"]) == stands
    assert not re.search(r"\. [A-Z]", result["answer"]), "an answer is one sentence"


def test_the_index_is_that_of_the_records():
    readme = index.README.read_text()
    assert index.indexed(readme) == readme
    for folder in FOLDERS:
        assert readme.count(f"python -m experiments.{folder.name}.run") == 1
        assert readme.count(f"({folder.name}/figure.png)") == readme.count(f'src="{folder.name}/figure.png"') == 1


@EACH
@pytest.mark.timeout(300)
def test_a_quick_run_ends_well_and_writes_nothing(folder):
    before = fingerprint()
    command = [sys.executable, "-m", f"experiments.{folder.name}.run", "--quick"]
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        command, cwd=index.ROOT.parent, env=environment, capture_output=True, text=True, timeout=280
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip(), "an answer is printed"
    assert fingerprint() == before


def test_experiments_are_listed_by_name(capsys):
    assert rerun.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == index.names()


def test_an_unknown_experiment_is_refused_with_the_names_there_are(capsys):
    with pytest.raises(SystemExit, match="2"):
        rerun.main(["no-such-thing"])
    error = capsys.readouterr().err
    assert "no-such-thing" in error
    assert all(name in error for name in index.names())


def test_chosen_experiments_run_each_in_a_process_and_failures_are_told(monkeypatch, capsys):
    calls = []

    def fake(command):
        calls.append(command[1:])
        return subprocess.CompletedProcess(command, returncode=len(calls) - 1)

    monkeypatch.setattr(rerun.subprocess, "run", fake)
    assert rerun.main(["drift", "blackjack", "--quick"]) == 1
    assert calls == [["-m", f"experiments.{name}.run", "--quick"] for name in ("drift", "blackjack")]
    assert "failed: blackjack" in capsys.readouterr().err


def test_blackjack_has_its_known_value_and_variance():
    exact = game.exact()
    assert exact.value == pytest.approx(-0.2772042, abs=5e-8)
    assert exact.variance == pytest.approx(10.156213, abs=5e-7)
    assert exact.second_moment == pytest.approx(10.790588, abs=5e-7)
    assert record("blackjack")["blackjack"]["exact"] == pytest.approx(exact._asdict())


def test_errors_of_blackjack_are_those_known():
    found = record("blackjack")["blackjack"]
    exact, n = game.exact(), found["episodes"]
    assert between(found["weighted"], 0, exact.weighted_error_of_one)
    for count, error in ((10, 0.519), (100, 0.0896), (1000, 0.00943), (10_000, 0.00095)):
        assert between(found["weighted"], n.index(count), error), count
        assert between(found["ordinary"], n.index(count), exact.variance / count), count


def test_infinite_variance_never_settles_where_weighted_estimates_have():
    found = record("blackjack")["infinite_variance"]
    assert np.array(found["weighted"])[:, -1] == pytest.approx(1.0, abs=1e-6)
    assert np.max(np.abs(np.array(found["ordinary"])[:, -1] - 1.0)) > 0.1


def test_values_of_the_chain_are_those_of_all_its_paths():
    """Two steps from the middle, by hand: forward with odds 0.74, rewards of a quarter a place."""
    forward = 0.8 * 0.9 + 0.2 * 0.1
    first = forward * 0.75 + (1 - forward) * 0.25
    second = forward**2 * 1.0 + 2 * forward * (1 - forward) * 0.5
    assert chain.true_value(2, 0.9) == pytest.approx(first + 0.9 * second)


def test_no_drift_breaks_its_bound_and_the_trap_attains_it():
    found = record("drift")["drift"]
    assert found["violations"] == 0
    t = np.arange(len(found["bound"]))
    np.testing.assert_allclose(found["bound"], 2 * (1 - (1 - found["epsilon"]) ** t), atol=1e-12)
    np.testing.assert_allclose(found["trap"], found["bound"], atol=1e-12)


def test_no_improvement_breaks_its_bound():
    assert record("drift")["steps"]["violations"] == {"surrogate": 0, "trust_region": 0}


def test_the_collision_task_has_its_published_values():
    published = [0.4783, 0.5314, 0.5905, 0.6561, 0.729, 0.81, 0.9, 1.0]
    np.testing.assert_allclose(collision.exact(collision.target(1.0)), published, atol=5e-5)
    assert record("off_policy_prediction")["collision"]["exact"] == pytest.approx(published, abs=5e-5)


def test_vtrace_ends_at_the_bias_of_its_fixed_point():
    found = record("off_policy_prediction")["soft collision"]
    assert found["V-trace"]["error"]["value"][-1] == pytest.approx(found["vtrace_bias"], rel=0.3)


def test_methods_diverge_with_the_features_of_baird_and_converge_with_a_table():
    result = record("off_policy_prediction")
    for name in ("one-step TD", "per-decision IS", "V-trace", "Retrace", "tree backup"):
        assert result["baird"][name]["low"][-1] > 5 * result["baird"][name]["value"][0], name
        assert result["baird_table"][name]["high"][-1] < 0.1, name


def test_the_expected_update_of_td_grows_seven_times_as_fast_as_that_of_vtrace():
    assert baird.growth("one-step TD", 0.0) == pytest.approx(7 * baird.growth("V-trace", 0.0))
    assert baird.growth("per-decision IS", 0.0) == pytest.approx(baird.growth("one-step TD", 0.0))
    assert baird.growth("per-decision IS", 1.0) == pytest.approx(0.0, abs=1e-9)


def test_gridworlds_have_the_values_of_the_book():
    """Example 4.1's figures for the random policy, and example 6.6's paths."""
    grid = gridworlds.corners()
    q = gridworlds.action_values(grid, np.full((16, 4), 0.25))
    book = [0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0]
    np.testing.assert_allclose(q.mean(-1), book, atol=1e-9)
    np.testing.assert_allclose(record("tabular")["off_policy"]["exact_values"], book, atol=1e-9)
    cliff = gridworlds.cliff()
    path, total = gridworlds.greedy_path(cliff, gridworlds.soft_optimal(cliff, 0.0))
    assert (len(path) - 1, total) == (13, -13.0)
    assert path == [36, *range(24, 36), 47], "along the edge"


def test_the_best_policy_that_explores_keeps_away_from_the_cliff_and_earns_what_its_values_say():
    grid = gridworlds.cliff()
    q = gridworlds.soft_optimal(grid, 0.1)
    path, total = gridworlds.greedy_path(grid, q)
    assert total == -15.0
    assert not set(range(25, 35)) & set(path), "one row from the edge"
    expected = float(np.sum(gridworlds.epsilon_greedy(q, 0.1)[36] * q[36]))
    assert gridworlds.online_return(grid, q, 0.1) == pytest.approx(expected)
    assert gridworlds.online_return(grid, gridworlds.soft_optimal(grid, 0.0), 0.1) < expected


def test_one_uncorrected_step_has_no_bias_and_more_are_the_means_of_all_their_paths():
    """Two steps, action by action: one of the policy that acts, then a mean under the other one."""
    grid = gridworlds.corners()
    pi, mu = np.full((16, 4), 0.25), np.tile(tabular.MU, (16, 1))
    np.testing.assert_allclose(
        gridworlds.uncorrected_fixed_point(grid, pi, mu, 1), gridworlds.action_values(grid, pi), atol=1e-9
    )
    q = gridworlds.uncorrected_fixed_point(grid, pi, mu, 2)
    for s, a in np.ndindex(16, 4):
        if 0 < s < 15:
            total, t = grid.reward[s, a], grid.following[s, a]
            if not grid.ends[s, a]:
                for b, odds in enumerate(mu[t]):
                    u = grid.following[t, b]
                    total += odds * (grid.reward[t, b] + (0.0 if grid.ends[t, b] else pi[u] @ q[u]))
            assert q[s, a] == pytest.approx(total), (s, a)


def test_on_the_cliff_sarsa_loses_half_of_what_q_learning_does_whose_path_is_the_shortest():
    """Example 6.6 of Sutton & Barto 2018: about −25 and −50 while learning; paths of −17 and −13."""
    found = record("tabular")["cliff"]
    late = {name: found[name]["late"] for name in tabular.ONE_STEP}
    assert late["SARSA"]["value"] == pytest.approx(-25.0, abs=3.0)
    assert late["Q-learning"]["value"] == pytest.approx(-50.0, abs=3.0)
    assert found["Q-learning"]["paths"]["-13"] > 0.95
    paths = found["SARSA"]["paths"]
    assert max(paths, key=paths.get) == "-17"
    assert found["exact"]["optimal_path"] == -13.0


def test_sarsa_learns_as_quickly_as_a_program_without_arrays():
    """The box of section 6.4, line by line, in lists: means of the first 100 episodes at α = 0.5."""
    rng = random.Random(0)

    def act(values):
        best = max(values)
        explores = rng.random() < 0.1
        return rng.choice([a for a in range(4) if explores or values[a] == best])

    def mean_return():
        q, total = [[0.0] * 4 for _ in range(48)], 0
        for _ in range(100):
            s, a = 36, act(q[36])
            while s != 47:
                up_down, right_left = [(-1, 0), (1, 0), (0, 1), (0, -1)][a]
                row, column = min(max(s // 12 + up_down, 0), 3), min(max(s % 12 + right_left, 0), 11)
                following, r = 12 * row + column, -1
                if 36 < following < 47:
                    following, r = 36, -100
                b = act(q[following])
                q[s][a] += 0.5 * (r + q[following][b] - q[s][a])
                s, a, total = following, b, total + r
        return total / 100

    found = record("tabular")["step_sizes"]
    place = found["step_sizes"].index(0.5)
    drawn = [mean_return() for _ in range(30)]
    error = np.std(drawn, ddof=1) / np.sqrt(len(drawn))
    assert found["interim"]["SARSA"]["value"][place] == pytest.approx(np.mean(drawn), abs=4 * error)
    assert error < 2.0


def test_methods_that_have_converged_earn_what_is_exact():
    found = record("tabular")["cliff"]
    for name in ("expected SARSA", "Q-learning"):
        late, exact = found[name]["late"], found["exact"][name]
        slack = late["high"] - late["low"]
        assert late["low"] - slack <= exact <= late["high"] + slack, name


def test_step_sizes_matter_as_in_figure_6_3():
    """Expected SARSA is best in the beginning and hardly cares; SARSA loses with large steps, Q-learning stays low."""
    found = record("tabular")["step_sizes"]
    first, late = found["interim"], found["asymptotic"]
    best = {name: max(first[name]["value"]) for name in first}
    assert best["expected SARSA"] > best["SARSA"] > best["Q-learning"]
    assert np.ptp(late["expected SARSA"]["value"]) < 3.0
    assert np.ptp(late["Q-learning"]["value"]) < 8.0
    assert late["SARSA"]["low"][0] > late["SARSA"]["high"][-1] + 10.0
    assert first["expected SARSA"]["value"][-1] > first["SARSA"]["value"][-1]


def test_without_ratios_more_steps_are_more_wrong_and_with_them_less():
    found = record("tabular")["off_policy"]
    for place, bias in enumerate(found["bias"]):
        assert found["uncorrected"]["value"][place] > 0.9 * bias
    assert found["uncorrected"]["low"][-1] > found["SARSA, ratios"]["high"][-1]
    for name in ("tree backup", "Q(½)"):
        assert found[name]["high"][-1] < found[name]["low"][0], name


def test_any_one_part_of_the_deadly_triad_can_be_dropped():
    found = record("tabular")["triad"]
    for name in triad.CASES:
        diverges = name == "all three"
        assert found[name]["growth"] == pytest.approx(triad.growth(*triad.CASES[name]))
        assert (found[name]["growth"] > 0) == diverges
        assert (found[name]["low"][-1] > 1e3) == diverges, name
        assert (found[name]["high"][-1] < 0.1) == (not diverges), name


def test_two_states_diverge_as_fast_as_in_closed_form():
    """Sections 11.1 and 11.2 of Sutton & Barto 2018: `1 + α (2γ − 1)` an update, `(6 − 4ε) γ / 5` a fit."""
    found = record("tabular")["triad"]
    for name in ("first_state_alone", "least_squares"):
        assert found[name]["run"] == pytest.approx(found[name]["exact"], rel=1e-4), name
    for end, discount in ((0.1, 0.9), (0.05, 0.8), (0.4, 0.99)):
        w = triad.least_squares(end, discount, 3)
        np.testing.assert_allclose(w, (discount * (6 - 4 * end) / 5) ** np.arange(4))
    assert triad.two_state_weight(1, 0.5) == 1.0


def test_traces_backwards_add_up_to_returns_forwards():
    """With tables that stand still, all changes of an episode are those of λ-returns (Sutton & Barto 2018, 12.2).

    No state comes twice here, so that traces that replace are traces that accumulate.
    """
    rng = np.random.default_rng(0)
    rows, lambda_, step_size = 6, 0.7, 1e-3
    q = rng.normal(size=(rows, 4)).astype(np.float32)
    actions, rewards = rng.integers(0, 4, rows), rng.normal(size=rows).astype(np.float32)
    discount = np.where(np.arange(rows) == rows - 1, 0.0, 1.0).astype(np.float32)
    method = learners.with_traces("SARSA", rows)
    options = learners.Options(*np.float32([step_size, 0.1, lambda_, 1.0]))
    update, trace, changes = jax.jit(method.update), method.init(), np.zeros_like(q)
    for t in range(rows):
        following = min(t + 1, rows - 1)
        step = learners.Step(t, actions[t], rewards[t], following, discount[t], np.float32(0), np.float32(0))
        changed, trace = update(q, trace, jax.tree.map(np.asarray, step), np.asarray(actions[following]), options)
        changes += np.asarray(changed) - q
    v_t = np.append(q[np.arange(1, rows), actions[1:]], 0.0).astype(np.float32)
    target = ops.lambda_returns(v_t, rewards, discount, lambda_=lambda_)
    expected = np.zeros_like(q)
    expected[np.arange(rows), actions] = step_size * (target - q[np.arange(rows), actions])
    np.testing.assert_allclose(changes, expected, atol=2e-6)


def test_a_window_of_steps_learns_the_oldest_of_them_from_its_return():
    """Three steps of a walk, n = 2: after the third one the first moves by its two-step return, and nothing else."""
    method = learners.windowed("q_sigma", 2, lambda q, options: np.log(np.float32(0.25)) + 0.0 * q)
    options = learners.Options(*np.float32([0.5, 0.1, 0.0, 0.0]))
    q, window, update = np.zeros((4, 4), np.float32), method.init(), jax.jit(method.update)
    q[2] = [1.0, 2.0, 3.0, 6.0]
    log_pi = np.log(np.float32(0.25))
    for t in range(3):
        before = q
        step = learners.Step(t, 0, np.float32(-1), t + 1, np.float32(1), log_pi, log_pi)
        q, window = update(q, window, jax.tree.map(np.asarray, step), np.asarray(0), options)
        if t < 2:
            np.testing.assert_array_equal(q, before)
    expected = np.array(before)
    # Tree backup: −1 + (mean of zeros) + ¼ (−1 + mean of row 2 − 0).
    expected[0, 0] = 0.5 * (-1.0 + 0.25 * (-1.0 + 3.0))
    np.testing.assert_allclose(q, expected, rtol=1e-6)


def test_the_share_of_effective_samples_falls_as_in_closed_form():
    found = record("variance_bomb")["gaussians"]
    gaps = np.array(found["gaps"])
    np.testing.assert_allclose(found["exact_ess"], np.exp(-(gaps**2)), rtol=1e-5)
    small = gaps <= 1.0
    np.testing.assert_allclose(np.array(found["ess_10000"]["value"])[small], np.exp(-(gaps**2))[small], rtol=0.02)
    for place in np.flatnonzero(small):
        assert between(found["ordinary"], place, found["exact_error"][place])


def test_products_lose_more_samples_than_one_step_ratios():
    for row in record("variance_bomb")["training"]["rows"]:
        assert row["product"]["high"][-1] < 0.5 * row["one_step"]["low"][-1]


def test_means_of_many_seeds_spread_as_their_standard_error():
    found = record("many_seeds")
    returns, few = np.array(found["returns"]["A"]), found["papers"]
    assert len(returns) == found["learners"] == 2048
    for place, n in enumerate(few["counts"]):
        if n >= 20:
            half = (few["mean"][place]["high"] - few["mean"][place]["low"]) / 2
            assert half == pytest.approx(1.96 * returns.std() / np.sqrt(n), rel=0.05), n


def test_papers_order_two_algorithms_wrongly_as_often_as_normal_means_would():
    found = record("many_seeds")
    few, better = found["papers"], found["papers"]["better"]
    (worse,) = {"A", "B"} - {better}
    good, bad = (np.array(found["returns"][name]) for name in (better, worse))
    for place, n in enumerate(few["counts"]):
        error = np.sqrt((good.var() + bad.var()) / n)
        expected = stats.norm.cdf(-(good.mean() - bad.mean()) / error)
        assert few["wrong_order"][place] == pytest.approx(expected, abs=0.02), n
        assert few["false_alarm"][place] < 0.06, n


def test_intervals_of_normal_papers_hold_the_mean_as_often_as_they_say():
    drawn = np.random.default_rng(0).normal(3.0, 2.0, size=(20_000, 3))
    assert papers.coverage(papers.student_interval(drawn), 3.0) == pytest.approx(0.95, abs=0.005)


def test_a_comparison_of_papers_counts_what_they_say():
    """Three seeds each: a clear difference, the same reversed, the same scores twice, and a small difference."""
    better = np.array([[9.0, 10.0, 11.0], [0.0, 1.0, 2.0], [5.0, 5.0, 5.0], [0.0, 10.0, 20.0]])
    worse = np.array([[0.0, 1.0, 2.0], [9.0, 10.0, 11.0], [5.0, 5.0, 5.0], [1.0, 9.0, 17.0]])
    assert papers.comparison(better, worse) == {"wrong_order": 0.25, "found": 0.25, "reversed": 0.25}


@pytest.mark.parametrize("replay", [0.0, 0.5])
def test_corrections_hold_where_the_policy_that_acts_is_old_and_none_does_not(replay):
    """As in Table 2 of Espeholt et al. 2018: V-trace above ε-correction and none, intervals touching at most."""
    result = record("policy_lag")
    for env in result["environments"]:
        cells = lag_run.cells_of(result, env, lag=100, replay=replay)
        found = {cell["correction"]: cell["iqm"] for cell in cells}
        for name in ("epsilon", "none"):
            assert found["v-trace"]["value"] > found[name]["value"], (env, name)
            assert found["v-trace"]["low"] >= found[name]["high"], (env, name)


def test_a_sampler_that_is_not_the_policy_costs_most_where_nothing_corrects_for_it():
    """What is best with an old sampler bounds the weight of whole texts; with a fresh one all but GSPO are alike."""
    found = record("sampler_mismatch")["corrections"]
    at = {
        name: [dict(zip(("value", "low", "high"), x, strict=True)) for x in zip(*r.values(), strict=True)]
        for name, r in ((name, each["reward"]) for name, each in found.items())
    }
    for name in ("token, truncated", "token, masked", "sequence, masked", "GSPO", "TOPR"):
        assert at[name][-1]["low"] > at["none"][-1]["high"], name
        assert at["TOPR"][-1]["value"] >= at[name][-1]["value"], name
    for name in found:
        assert name == "GSPO" or at[name][0]["high"] > at["none"][0]["low"], name
        kl = found[name]["kl"]["value"]
        assert 0 < kl[0] < 1e-3 < kl[1] < kl[2], name  # bfloat16 alone is a small difference, age a large one


def test_on_policy_a_correction_changes_nothing():
    """All ratios are one; ε-correction alone differs, by its ε."""
    result = record("policy_lag")
    for env in result["environments"]:
        cells = lag_run.cells_of(result, env, lag=0, replay=0.0)
        found = {cell["correction"]: cell["returns"] for cell in cells}
        assert found["one-step"] == found["none"] == found["v-trace"], env


def test_only_the_plain_gradient_loses_a_learner_to_reuse():
    found = record("sample_reuse")["objectives"]
    lowest = {name: np.min(each["returns"][-1]) for name, each in found.items()}
    assert lowest.pop("plain") < 100
    assert min(lowest.values()) > 400
    for name, each in found.items():
        assert each["iqm"]["low"][-1] > each["iqm"]["high"][0], name


def test_the_page_is_its_template_with_the_numbers_of_the_library():
    saved = record("variance_bomb")["page"]
    assert page.PAGE.read_text() == page.TEMPLATE.read_text().replace(page.MARK, json.dumps(saved))
    now = page.reference()
    np.testing.assert_allclose(saved["log_rho"], now["log_rho"], rtol=1e-5, atol=1e-6)
    assert saved["expected"] == pytest.approx(now["expected"], rel=1e-5)


def test_the_page_needs_no_network():
    assert not re.findall(r"https?:|src=|@import|fetch\(|<link", page.PAGE.read_text())


@pytest.mark.skipif(CHROMIUM is None, reason="the page is computed by a browser, and no chromium is installed")
def test_the_page_computes_what_the_library_computes(tmp_path):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    command += ["--virtual-time-budget=3000", "--dump-dom", f"{page.PAGE.as_uri()}#selftest=1"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    found = json.loads(re.search(r'<pre id="selftest"[^>]*>(.*?)</pre>', dom).group(1))
    sampled = found.pop("sampled")
    assert found == pytest.approx(record("variance_bomb")["page"]["expected"], rel=1e-5)
    assert sampled["ess"] == pytest.approx(np.exp(-(sampled["gap"] ** 2)), rel=0.1)
    assert sampled["ordinary"] == pytest.approx(0.5, abs=0.06)
    assert sampled["weighted"] == pytest.approx(0.5, abs=0.06)


def test_modules_stay_small():
    for path in index.ROOT.rglob("*.py"):
        assert len(path.read_text().splitlines()) < 300, path.relative_to(Path(index.ROOT))


@pytest.mark.parametrize(
    ("process", "value", "known"),
    [
        (processes.model_fail(), -0.76, {"ordinary_is": 5.892097}),
        (processes.model_win(10), 0.46, {"ordinary_is": 216.505, "per_decision_is": 73.812, "second_moment": 38.33}),
        (processes.model_win(20), 0.92, {"second_moment": 1469.5}),
        (processes.model_win(10, 0.99), 0.98, {"second_moment": 9.04e9}),
        (processes.single_path(), 2.0, {"ordinary_is": 0.728601, "per_decision_is": 0.377737}),
    ],
)
def test_classic_cases_have_their_exact_values_and_errors(process, value, known):
    assert process.value == pytest.approx(value, abs=1e-9)
    found = process.exact_errors()
    assert {name: found[name] for name in known} == pytest.approx(known, rel=5e-4)


def test_errors_of_marginalized_estimates_grow_slowly_where_those_of_products_explode():
    result = record("state_ratios")
    errors = {int(steps): found for steps, found in result["horizons"].items()}
    exact = {steps: found["exact"]["ordinary_is"] / found["value"] ** 2 for steps, found in errors.items()}
    by_state = {steps: x["marginalized_is"]["mean_squared_error"] / x["value"] ** 2 for steps, x in errors.items()}
    assert exact[200] > 1e3 * exact[100] > 1e4 * exact[50]
    assert by_state[200] < 4 * by_state[50]


def test_nothing_is_trusted_where_products_and_states_are_out_of_reach():
    assert set(record("state_ratios")["verdicts"]["ModelWin 10, .99"].values()) == {"no"}


def test_state_ratios_take_the_bias_from_a_policy_gradient_that_leaving_them_out_has():
    for found in record("state_ratios")["gradients"].values():
        noise = np.sqrt(found["estimated"]["variance"] / found["batches"])
        assert found["estimated"]["bias"] < 3 * noise
        assert found["none"]["bias"] > 10 * noise
        assert found["estimated"]["variance"] <= found["product"]["variance"]
