"""Logs as people have them: roles, probabilities, missing columns, JSON lines, Vowpal Wabbit, frames in memory."""

import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isjax import ope
from isjax.ope.readers import FORMATS

RNG = np.random.default_rng(5)
MU, PI = RNG.uniform(0.1, 1.0, 6), RNG.uniform(0.0, 1.0, 6)
CLICKS = {"target": PI, "propensity_score": MU, "click": np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])}
ROLES = {"pi": "target", "mu": "propensity_score", "reward": "click"}
PLAIN = {"reward": CLICKS["click"], "log_pi": np.log(PI), "log_mu": np.log(MU)}


def written(path, columns):
    frame = pd.DataFrame(columns)
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    elif name.endswith(".npz"):
        np.savez(path, **columns)
    else:
        text = frame.to_csv(index=False) if name.endswith(".csv") else frame.to_json(orient="records", lines=True)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def same(log, columns=PLAIN, rtol=1e-6):
    """Each row an episode."""
    np.testing.assert_allclose(log.log_rho_tm1, (columns["log_pi"] - columns["log_mu"])[None], rtol=rtol)
    np.testing.assert_allclose(log.r_t, np.asarray(columns["reward"])[None], rtol=rtol)
    assert log.is_valid_t.all()


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.npz", "a.jsonl", "a.json.gz", "a.ndjson"])
def test_columns_play_roles_whatever_they_are_called(tmp_path, name):
    path = written(tmp_path / name, CLICKS)
    same(ope.read_log(path, columns=ROLES, probabilities=True))


@pytest.mark.parametrize(
    "frame",
    [CLICKS, {name: x.tolist() for name, x in CLICKS.items()}, pd.DataFrame(CLICKS), pa.table(CLICKS)],
    ids=["arrays", "lists", "pandas", "pyarrow"],
)
def test_frames_in_memory_are_packed(frame):
    same(ope.pack(frame, columns=ROLES, probabilities=True))


class Polars:
    """What a Polars frame is to us: names in `columns`, a column by its name that NumPy takes."""

    def __init__(self, columns):
        self.columns, self._columns = list(columns), columns

    def __getitem__(self, name):
        return memoryview(self._columns[name])


def test_any_frame_with_names_and_columns_is_packed():
    same(ope.pack(Polars(CLICKS), columns=ROLES, probabilities=True))
    with pytest.raises(TypeError, match="frame must be a table or a dictionary of columns, but it is a int"):
        ope.pack(3)


def test_probabilities_have_usual_names_of_their_own():
    same(ope.pack({"reward": CLICKS["click"], "pi": PI, "mu": MU}, probabilities=True))


def test_names_of_rllib_are_known_and_its_batches_read(tmp_path):
    batches = [
        {"eps_id": [7, 7], "t": [0, 1], "rewards": [1.0, 2.0], "action_logp": [-0.5, -0.25], "log_pi": [-1.0, -1.0]},
        {"eps_id": [9], "t": [0], "rewards": [4], "action_logp": [-0.5], "log_pi": [-0.5]},
    ]
    path = tmp_path / "output.json"
    path.write_text("\n".join(json.dumps(batch | {"type": "SampleBatch"}) for batch in batches))
    log = ope.read_log(path)
    np.testing.assert_array_equal(log.r_t.T, [[1.0, 2.0], [4.0, 0.0]])
    np.testing.assert_allclose(log.log_rho_tm1.T, [[-0.5, -0.75], [0.0, 0.0]])


