"""Files that appear whole or not at all, and that are what was written when they are read again."""

import contextlib
import json
import math
import os
import stat
import threading

import numpy as np
import pytest

from isjax.run.files import Damaged, read_json, remove_leftovers, replacing, sealed, write_json


def test_what_is_not_finite_becomes_null(tmp_path):
    write_json(tmp_path / "x.json", {"a": math.nan, "b": [1.0, math.inf], "c": {"d": -math.inf}})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [1.0, None], "c": {"d": None}}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    with contextlib.suppress(RuntimeError), replacing(path) as file:
        file.write(b"half of")
        raise RuntimeError("disk full")
    assert read_json(path) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_a_missing_or_broken_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run: config\.json is missing"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"[1, 2]", r"must hold an object, but it holds \[1, 2\]"),
        (b'"text"', "must hold an object"),
        (b"\xff\xfe{}", "is not JSON"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
    ],
)
def test_what_holds_no_object_is_refused_by_name(content, message, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(Damaged, match=message) as caught:
        read_json(path)
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_fifos_and_links_to_nowhere_are_named_for_what_they_are(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("nowhere")
    for name, kind in (("folder", "a folder"), ("fifo", "a FIFO"), ("link", "a link that leads nowhere")):
        with pytest.raises(Damaged, match=f"{name} must be a file, but it is {kind}"):
            read_json(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learners": 3}, "learners was another, but it is 3"),
        ({"config": {"env": "x", "steps": 5}}, "config.steps was another, but it is 5"),
        ({"config": {"env": "x"}}, "config.steps is missing"),
        ({"config": {"env": "x", "steps": 4, "more": 1}}, "config.more was added"),
        ({"checksums": 5}, "checksums must be an object"),
    ],
)
def test_a_sealed_field_that_was_edited_is_named(change, message, tmp_path):
    content = sealed({"learners": 2, "config": {"env": "x", "steps": 4}, "list": [1.0, math.nan]}) | {"command": "x"}
    write_json(tmp_path / "x.json", content)
    written = read_json(tmp_path / "x.json")
    assert written["learners"] == 2
    (tmp_path / "x.json").write_text(json.dumps(written | change))
    with pytest.raises(Damaged, match=message):
        read_json(tmp_path / "x.json")


def test_edits_that_change_nothing_and_fields_that_are_not_sealed_are_harmless(tmp_path):
    content = sealed({"learners": 2, "rate": 1e-05, "config": {"env": "x", "steps": 4.0}}) | {"command": "x"}
    text = json.dumps(content | {"command": "y", "note": 1}, indent=7, sort_keys=True)
    (tmp_path / "x.json").write_text(text.replace("1e-05", "0.00001").replace("4.0", "4"))
    assert read_json(tmp_path / "x.json")["command"] == "y"


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "target").write_text("old")
    (tmp_path / "link").symlink_to("elsewhere/target")
    (tmp_path / "second").symlink_to(tmp_path / "link")
    with replacing(tmp_path / "second") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert (tmp_path / "elsewhere" / "target").read_text() == "new"
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_a_link_to_a_file_that_is_not_there_yet_makes_it(tmp_path):
    (tmp_path / "link").symlink_to("target")
    write_json(tmp_path / "link", {"a": 1})
    assert (tmp_path / "link").is_symlink()
    assert read_json(tmp_path / "target") == {"a": 1}


def test_a_circle_of_links_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"), replacing(tmp_path / "a"):
        pass
    assert (tmp_path / "a").is_symlink()


def test_a_fifo_is_written_to_and_stays_one(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    with replacing(path) as file:
        np.savez(file, x=np.arange(3))
    reader.join(10)
    assert read[0].startswith(b"PK")
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_devices_are_written_to_and_stay_devices(tmp_path):
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (tmp_path / "link", tmp_path.__class__("/dev/null")):
        with replacing(path) as file:
            file.write(b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="No space left"), replacing(tmp_path.__class__("/dev/full")) as file:
        file.write(b"x")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_an_open_stream_is_written_to_even_where_a_file_is_behind_it(tmp_path):
    with (tmp_path / "out").open("wb") as stream:
        stream.write(b"before ")
        stream.flush()
        with replacing(tmp_path.__class__(f"/proc/self/fd/{stream.fileno()}")) as file:
            file.write(b"content")
        assert os.path.samestat(os.fstat(stream.fileno()), (tmp_path / "out").stat())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["x" * 250, "é" * 120, "\udcff\udcfe.csv"])
def test_a_name_may_be_as_long_as_names_can_be(name, tmp_path):
    with replacing(tmp_path / name) as file:
        file.write(b"x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long_or_a_folder_is_an_error_that_names_what_was_asked_for(tmp_path):
    with pytest.raises(OSError, match="too long"), replacing(tmp_path / ("x" * 300)):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="/folder'"), replacing(tmp_path / "folder"):
        pass
    with pytest.raises(OSError, match="/nowhere/file'"), replacing(tmp_path / "nowhere" / "file"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_who_may_read_a_file_does_not_change(tmp_path):
    path = tmp_path / "x"
    path.write_text("")
    path.chmod(0o640)
    with replacing(path) as file:
        file.write(b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    left = [".metrics.parquet.123", ".config.json.7", ".000000000004.parquet.99", ".0-00000.npz.5"]
    kept = [".lock", ".lock-1", ".hidden", ".notes.txt.5", "metrics.parquet", ".gitignore"]
    for name in left + kept:
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
