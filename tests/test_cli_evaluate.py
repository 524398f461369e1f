"""`isjax evaluate` from outside: what it prints, writes and refuses, and that its numbers are the estimators'."""

import contextlib
import functools
import io
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from isjax import ope
from isjax.cli import main
from isjax.commands.evaluate import EvaluateFlags
from isjax.commands.flags import parse
from isjax.ope.estimator import ESTIMATORS
from isjax.ope.evaluation import Judged, chosen_estimators, evaluate_log, judge
from isjax.ope.resampling import Draws, resampled_values
from isjax.ope.verdicts import is_better
from isjax.types import LoggedEpisodes
from tests.faults import logs as malformed_logs

EPISODES, STEPS = 200, 5
WITH_MODEL = ("doubly_robust", "weighted_doubly_robust", "magic")
UNASKED = [name for name, of in ESTIMATORS.items() if of.is_default and of.is_consistent and not of.needs_states]
ONLY_BY_NAME = ("weighted_per_decision_is_ratio_form",)


def columns(gap, *, shortest=STEPS - 2):
    """Coin tosses: μ is fair, π takes heads with odds exp(gap); a reward of 1 for heads."""
    rng = np.random.default_rng(7)
    length = rng.integers(shortest, STEPS + 1, EPISODES)
    step = np.concatenate([np.arange(n) for n in length])
    p = 1.0 / (1.0 + np.exp(-gap))
    heads = rng.random(len(step)) < 0.5
    return {
        "episode": np.repeat(np.arange(EPISODES), length),
        "step": step,
        "reward": np.where(heads, 1.0, 0.0),
        "log_pi": np.log(np.where(heads, p, 1.0 - p)),
        "log_mu": np.full(len(step), np.log(0.5)),
        "q": np.where(heads, 1.0, 0.0) + p * (STEPS - 1 - step),
        "v": p * (STEPS - step),
    }


def write(path, gap=0.5, leave_out=(), **options):
    table = pd.DataFrame(columns(gap, **options)).drop(columns=list(leave_out))
    if path.suffix == ".npz":
        np.savez(path, **{name: table[name].to_numpy() for name in table})
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return path


