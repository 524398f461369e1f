"""The command line from outside: what it says, and the code it ends with."""

import importlib
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from isjax import __version__
from isjax.cli import COMMANDS, main
from isjax.commands.flags import in_flags, peek
from isjax.commands.train import HostFlags, HyperFlags, RunFlags, TrainFlags
from isjax.errors import FieldError
from isjax.learner import Config, Hyper

SMALL = """
    --env Catch-bsuite --learners 3 --steps 3200 --num-envs 2 --unroll-length 4 --torso 8 --evaluation-episodes 2
    --log-every 20 --checkpoint-every 0 --actor-lag 1 --devices 1
""".split()  # noqa: SIM905


def said_about(capsys, *argv: str) -> str:
    """The one line on stderr that `argv` is refused with."""
    assert main(list(argv)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.strip()


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Of processes that have as many devices as the machine."""
    keep = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return keep | {"PYTHONPATH": str(Path(__file__).parents[1])}


def start(environment, *argv: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "isjax", *argv]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def wait_for_checkpoint(folder: Path, process: subprocess.Popen) -> None:
    while not any(path.name.isdigit() for path in folder.rglob("checkpoints/*/*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(environment, tmp_path_factory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    code, out, err = finish(start(environment, "train", *SMALL, "--out", str(folder)))
    assert code == 0, err
    assert "IQM return" in out
    assert max(map(len, out.splitlines())) <= 80
    assert err.startswith("impala on Catch-bsuite: 3 learners, 3,200 steps each, on ")
    assert re.search(r"^Compiled in \d+\.\d s, \S+ MB of memory\.$", err, re.MULTILINE)
    assert "100%" in err
    return folder


def equal_results(one: Path, other: Path) -> None:
    assert pq.read_table(one / "metrics.parquet").equals(pq.read_table(other / "metrics.parquet"))
    one, other = (json.loads((folder / "summary.json").read_text()) for folder in (one, other))
    assert one["final_return"]["per_learner"] == other["final_return"]["per_learner"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_in_order_and_the_line_it_prints_resumes_it(number, whole, environment, tmp_path):
    folder = tmp_path / "run"
    process = start(environment, "train", *SMALL, "--out", str(folder))
    wait_for_checkpoint(folder, process)
    process.send_signal(number)
    code, _, err = finish(process)
    assert code == 130, err
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    assert 0 < len(pq.read_table(folder / "metrics.parquet")) < 3 * 20
    line = err.strip().splitlines()[-1]
    assert line == f"Interrupted. To go on: isjax train --resume --out {folder}"
    code, _, err = finish(start(environment, *line.split("isjax ")[1].split(), "--devices", "1"))
    assert code == 0, err
    assert "Resuming at update" in err
    equal_results(folder, whole)


def test_a_run_that_is_killed_resumes_to_the_same_numbers(whole, environment, tmp_path):
    folder = tmp_path / "run"
    for _ in range(2):
        again = ["--resume"] if folder.exists() else []
        process = start(environment, "train", *SMALL, "--out", str(folder), *again)
        wait_for_checkpoint(folder, process)
        time.sleep(0.1)
        process.kill()
        assert finish(process)[0] == -signal.SIGKILL
    code, _, err = finish(start(environment, "train", *SMALL, "--out", str(folder), "--resume"))
    assert code == 0, err
    equal_results(folder, whole)


def test_resuming_what_is_finished_says_so(whole, capsys):
    (whole / "report.html").unlink()
    assert main(["train", "--resume", "--out", str(whole)]) == 0
    assert (whole / "report.html").exists()
    assert capsys.readouterr().out == f"{whole} is finished: there is nothing to resume.\n"


def test_resuming_with_another_setting_names_it(whole, capsys):
    line = said_about(capsys, "train", "--resume", "--out", str(whole), "--lambda", "0.5")
    assert line == f"isjax train: error: --lambda must be 0.95 to resume the run in {whole}, but it is 0.5."
    assert "--steps must be 3200" in said_about(capsys, "train", "--resume", "--out", str(whole), "--steps", "9999")


def test_a_folder_that_holds_a_run_is_refused(whole, capsys):
    assert "--out must not hold another run" in said_about(capsys, "train", *SMALL, "--out", str(whole))


def test_the_page_is_rebuilt(whole, capsys):
    (whole / "report.html").unlink()
    assert main(["report", str(whole)]) == 0
    assert capsys.readouterr().out == f"{whole / 'report.html'}\n"
    assert (whole / "report.html").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--lerners 3", "there is no option --lerners; did you mean --learners or"),
        ("--zzz", "there is no option --zzz."),
        ("extra", "there is no place for the argument 'extra'."),
        ("--num-envs", "--num-envs needs a value."),
        ("--num-envs x", "--num-envs must be a whole number, but it is 'x'."),
        ("--num-envs 0", "--num-envs must be at least 1, but it is 0."),
        ("--torso 8 x", "--torso must be whole numbers, but it is 'x'."),
        ("--minibatches 3", "--minibatches must be a divisor of --num-envs, which is 8, but it is 3."),
        (
            "--network cnv",
            "--network must be one of mlp, residual, conv, patches, nature, nature-patches, impala, impala-patches, "
            "but it is 'cnv'; did you mean conv",
        ),
        ("--lambda x", "--lambda must be a number, but it is 'x'."),
        ("--lambda 2", "--lambda must be in [0, 1], but it is 2.0."),
        ("--learners 0", "--learners must be at least 1, but it is 0."),
        ("--seed -1", "--seed must be at least 0, but it is -1."),
        ("--devices 999", "--devices must be at most"),
        ("--algorithm impalla", "--algorithm must be one of impala"),
        ("--env Cartpole", "--env must be a registered environment, but it is 'Cartpole'; did you mean CartPole-v1"),
        ("--sink foo", "--sink must be one of none, tensorboard, wandb, but it is 'foo'."),
        ("--resume", "--resume needs --out, the folder of the run."),
        ("--resume --out /nowhere", "--resume: /nowhere holds no run: config.json is missing."),
        ("--devices-per-learner 3", "--devices-per-learner must divide the 8 devices, but it is 3."),
        ("--devices-per-learner 0", "--devices-per-learner must be at least 1, but it is 0."),
        ("--learners-per-group -1", "--learners-per-group must be at least 0, but it is -1."),
        ("--checkpoints-kept 0", "--checkpoints-kept must be at least 1, but it is 0."),
        ("--out /dev/null", "--out must be a folder, but /dev/null is a file."),
    ],
)
def test_bad_arguments_are_one_line_that_names_the_flag(argv, message, capsys):
    assert said_about(capsys, "train", *argv.split()).startswith(f"isjax train: error: {message}")


def test_data_that_cannot_be_downloaded_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert "downloads its data, which failed" in said_about(capsys, "train", "--env", "MNISTBandit-bsuite")


def test_a_sink_that_is_not_installed_is_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "--sink wandb needs the package wandb: pip install" in said_about(capsys, "train", "--sink", "wandb")


def test_other_bad_lines(capsys, tmp_path):
    said = said_about(capsys, "sweeep")
    known = ", ".join(COMMANDS)
    assert said == f"isjax: error: command must be one of {known}, but it is 'sweeep'; did you mean sweep?"
    assert said_about(capsys, "report") == "isjax report: error: DIR is missing."
    assert "holds no run" in said_about(capsys, "report", str(tmp_path))


def test_benchmarks_run_from_anywhere(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "no-such-thing"]) == 2
    assert "unknown: no-such-thing; known are ops" in capfd.readouterr().err
    assert main(["bench", "--help"]) == 0
    assert "--quick" in capfd.readouterr().out


def test_without_the_repository_benchmarks_say_where_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("isjax.commands.bench.__file__", str(tmp_path / "isjax" / "commands" / "bench.py"))
    assert "the benchmarks are in the repository" in said_about(capsys, "bench")


def test_a_run_that_fails_is_one_line_and_code_1(tmp_path, capsys, monkeypatch):
    from isjax.run.train import Run

    def fail(self):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(Run, "train", fail)
    assert main(["train", "--out", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == "isjax train: error: the run failed: RuntimeError: out of\n"
    assert main(["train", "--out", str(tmp_path / "run"), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_run_in_which_everyone_died_is_code_1(tmp_path, capsys, monkeypatch):
    from isjax.run.train import Run

    monkeypatch.setattr(Run, "train", lambda self: {"status": "finished", "alive": 0})
    (tmp_path / "report.html").touch()
    assert main(["train", "--out", str(tmp_path), "--quiet"]) == 1
    assert "every learner died" in capsys.readouterr().err


def test_usage_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    assert "  train " in capsys.readouterr().out
    assert main([]) == 2
    capsys.readouterr()
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_help_names_every_setting_in_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.replace("\u0304", "").splitlines())) <= 80
    for name in (
        *Config.__dataclass_fields__,
        *Hyper.__dataclass_fields__,
        *RunFlags.__dataclass_fields__,
        *HostFlags.__dataclass_fields__,
    ):
        assert f"--{name.rstrip('_').replace('_', '-')} " in text.replace(",", " ")


def test_help_shows_the_defaults_of_the_environment(capsys):
    main(["train", "--env", "Breakout-MinAtar", "--help"])
    assert "(default: 10000000)" in capsys.readouterr().out


def test_help_needs_no_environment_library():
    code = (
        "import sys, isjax.cli\n"
        "assert isjax.cli.main(['train', '--help']) == 0\n"
        "assert not {'gymnax', 'optax', 'orbax.checkpoint', 'plotly', 'pandas'} & set(sys.modules)\n"
        "import jax; assert not jax._src.xla_bridge._backends"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_the_last_value_of_a_flag_counts():
    assert peek(["--env", "A", "--env=B"], "--env") == "B"
    assert peek(["--env"], "--env") is None
    assert peek([], "--env") is None


def test_messages_about_fields_become_messages_about_flags():
    error = FieldError("lambda_", "less than {clip_rho}, which is 1", "clip_rho")
    assert in_flags(error, HyperFlags) == "--lambda must be less than --clip-rho, which is 1, but it is clip_rho."
    assert (
        in_flags(error, RunFlags) == str(error) == "lambda_ must be less than clip_rho, which is 1, but it is clip_rho."
    )


def test_words_of_other_errors_are_left_alone():
    for said in (
        "memory exhausted",
        "seed of the storm",
        "the batch_size of num_envs",
        "seed must be sown",
        "out of memory",
    ):
        assert in_flags(ValueError(said), TrainFlags) == said


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_list_has_a_main_and_a_line_of_help(name, capsys):
    assert callable(importlib.import_module(COMMANDS[name].module).main)
    assert main(["--help"]) == 0
    assert f"  {name:<9} {COMMANDS[name].help}\n" in capsys.readouterr().out


def test_a_command_of_another_package_is_found_by_its_entry_point(monkeypatch, capsys):
    entry = importlib.metadata.EntryPoint("hello", "somewhere_else", "isjax.commands")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] if group == entry.group else [])
    monkeypatch.setitem(sys.modules, "somewhere_else", types.SimpleNamespace(main=lambda argv: len(argv)))
    assert main(["hello", "a", "b"]) == 2
    main(["--help"])
    assert "  hello     from somewhere_else\n" in capsys.readouterr().out
    assert main(["helo"]) == 2
    assert "did you mean hello?" in capsys.readouterr().err
