"""The cache: whole or absent, made once, damage noticed."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from itr_lib.data.cache import MANIFEST, cache_folder, cached_folder, damage

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ITR_CACHE", str(tmp_path / "cache"))


def write_two(path: Path) -> None:
    (path / "a.txt").write_text("hello")
    (path / "sub").mkdir()
    np.save(path / "sub" / "b.npy", np.arange(100))


def never(path: Path) -> None:
    raise AssertionError("the folder was made again")


def test_made_once_then_opened():
    folder = cached_folder("things-1", write_two)
    assert folder == cache_folder() / "things-1" and damage(folder) is None
    assert cached_folder("things-1", never) == folder
    assert sorted(p.name for p in cache_folder().iterdir()) == ["things-1", "things-1.lock"]


def test_default_folder_is_the_users(monkeypatch):
    monkeypatch.delenv("ITR_CACHE")
    assert "itr_lib" in str(cache_folder())


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda f: (f / "a.txt").write_text("hellO"), "a.txt was changed"),
        (lambda f: os.truncate(f / "sub" / "b.npy", 50), "has 50 bytes instead of"),
        (lambda f: (f / "a.txt").unlink(), "a.txt is missing"),
        (lambda f: (f / MANIFEST).unlink(), "manifest.json is missing"),
        (lambda f: os.truncate(f / MANIFEST, 20), "manifest.json cannot be read"),
        (lambda f: (f / MANIFEST).write_text("[]"), "manifest.json cannot be read"),
    ],
)
def test_damage_is_noticed_and_repaired(harm, words, caplog):
    folder = cached_folder("k", write_two)
    harm(folder)
    with caplog.at_level(logging.WARNING):
        cached_folder("k", write_two)
    assert len(caplog.records) == 1 and words in caplog.text and "made again" in caplog.text
    assert damage(folder) is None and (folder / "a.txt").read_text() == "hello"


def test_leftover_of_a_killed_run_is_cleared():
    leftover = cache_folder() / "k.making"
    leftover.mkdir(parents=True)
    (leftover / "half.npy").write_bytes(b"half")
    folder = cached_folder("k", write_two)
    assert not leftover.exists() and not (folder / "half.npy").exists()


def test_a_failing_maker_leaves_nothing():
    def fail(path):
        write_two(path)
        raise KeyError("no")

    with pytest.raises(KeyError):
        cached_folder("k", fail)
    assert [p.name for p in cache_folder().iterdir()] == ["k.lock"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), OSError("400 requested and 120 written")])
def test_full_disk_is_one_sentence(error):
    def fail(path):
        raise error

    with pytest.raises(OSError, match="is full: free some space, or set ITR_CACHE to another"):
        cached_folder("k", fail)


def test_other_errors_of_the_maker_stay_themselves():
    def fail(path):
        raise FileNotFoundError(errno.ENOENT, "no font", "x.ttf")

    with pytest.raises(FileNotFoundError, match="no font"):
        cached_folder("k", fail)


def test_cache_folder_that_is_a_file(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ITR_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="cannot be written to .*set ITR_CACHE"):
        cached_folder("k", write_two)


def test_read_only_cache(tmp_path):
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("permissions do not bind the administrator")
    folder = cached_folder("k", write_two)
    folder.parent.chmod(0o500)
    try:
        assert cached_folder("k", never) == folder
        with pytest.raises(OSError, match="cannot be written to"):
            cached_folder("other", write_two)
    finally:
        folder.parent.chmod(0o700)


@pytest.mark.parametrize("key", ["", "../up", "a b", ".hidden"])
def test_bad_key(key):
    with pytest.raises(ValueError, match="names a folder"):
        cached_folder(key, write_two)


SLOW_MAKER = """
import sys, time
from pathlib import Path
from itr_lib.data.cache import cached_folder
def make(path):
    print("made", flush=True)
    for n in range(10):
        (path / f"{n}.txt").write_text(str(n))
        time.sleep(0.03)
cached_folder("k", make)
"""


def start() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", SLOW_MAKER], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_two_processes_make_it_once():
    outputs = [process.communicate(timeout=60)[0] for process in [start(), start(), start()]]
    assert sorted(outputs) == ["", "", "made\n"]


def test_killed_while_making():
    process = start()
    assert process.stdout.readline() == "made\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (cache_folder() / "k").exists()
    start().communicate(timeout=60)
    assert damage(cache_folder() / "k") is None and (cache_folder() / "k" / "9.txt").read_text() == "9"