def test_rows_without_step_keep_their_order_and_without_episode_begin_at_step_0():
    columns = {"reward": np.arange(5.0), "log_pi": np.zeros(5), "log_mu": np.zeros(5)}
    expected = [[0.0, 2.0, 4.0], [1.0, 3.0, 0.0]]
    np.testing.assert_array_equal(ope.pack(columns | {"episode": [1, 2, 1, 2, 1]}).r_t.T, expected)
    np.testing.assert_array_equal(
        ope.pack(columns | {"step": [0, 1, 2, 0, 1]}).r_t.T, [[0.0, 1.0, 2.0], [3.0, 4.0, 0.0]]
    )
    with pytest.raises(ValueError, match="column step: episode 1 lacks step 1; row 2 is step 2"):
        ope.pack(columns | {"step": [0, 2, 3, 0, 1]})
    assert ope.pack_targets(columns).notes == ("The log has no column episode: each row counts as an episode.",)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (PLAIN | {"log_mu": MU}, {}, r"column log_mu must be at most 0, .*, but row 1 is .*: all lie in \[0, 1\], as "),
        (PLAIN, {"probabilities": True}, r"column log_pi must lie in \[0, 1\], being a probability, .* as logarithms"),
        ({"reward": [1.0], "pi": [3.0], "mu": [0.5]}, {"probabilities": True}, "is 3: densities need --densities"),
        ({"reward": [1.0], "pi": [0.5], "mu": [0.0]}, {"probabilities": True}, "mu must be greater than 0: an action"),
        (PLAIN, {"columns": {"mu": "p"}}, "column p, which is to be mu, is missing; there are reward, log_pi, log_mu"),
        (PLAIN, {"columns": {"propensity": "p"}}, "column must name a role among episode, .*, but it is 'propensity'"),
        ({"reward": [1.0], "log_pi": [0.0]}, {}, "column log_mu is missing; .*; name it with --column mu=NAME"),
        ({"reward": [1.0], "log_mu": [0.0]}, {}, "column log_pi is missing; .*=NAME or give --target"),
        (PLAIN | {"Episodes": np.zeros(6)}, {}, "column episode is missing; .*; is 'Episodes' meant"),
        (PLAIN | {"action": ["a", "b"] * 3}, {"target": "c"}, r"target must be uniform or an action of the log \(a, b"),
        (PLAIN, {"target": "uniform"}, "column action is missing, which target needs"),
        (PLAIN | {"log_pi.a": PLAIN["log_pi"]}, {"columns": {"pi": "log_pi.b"}}, "column log_pi.b, which is to be pi"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(columns, options, message):
    with pytest.raises(ValueError, match=message):
        ope.pack(columns, **options)


def test_probabilities_that_were_not_recorded_are_noticed():
    (note,) = ope.pack_targets(PLAIN | {"log_mu": np.zeros(6), "episode": np.arange(6)}).notes
    assert note.startswith("Every action has probability 1 under the policy that acted")
    densities = PLAIN | {"log_mu": MU, "log_pi": PI, "episode": np.arange(6)}
    (note,) = ope.pack_targets(densities, densities=True).notes
    assert "give --probabilities instead" in note


def test_a_target_that_no_column_tells_of_follows_from_actions():
    columns = {"reward": np.ones(4), "mu": np.full(4, 0.5), "action": ["x", "y", "x", "z"]}
    uniform = ope.pack(columns, probabilities=True, target="uniform")
    np.testing.assert_allclose(np.exp(uniform.log_rho_tm1), [[2 / 3] * 4], rtol=1e-6)
    always = ope.pack(columns, probabilities=True, target="x")
    np.testing.assert_allclose(np.exp(always.log_rho_tm1), [[2.0, 0.0, 2.0, 0.0]], rtol=1e-6)
    always = ope.pack(columns | {"action": [1, 2, 1, 3]}, probabilities=True, target="1")
    np.testing.assert_allclose(np.exp(always.log_rho_tm1), [[2.0, 0.0, 2.0, 0.0]], rtol=1e-6)


def test_several_targets_are_read_together_and_one_alone_is_refused_to_be_guessed(tmp_path):
    columns = {"reward": PLAIN["reward"], "log_mu": PLAIN["log_mu"], "log_pi.a": PLAIN["log_pi"]}
    path = written(tmp_path / "log.parquet", columns | {"log_pi.b": PLAIN["log_mu"]})
    targets = ope.read_targets(path).episodes
    assert list(targets) == ["a", "b"]
    same(targets["a"])
    np.testing.assert_array_equal(targets["b"].log_rho_tm1, 0.0)
    with pytest.raises(ValueError, match=r"must tell of one target policy, but it tells of a, b"):
        ope.read_log(path)


def test_a_missing_behavior_policy_is_estimated_by_counts_and_said_to_be():
    state, action = ["s", "s", "s", "t", "t", "s"], [0, 0, 1, 1, 1, 0]
    columns = {"reward": np.ones(6), "log_pi": np.log(np.full(6, 0.5)), "state": state, "action": action}
    targets = ope.pack_targets(columns)
    expected = 0.5 / np.array([0.75, 0.75, 0.25, 1.0, 1.0, 0.75])
    np.testing.assert_allclose(np.exp(targets.episodes[""].log_rho_tm1), expected[None], rtol=1e-6)
    assert any("was estimated from how often it took each of 2 actions in each of 2 states" in x for x in targets.notes)


def test_weights_of_several_loggers_are_balanced():
    """π / Σ_k α_k μ_k, of one step and of two (Agarwal et al. 2017)."""
    p = np.random.default_rng(0).uniform(0.1, 0.9, (3, 8))
    columns = {"reward": np.ones(8), "logger": ["a"] * 6 + ["b"] * 2, "pi": p[0], "mu.a": p[1], "mu.b": p[2]}
    log = ope.pack(columns, probabilities=True)
    np.testing.assert_allclose(np.exp(log.log_rho_tm1[0]), p[0] / (0.75 * p[1] + 0.25 * p[2]), rtol=1e-5)
    log = ope.pack(columns | {"episode": np.arange(8) // 2}, probabilities=True)
    whole = [of.reshape(4, 2).prod(1) for of in p]
    products = np.exp(np.sum(log.log_rho_tm1, 0))
    np.testing.assert_allclose(products, whole[0] / (0.75 * whole[1] + 0.25 * whole[2]), rtol=1e-5)
    with pytest.raises(ValueError, match=r"column logger is missing: which of the policies of mu.a, mu.b acted"):
        ope.pack({name: x for name, x in columns.items() if name != "logger"}, probabilities=True)
    with pytest.raises(ValueError, match="column logger must be among a, b, but row 1 is 'c'"):
        ope.pack(columns | {"logger": ["c"] * 8}, probabilities=True)


COUNTS = ((1, 0, 280), (1, 1, 224), (2, 0, 243), (2, 1, 253))


def test_vowpal_wabbits_counts_give_its_estimates(tmp_path):
    """IPS .506 with a standard error of .0275, SNIPS .510081, as costs."""
    path = tmp_path / "log.vw"
    path.write_text("".join(f"2 {action}:{cost}:0.5 | x\n" * count for action, cost, count in COUNTS))
    log = ope.read_log(path)
    ips = ope.ordinary_is(log.log_rho_tm1, log.r_t, 1.0)
    np.testing.assert_allclose((ips.value, ips.standard_error), (-0.506, 0.0275), rtol=1e-3)
    np.testing.assert_allclose(ope.weighted_is(log.log_rho_tm1, log.r_t, 1.0).value, -0.510081, atol=1e-6)


EVENTS = {
    "cb": "1:2:0.4 | a b\n3:0.5:0.2 |u c |v d\n2:-1:1 'tag| e\n",
    "cb_adf": "shared | s\n0:2:0.4 | a\n| b\n| c\n\n| a\n| b\n0:0.5:0.2 | c\n\n| a\n3:-1:1 | b\n",
    "dsjson": "\n".join(
        json.dumps({"_label_cost": cost, "_label_probability": p, "_labelIndex": i, "a": [i + 1], "p": [p]} | more)
        for cost, p, i, more in ((2, 0.4, 0, {}), (0.5, 0.2, 2, {"a": [3, 1, 2]}), (-1, 1, 1, {"a": [2, 1]}))
    ),
}


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("cb", "log.cb", {}),
        ("cb", "log.vw", {}),
        ("cb", "log.data.gz", {"format": "cb"}),
        ("cb_adf", "log.cb_adf", {}),
        ("cb_adf", "log.dat", {}),
        ("dsjson", "log.dsjson.gz", {}),
        ("dsjson", "log.json", {}),
    ],
)
def test_each_format_of_vowpal_wabbit_holds_actions_negated_costs_and_probabilities(tmp_path, kind, name, options):
    path = tmp_path / name
    content = EVENTS[kind].encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    for target in ("2", "3"):
        log = ope.read_log(path, target=target, **options)
        np.testing.assert_allclose(log.r_t, [[-2.0, -0.5, 1.0]])
        chosen = [0.0, 0.0, 1.0] if target == "2" else [0.0, 5.0, 0.0]
        np.testing.assert_allclose(np.exp(log.log_rho_tm1), [chosen], rtol=1e-6)


def test_a_uniform_target_counts_the_actions_of_each_event(tmp_path):
    (tmp_path / "log.cb_adf").write_text(EVENTS["cb_adf"])
    log = ope.read_log(tmp_path / "log.cb_adf", target="uniform")
    np.testing.assert_allclose(np.exp(log.log_rho_tm1), [[1 / 3 / 0.4, 1 / 3 / 0.2, 0.5]], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.cb", "1:2:0.4 | a\n1:2 | b\n", "line 2 must hold action:cost:probability, but '1:2' has no probability"),
        ("a.cb", "1:2:0 | a\n", r"the probability of line 1 must lie in \(0, 1\], but it is 0"),
        ("a.cb", "1:x:0.5 | a\n", "line 1 must hold action:cost:probability, but there is '1:x:0.5'"),
        ("a.cb", "\x93\xff | a\n", "line 1 must hold action:cost:probability before a bar"),
        ("a.cb_eval", "1:2:0.4 | a\n", "line 1 must begin with an action of the policy, from 1, but it is '1:2:0.4'"),
        (
            "a.cb_adf",
            "| a\n| b\n\n",
            "one line with action:cost:probability, but the one from line 1 on has 0",
        ),
        ("a.dsjson", '{"_label_cost": 1}\n', "_label_Action of line 1 must be a number, but it is 'None'"),
        ("a.jsonl", '{"reward": 1\n', r"it is not a file of JSON lines that can be read \(line 1"),
        ("a.jsonl", "[1, 2]", "each line must be a JSON object, but entry 1 is 1"),
        ("a.jsonl", '{"reward": 1, "log_pi": 0, "log_mu": 0}\n{"reward": 1}', "column log_pi is missing in line 2"),
        ("a.jsonl", '{"reward": [1], "log_pi": [0, 1], "log_mu": [0]}', "the lists of line 1 must be equally long"),
        ("a.csv.gz", "reward", "it is not a gzip file that can be read"),
    ],
)
def test_what_is_no_log_of_its_format_is_refused_in_a_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        ope.read_log(path, target="1" if ".cb" in name or ".ds" in name else "")
    assert str(error.value).startswith(f"{path}")
    assert "\n" not in str(error.value)


def test_states_of_any_kind_become_numbers(tmp_path):
    table = pa.table(PLAIN | {"state": pa.array(["b", "a", "b", "c", "a", "a"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "log.parquet")
    np.testing.assert_array_equal(ope.read_log(tmp_path / "log.parquet").state_tm1, [[1, 0, 1, 2, 0, 0]])
    written(tmp_path / "log.csv", PLAIN | {"state": [30, 4, 30, 100, 4, 4]})
    np.testing.assert_array_equal(ope.read_log(tmp_path / "log.csv").state_tm1, [[1, 0, 1, 2, 0, 0]])


def test_every_format_has_a_suffix_of_its_own():
    assert {"csv", "parquet", "npz", "jsonl", "vw", "cb", "cb_adf", "cb_eval", "dsjson"} == set(FORMATS.values())