def said_about(capsys, *argv):
    """The one line on stderr that `argv` is refused with."""
    assert main(["evaluate", *map(str, argv)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.strip().removeprefix("isjax evaluate: error: ").removesuffix(" See docs/logs.md.")


def evaluated(path, *argv):
    """The JSON that a command writes."""
    place = path.with_suffix(".json")
    assert main(["evaluate", str(path), "--discount", "0.9", "--json", str(place), *argv]) == 0
    return json.loads(place.read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A log, all that was written about it, and what was printed."""
    path = write(tmp_path_factory.mktemp("log") / "log.parquet")
    command = ["evaluate", str(path), "--discount", "0.9", "--json", str(path.with_suffix(".json"))]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main([*command, "--figure", str(path.with_suffix(".png"))]) == 0
    return path, json.loads(path.with_suffix(".json").read_text()), out.getvalue()


@pytest.fixture(scope="module")
def log(whole):
    return ope.read_log(whole[0])


@functools.partial(jax.jit, static_argnums=2)
def by_name(log_rho, r, discount, is_valid, **model):
    """Every estimator, called as a library would."""
    return {
        name: getattr(ope, name)(log_rho, r, discount, is_valid, **(model if name in WITH_MODEL else {}))
        for name in (*UNASKED, *ONLY_BY_NAME)
    }


def directly(log):
    return by_name(log.log_rho_tm1, log.r_t, 0.9, log.is_valid_t, v_tm1=log.v_tm1, q_tm1=log.q_tm1)


def resamplings(names):
    return {name: ESTIMATORS[name].resampling for name in names}


def test_the_table_fits_into_80_columns_and_names_everything(whole):
    _, _, out = whole
    assert max(map(len, out.splitlines())) <= 80
    for words in ("ordinary", "weighted per decision", "doubly robust", "95 % interval", "ESS", "Pareto k", "trust"):
        assert words in out
    assert "counts as terminal" in out
    assert "1,000 resamples" in out


def test_the_json_holds_every_number(whole):
    path, content, _ = whole
    assert content["log"] == str(path)
    assert (content["discount"], content["level"], content["seed"], content["resamples"]) == (0.9, 0.95, 0, 1000)
    assert (content["episodes"], content["longest"]) == (EPISODES, STEPS)
    assert content["rows"] == len(pd.read_parquet(path))
    assert set(content["limits"]) >= {"unreliable_k", "fewest_effective"}
    assert content["versions"]["isjax"]
    assert list(content["estimates"]) == UNASKED
    for of in content["estimates"].values():
        assert tuple(of) == Judged._fields
        assert of["low"] <= of["value"] <= of["high"]
        assert of["interval"] in ("percentile bootstrap", "Student")


def test_the_numbers_are_those_of_the_estimators(whole, log):
    _, content, _ = whole
    direct = directly(log)
    for name, of in content["estimates"].items():
        for field in ("value", "standard_error", "effective_sample_size"):
            np.testing.assert_allclose(of[field], getattr(direct[name], field), rtol=1e-4, err_msg=f"{name} {field}")
    returns = np.sum(0.9 ** np.arange(STEPS)[:, None] * np.asarray(log.r_t), 0)
    np.testing.assert_allclose(content["behavior"]["value"], returns.mean(), rtol=1e-5)


def test_resampled_values_are_the_estimates_of_the_same_resamples(log):
    log = log._replace(is_valid_t=log.is_valid_t.at[:, 5].set(False))  # One column is no episode.
    direct = {name: estimate for name, estimate in directly(log).items() if name != "magic"}

    def together(*arrays, **model):
        stack = lambda *x: jnp.stack(x)  # noqa: E731
        return jax.tree.map(stack, *(of for name, of in by_name(*arrays, **model).items() if name in direct))

    drawn = resampled_values(Draws(jax.random.key(3), log.r_t.shape, 20), log, 0.9, direct, resamplings(direct))
    options = {"level": 0.9, "resamples": 20, "method": "percentile", "v_tm1": log.v_tm1, "q_tm1": log.q_tm1}
    arrays = (log.log_rho_tm1, log.r_t, 0.9, log.is_valid_t)
    expected = ope.bootstrap_interval(jax.random.key(3), together, *arrays, **options)
    ends = [np.quantile(drawn[name], [0.05, 0.95]) for name in direct]
    np.testing.assert_allclose(np.transpose(ends), expected, rtol=2e-5)


def test_resampled_values_are_finite_where_weights_are_not(log):
    wild = log._replace(log_rho_tm1=jax.random.normal(jax.random.key(0), log.r_t.shape) * 300.0)
    estimates = {name: estimate for name, estimate in directly(wild).items() if name != "magic"}
    draws = Draws(jax.random.key(0), wild.r_t.shape, 50)
    drawn = resampled_values(draws, wild, 0.9, estimates, resamplings(estimates))
    for name, values in drawn.items():
        assert name == "doubly_robust" or np.isfinite(values).all(), name


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_every_format_gives_identical_numbers(whole, tmp_path, suffix):
    again = evaluated(write(tmp_path / f"log{suffix}"))
    assert again["estimates"] == whole[1]["estimates"]


def test_without_a_model_there_is_no_doubly_robust_estimate(tmp_path, capsys):
    assert not set(chosen_estimators((), has_model=False)) & set(WITH_MODEL)
    path = write(tmp_path / "log.csv", leave_out=("q", "v"))
    said = said_about(capsys, path, "--discount", "1", "--estimators", "magic")
    assert said == "--estimators must do without a model for a log without q and v, but magic needs one."


@pytest.mark.parametrize("argv", [["a", "b"], ["a,b"]])
def test_estimators_are_named_with_spaces_or_commas(argv):
    flags = parse(EvaluateFlags, ["log.csv", "--discount", "1", "--estimators", *argv], prog="isjax evaluate")
    assert flags.estimators == ("a", "b")


def test_the_inconsistent_estimator_is_chosen_only_by_name():
    assert not set(chosen_estimators((), has_model=True)) & set(ONLY_BY_NAME)
    assert chosen_estimators(ONLY_BY_NAME, has_model=False) == ONLY_BY_NAME


def test_intervals_follow_from_the_seed_and_the_level(tmp_path):
    path = write(tmp_path / "log.npz")

    def interval(*argv):
        of = evaluated(path, "--estimators", "weighted_is", *argv)["estimates"]["weighted_is"]
        return of["low"], of["high"]

    first = interval("--seed", "1")
    assert first == interval("--seed", "1")
    assert first != interval("--seed", "2")
    low, high = interval("--level", "0.5")
    assert first[0] < low < high < first[1]


def test_student_intervals_are_those_of_the_library(tmp_path):
    path = write(tmp_path / "log.npz")
    of = evaluated(path, "--estimators", "weighted_is", "--resamples", "0")["estimates"]["weighted_is"]
    log = ope.read_log(path)
    assert of["interval"] == "Student"
    np.testing.assert_allclose((of["low"], of["high"]), ope.student_interval(directly(log)["weighted_is"]), rtol=1e-5)


def test_the_verdict_changes_with_the_gap(whole, tmp_path, capsys):
    assert whole[1]["estimates"]["weighted_is"]["verdict"] == "trust"
    path = write(tmp_path / "log.npz", gap=9.0, shortest=STEPS)
    of = evaluated(path, "--estimators", "weighted_is")["estimates"]["weighted_is"]
    assert of["trust"] == "no"
    assert of["verdict"].startswith("do not trust: ")
    assert f"of {EPISODES} episodes carr" in of["verdict"]
    assert "do not trust" in capsys.readouterr().out


def test_a_log_that_misses_what_the_target_policy_does_is_not_trusted(tmp_path):
    table = pd.DataFrame(columns(0.0))
    table["log_pi"] -= 1.0  # All weights alike, but their mean is not 1.
    table.to_parquet(tmp_path / "log.parquet")
    for of in evaluated(tmp_path / "log.parquet")["estimates"].values():
        assert "the log misses what the target policy does" in of["verdict"]


def test_weights_of_zero_are_said_to_be_and_become_null(tmp_path):
    table = pd.DataFrame(columns(0.0))
    table["log_pi"] = -np.inf
    table.to_parquet(tmp_path / "log.parquet")
    figure = tmp_path / "weights.svg"
    content = evaluated(tmp_path / "log.parquet", "--estimators", "weighted_is", "--figure", str(figure))
    of = content["estimates"]["weighted_is"]
    assert of["verdict"] == "do not trust: no episode has any weight under the target policy"
    assert (of["value"], of["low"], of["high"]) == (0.0, None, None)
    assert b"<svg" in figure.read_bytes()


def test_the_figure_is_one(whole, tmp_path):
    assert whole[0].with_suffix(".png").read_bytes().startswith(b"\x89PNG")


BASE = Judged(1.0, 0.1, 0.8, 1.2, "Student", 500.0, 0.1, 0.01, 400, 0.9, 1.0, 0.0, 0.0, "", "")


@pytest.mark.parametrize(
    ("changes", "episodes", "trust", "verdict"),
    [
        ({}, 1000, "yes", "trust"),
        ({"pareto_k": 0.6}, 1000, "with care", "trust with care: the weights have a heavy tail, Pareto k 0.60 > 0.5"),
        ({"pareto_k": 0.8}, 1000, "no", "do not trust: the weights have a heavy tail, Pareto k 0.80 > 0.7"),
        ({"pareto_k": np.inf}, 1000, "with care", "trust with care: the tail of the weights cannot be judged"),
        ({"effective_sample_size": 50.0}, 600, "with care", "trust with care: the effective sample size is 50.0"),
        (
            {"effective_sample_size": 2.0, "carriers": 3, "carried": 0.94},
            10_000,
            "no",
            "do not trust: 3 of 10,000 episodes carry 94 % of the weight",
        ),
        ({}, 24, "with care", "trust with care: 24 episodes are too few to judge the tail of the weights"),
        ({"value": np.nan}, 1000, "no", "do not trust: the estimate overflowed"),
        (
            {"steps_below_10": 0.12, "steps_below_100": 0.5},
            1000,
            "no",
            "do not trust: 12 % of the discounted steps rest on an effective sample size below 10",
        ),
        (
            {"steps_below_10": 0.01, "steps_below_100": 0.25},
            1000,
            "with care",
            "trust with care: 25 % of the discounted steps rest on an effective sample size below 100",
        ),
    ],
)
def test_verdicts_go_by_the_limits(changes, episodes, trust, verdict):
    assert judge(BASE._replace(**changes), episodes, 0.1) == (trust, verdict)


def test_late_steps_that_rest_on_few_episodes_are_counted_by_their_discount():
    """Step 0 leaves all 200 weights equal; step 1 leaves 20 of them, step 2 leaves 2: γ/(1 + γ + γ²) and so on."""
    log_rho = np.zeros((3, 200), np.float32)
    log_rho[1, 20:], log_rho[2, 2:] = -200.0, -200.0
    log = LoggedEpisodes(jnp.asarray(log_rho), jnp.ones((3, 200)), jnp.ones((3, 200), bool))
    of = evaluate_log(log, 0.5, key=jax.random.key(0), resamples=0).estimates
    np.testing.assert_allclose(of["weighted_per_decision_is"].steps_below_10, 0.25 / 1.75, rtol=1e-6)
    np.testing.assert_allclose(of["discounting_aware_is"].steps_below_100, 0.75 / 1.75, rtol=1e-6)
    assert of["weighted_is"].steps_below_100 == 0.0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "--discount is missing."),
        ("--discount 2", "--discount must lie in [0, 1], but it is 2.0."),
        ("--discount x", "--discount must be a number, but it is 'x'."),
        ("--discount 1 --level 1", "--level must lie in (0, 1), but it is 1.0."),
        ("--discount 1 --resamples -1", "--resamples must be at least 0, but it is -1."),
        ("--discount 1 --seed -1", "--seed must be at least 0 and less than 2^32, but it is -1."),
        ("--discount 1 --estimators foo", "--estimators must be among ordinary_is,"),
        ("--discount 1 --figure x.pdf", "--figure must end in .png or .svg, but it is 'x.pdf'."),
        ("--discount 1 --json /nowhere/x.json", "--json must lie in a folder that can be written to, but /nowhere"),
        (f"--discount 1 --json {'x' * 300}", "--json must be the name of a file, but xxx"),
        ("--discount 1 --json .", "--json must be a file of its own, but . is a folder."),
        ("--discount 1 --figur x.png", "there is no option --figur; did you mean --figure?"),
    ],
)
def test_bad_arguments_are_one_line_that_names_the_flag(tmp_path, capsys, argv, message):
    path = write(tmp_path / "log.npz")
    assert said_about(capsys, path, *argv.split()).startswith(message)


def test_the_log_is_never_overwritten(tmp_path, capsys):
    path = write(tmp_path / "log.csv")
    before = path.read_bytes()
    said = said_about(capsys, path, "--discount", "1", "--json", path)
    assert said.startswith("--json must be a file of its own")
    assert path.read_bytes() == before


def test_a_bad_log_writes_nothing(tmp_path, capsys):
    path = tmp_path / "log.csv"
    table = pd.DataFrame(columns(0.5))
    table.loc[3, "log_mu"] = np.nan
    table.to_csv(path, index=False)
    argv = (path, "--discount", "1", "--json", tmp_path / "out.json", "--figure", tmp_path / "out.png")
    assert said_about(capsys, *argv) == f"{path}: column log_mu must hold numbers, but row 4 is nan."
    assert list(tmp_path.iterdir()) == [path]


def test_a_positive_log_probability_asks_for_densities(tmp_path, capsys):
    table = pd.DataFrame(columns(0.5))
    table[["log_pi", "log_mu"]] += 1.0
    table.to_csv(tmp_path / "log.csv", index=False)
    assert "(--densities allows more)" in said_about(capsys, tmp_path / "log.csv", "--discount", "1")
    of = evaluated(tmp_path / "log.csv", "--densities", "--estimators", "weighted_is", "--resamples", "0")
    assert of["estimates"]["weighted_is"]["trust"] == "yes"


def test_help_fits_into_80_columns_and_loads_no_reader(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["evaluate", "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for flag in ("--discount", "--estimators", "--json", "--figure", "--seed", "--level", "--densities"):
        assert flag in text
    code = (
        "import sys, isjax.cli\n"
        "assert isjax.cli.main(['evaluate', '--help']) == 0\n"
        "assert not {'gymnax', 'matplotlib', 'pandas', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_malformed_logs_are_refused_in_one_line_or_give_the_values_of_plain_numpy():
    outcomes = malformed_logs.run(quick=True)
    assert len(outcomes) > 100
    assert [of for of in outcomes if of.fault] == []


def scaled(path, size):
    """The log of the coin, its rewards and model values of another size, in float64."""
    table = pd.DataFrame(columns(0.5))
    table[["reward", "q", "v"]] *= size
    table.to_parquet(path)
    return path


@pytest.mark.parametrize("size", [2.0**-133, 2.0**-1030, 2.0**130, 2.0**1010])
def test_rewards_of_any_size_give_the_same_values_in_their_unit(whole, tmp_path, size):
    again = evaluated(scaled(tmp_path / "log.parquet", size))
    for name, of in again["estimates"].items():
        for field in ("value", "standard_error", "low", "high"):
            expected = whole[1]["estimates"][name][field]
            np.testing.assert_allclose(of[field], expected * size, rtol=1e-9, err_msg=f"{name} {field}")
        assert of["trust"] == whole[1]["estimates"][name]["trust"]
    np.testing.assert_allclose(again["behavior"]["value"], whole[1]["behavior"]["value"] * size, rtol=1e-12)


def test_neighboring_episodes_beyond_what_floats_hold_are_not_merged(whole, tmp_path):
    table = pd.DataFrame(columns(0.5))
    table["episode"] += 2**53
    table.to_csv(tmp_path / "log.csv", index=False)
    assert evaluated(tmp_path / "log.csv")["estimates"] == whole[1]["estimates"]


def test_a_discount_next_to_one_counts_over_a_long_horizon(tmp_path):
    rows = 100_000
    columns = {"episode": np.repeat([0, 1], rows), "step": np.tile(np.arange(rows), 2), "reward": np.ones(2 * rows)}
    np.savez(tmp_path / "log.npz", **columns, log_pi=-np.ones(2 * rows), log_mu=-np.ones(2 * rows))
    argv = ("--estimators", "weighted_is", "discounting_aware_is", "--resamples", "0")
    of = evaluated(tmp_path / "log.npz", "--discount", "0.999999999", *argv)["estimates"]
    expected = np.sum((1 - 1e-9) ** np.arange(rows))
    np.testing.assert_allclose(of["weighted_is"]["value"], expected, rtol=1e-12)
    np.testing.assert_allclose(of["discounting_aware_is"]["value"], expected, rtol=1e-9)


def test_weights_that_differ_by_rounding_alone_are_drawn(tmp_path):
    table = pd.DataFrame(columns(0.0, shortest=STEPS))
    table["log_pi"] = table["log_mu"] + 1.0 + 1e-15 * np.arange(len(table))
    table.to_parquet(tmp_path / "log.parquet")
    figure = tmp_path / "weights.svg"
    evaluated(tmp_path / "log.parquet", "--densities", "--estimators", "weighted_is", "--figure", str(figure))
    assert b"<svg" in figure.read_bytes()


def test_a_weight_that_was_cut_off_is_said_to_be(tmp_path):
    table = pd.DataFrame(columns(0.0)).query("episode < 20")
    table["log_pi"] = table["log_mu"] + 30.0
    table.to_parquet(tmp_path / "log.parquet")
    of = evaluated(tmp_path / "log.parquet", "--densities", "--estimators", "ordinary_is")["estimates"]["ordinary_is"]
    assert of["verdict"].startswith("do not trust: a weight is beyond exp(80), where plain means cut it off")


def test_json_and_figure_are_two_files(tmp_path, capsys):
    path = write(tmp_path / "log.csv")
    argv = (path, "--discount", "1", "--json", tmp_path / "x.png", "--figure", tmp_path / "." / "x.png")
    assert said_about(capsys, *argv).startswith("--figure must be another file than json, but both are")


def test_a_narrow_terminal_keeps_every_number(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    of = evaluated(scaled(tmp_path / "log.parquet", 1e-200), "--resamples", "0")["estimates"]
    out = capsys.readouterr().out
    for judged in of.values():
        for field in ("value", "low", "high"):
            assert f"{judged[field]:.3g}" in out


def test_a_megabyte_in_a_cell_is_one_short_line(tmp_path, capsys):
    table = pd.DataFrame(columns(0.5)).astype({"reward": object})
    table.loc[3, "reward"] = "\x1b[31m" + "x" * 10**6
    table.to_csv(tmp_path / "log.csv", index=False)
    said = said_about(capsys, tmp_path / "log.csv", "--discount", "1")
    assert len(said) < 280
    assert said.isprintable()
    assert said.endswith("xxx'.")


def clicks(path):
    """The columns of a recommender's log: what was shown was drawn at .25 or .4, and clicked or not."""
    rng = np.random.default_rng(2)
    table = {"propensity_score": rng.choice([0.25, 0.4], 400), "click": (rng.random(400) < 0.3).astype(int)}
    pd.DataFrame(table | {"target": np.where(table["click"], 0.35, 0.3)}).to_csv(path, index=False)
    return path


def test_columns_are_named_on_the_command_line(tmp_path, capsys):
    argv = ("--column", "mu=propensity_score", "--column", "pi=target", "--column", "reward=click", "--probabilities")
    content = evaluated(clicks(tmp_path / "log.csv"), "--estimators", "ordinary_is", *argv)
    table = pd.read_csv(tmp_path / "log.csv")
    expected = np.mean(table["target"] / table["propensity_score"] * table["click"])
    np.testing.assert_allclose(content["estimates"]["ordinary_is"]["value"], expected, rtol=1e-12)
    assert content["notes"] == ["The log has no column episode: each row counts as an episode."]
    assert content["columns"] == {"mu": "propensity_score", "pi": "target", "reward": "click"}
    captured = capsys.readouterr()
    assert "each row counts as an episode" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--column mu", "--column must be ROLE=NAME, but it is 'mu'."),
        ("--column propensity=p", "--column must name a role among episode, step, reward, pi, mu, v, q, state, action"),
        ("--column mu=a --column mu=b", "--column must name one column for mu, but it is a and b."),
        ("--column mu=", "--column must name the column of mu, but it is ''."),
        ("--format xls", "--format must be one of auto, csv, parquet,"),
        ("--page /nowhere/x.html", "--page must lie in a folder that can be written to"),
        ("--json x.html --page x.html", "--page must be another file than json, but both are x.html."),
    ],
)
def test_bad_columns_formats_and_places_are_one_line(tmp_path, capsys, argv, message):
    assert said_about(capsys, write(tmp_path / "log.npz"), "--discount", "1", *argv.split()).startswith(message)


def test_better_than_what_ran_follows_from_paired_differences(whole, tmp_path, log):
    """Heads are worth 1; a target may take more of them, fewer, or as many."""
    of = whole[1]["estimates"]["weighted_is"]
    assert of["better"] == "yes"
    np.testing.assert_allclose(of["difference"], of["value"] - whole[1]["behavior"]["value"], rtol=1e-12)
    assert 0.0 < of["difference_low"] < of["difference"] < of["difference_high"]
    # Unpaired, the policy that acted would add its own spread: paired bounds are closer.
    unpaired = np.hypot(of["standard_error"], whole[1]["behavior"]["standard_error"])
    assert of["difference"] - of["difference_low"] < 1.645 * unpaired
    worse = evaluated(write(tmp_path / "worse.npz", gap=-0.5), "--estimators", "weighted_is")["estimates"]
    assert worse["weighted_is"]["better"] == "no"
    alike = evaluated(write(tmp_path / "alike.npz", gap=0.0), "--estimators", "weighted_is")["estimates"]
    assert alike["weighted_is"]["better"] == "unclear"
    assert abs(alike["weighted_is"]["difference"]) < 1e-12


def test_bounds_of_the_difference_are_quantiles_over_the_same_resamples(log):
    """In plain NumPy, from what is drawn; Student's bound of paired differences counts where it is the lower one."""
    key = jax.random.key(5)
    evaluation = evaluate_log(log, 0.9, key=key, estimators=("weighted_is",), resamples=300)
    of = evaluation.estimates["weighted_is"]
    weight = np.exp(np.sum(np.asarray(log.log_rho_tm1, np.float64), 0))
    returns = np.sum(0.9 ** np.arange(STEPS)[:, None] * np.asarray(log.r_t, np.float64), 0)
    counts = np.concatenate(list(Draws(key, log.r_t.shape, 300)))
    drawn = counts @ (weight * returns) / (counts @ weight) - counts @ returns / EPISODES
    each = EPISODES * weight / weight.sum() * (returns - of.value) + of.value - returns
    margin = 1.6525 * np.std(each, ddof=1) / np.sqrt(EPISODES)
    expected = min(np.quantile(drawn, 0.05), each.mean() - margin), max(np.quantile(drawn, 0.95), each.mean() + margin)
    np.testing.assert_allclose((of.difference_low, of.difference_high), expected, rtol=1e-4)
    np.testing.assert_allclose(evaluation.drawn["weighted_is"] - evaluation.drawn["the policy that acted"], drawn)


def test_what_is_not_to_be_trusted_is_not_better_either(tmp_path, capsys):
    path = write(tmp_path / "log.npz", gap=9.0, shortest=STEPS)
    of = evaluated(path, "--estimators", "weighted_is")["estimates"]["weighted_is"]
    assert of["trust"] == "no"
    assert of["difference_low"] > 0.0
    assert of["better"] == "unclear"
    assert "unclear (no estimate can be trusted" in capsys.readouterr().out


def test_a_difference_that_is_rounding_is_unclear():
    of = BASE._replace(trust="yes", difference=2e-16, difference_low=1e-16, difference_high=3e-16)
    assert is_better(of) == "unclear"
    assert is_better(of._replace(difference=0.2, difference_low=0.1, difference_high=0.3)) == "yes"
    assert is_better(of._replace(difference=-0.2, difference_low=-0.3, difference_high=-0.1)) == "no"
    assert is_better(of._replace(trust="no", difference=0.2, difference_low=0.1, difference_high=0.3)) == "unclear"


def test_bounds_follow_without_a_bootstrap_from_the_same_episodes(tmp_path):
    of = evaluated(write(tmp_path / "log.npz"), "--estimators", "ordinary_is", "--resamples", "0")["estimates"]
    of = of["ordinary_is"]
    log = ope.read_log(tmp_path / "log.npz")
    returns = np.sum(0.9 ** np.arange(STEPS)[:, None] * np.asarray(log.r_t), 0)
    each = (np.exp(np.sum(log.log_rho_tm1, 0)) - 1.0) * returns
    margin = 1.6525 * np.std(each, ddof=1) / np.sqrt(EPISODES)
    expected = each.mean() - margin, each.mean() + margin
    np.testing.assert_allclose((of["difference_low"], of["difference_high"]), expected, rtol=1e-3)


def several(path):
    table = pd.DataFrame(columns(0.5)).drop(columns=["q", "v"])
    for name, gap in (("timid", 0.2), ("bold", 1.0), ("wild", 9.0)):
        table[f"log_pi.{name}"] = columns(gap)["log_pi"]
    table.drop(columns=["log_pi"]).to_parquet(path)
    return path


def test_several_targets_are_one_table_ranked_by_paired_differences(tmp_path, capsys):
    path = several(tmp_path / "log.parquet")
    content = evaluated(path)
    out = capsys.readouterr().out
    assert [of["target"] for of in content["ranking"]] == ["bold", "timid", "wild"]
    assert content["ranked_by"] == "weighted_per_decision_is"
    assert out.index("bold") < out.index("timid") < out.index("wild")
    first, second, last = (content["targets"][name]["estimates"] for name in ("bold", "timid", "wild"))
    assert last["weighted_per_decision_is"]["trust"] == "no"
    assert content["estimates"] == first
    behind = content["ranking"][1]
    both = [of["weighted_per_decision_is"] for of in (first, second)]
    gap, width = both[0]["value"] - both[1]["value"], sum(of["high"] - of["low"] for of in both)
    np.testing.assert_allclose(behind["behind"], gap, rtol=1e-12)
    assert 0.0 < behind["behind_low"] < gap < behind["behind_high"] < behind["behind_low"] + 0.6 * width
    alone = pd.read_parquet(path).rename(columns={"log_pi.bold": "log_pi"})
    alone.to_parquet(tmp_path / "alone.parquet")
    assert evaluated(tmp_path / "alone.parquet")["estimates"] == first


def test_several_targets_are_ranked_by_the_estimator_asked_for(tmp_path):
    content = evaluated(several(tmp_path / "log.parquet"), "--estimators", "ordinary_is", "--resamples", "0")
    assert content["ranked_by"] == "ordinary_is"
    assert content["ranking"][1]["behind_low"] < content["ranking"][1]["behind"] < content["ranking"][1]["behind_high"]


def test_the_page_shows_estimates_verdicts_weights_and_targets(tmp_path):
    page = tmp_path / "page.html"
    evaluated(several(tmp_path / "log.parquet"), "--page", str(page))
    text = page.read_text()
    for words in ("Evaluation of log.parquet", "Targets, ranked", "Better than what ran?", "How few episodes carry"):
        assert words in text
    assert "Effective sample size by step" in text
    assert text.count('class="plot"') == 5
    table = pd.DataFrame(columns(0.0))
    table["log_pi"] = -np.inf
    table.to_parquet(tmp_path / "none.parquet")
    evaluated(tmp_path / "none.parquet", "--page", str(page))
    assert "Do not trust" in page.read_text()


def test_model_win_with_a_policy_that_nearly_never_does_what_the_other_does_is_trusted_by_no_estimator(tmp_path):
    """Thomas & Brunskill 2016: s1, a1 to s2 with .4; +1 into s2, −1 into s3, and back; v is .98, the log says −.98."""
    rng = np.random.default_rng(0)
    episodes, pairs, mu = 2000, 5, np.array([0.99, 0.01])
    action = (rng.random((episodes, pairs)) < mu[1]).astype(int)
    is_good = rng.random((episodes, pairs)) < np.where(action == 0, 0.4, 0.6)
    reward, log_pi, log_mu = (np.zeros((episodes, 2 * pairs)) for _ in range(3))
    reward[:, ::2] = np.where(is_good, 1.0, -1.0)
    log_mu[:, ::2], log_pi[:, ::2] = np.log(mu[action]), np.log(mu[1 - action])
    index = {"episode": np.repeat(np.arange(episodes), 2 * pairs), "step": np.tile(np.arange(2 * pairs), episodes)}
    np.savez(tmp_path / "log.npz", **index, reward=reward.ravel(), log_pi=log_pi.ravel(), log_mu=log_mu.ravel())
    place = tmp_path / "out.json"
    assert main(["evaluate", str(tmp_path / "log.npz"), "--discount", "1", "--json", str(place)]) == 0
    for name, of in json.loads(place.read_text())["estimates"].items():
        assert (name, of["trust"], of["better"]) == (name, "no", "unclear")
