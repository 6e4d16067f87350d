"""A cache that a class shares: read by those who cannot write it, and never touched."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_scripts import shared_cache
from itr_lib.data import offline
from itr_lib.data.cache import MANIFEST, cache_folder, cached_folder
from itr_lib.data.offline import folder_of, key_of

NOBODY = 65534


@contextlib.contextmanager
def as_one_who_may_not_write() -> Iterator[None]:
    """For root nothing is read-only: so be nobody for a while. Others are who they are."""
    if not hasattr(os, "geteuid"):
        pytest.skip("Windows has neither root nor modes of folders")
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def class_room(tmp_path_factory, monkeypatch) -> Iterator[Path]:
    """A shared folder with one thing in it, that nobody may write, and a learner's own cache beside it."""
    base = tmp_path_factory.mktemp("class")
    for folder in [base, *base.parents[: len(base.relative_to(tempfile.gettempdir()).parts) - 1]]:
        folder.chmod(0o755)  # pytest's own are its user's alone
    (shared := base / "shared").mkdir()
    monkeypatch.setenv("ITR_CACHE", str(shared))
    cached_folder("there", lambda path: (path / "a.txt").write_text("made by the teacher"))
    (shared / "there.lock").unlink()
    (own := base / "own").mkdir(mode=0o777)
    own.chmod(0o777)
    monkeypatch.setenv("ITR_CACHE", str(own))
    monkeypatch.setenv("ITR_SHARED_CACHE", str(shared))
    for path in [*shared.rglob("*"), shared]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield shared
    for path in [shared, *shared.rglob("*")]:
        path.chmod(0o755)


def never(path: Path) -> None:
    raise AssertionError("made again")


def as_it_is(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


def test_what_is_there_is_read_and_what_is_missing_becomes_ones_own(class_room: Path) -> None:
    before = as_it_is(class_room)
    with as_one_who_may_not_write():
        with pytest.raises(PermissionError):  # else the test would prove nothing
            (class_room / "mine").write_text("")
        assert cached_folder("there", never) == class_room / "there"
        own = cached_folder("missing", lambda path: (path / "b.txt").write_text("made by a learner"))
    assert own == cache_folder() / "missing" and (own / "b.txt").read_text() == "made by a learner"
    assert not (cache_folder() / "there").exists()
    assert as_it_is(class_room) == before


def test_the_same_folder_as_ones_own_cache_says_what_to_set(class_room: Path, monkeypatch) -> None:
    monkeypatch.setenv("ITR_CACHE", str(class_room))
    with as_one_who_may_not_write(), pytest.raises(OSError, match="cannot be written to .*: set ITR_CACHE to another"):
        cached_folder("missing", never)


def test_a_damaged_one_is_reported_and_passed_over(class_room: Path, caplog) -> None:
    (class_room / "there" / "a.txt").chmod(0o644)
    (class_room / "there" / "a.txt").write_text("made by the teacheR")
    with caplog.at_level(logging.WARNING):
        folder = cached_folder("there", lambda path: (path / "a.txt").write_text("again"))
    assert folder == cache_folder() / "there" and "tell whoever filled that folder" in caplog.text
    assert (class_room / "there" / "a.txt").read_text() == "made by the teacheR"


@pytest.mark.parametrize("place", ["/nowhere/at/all", ""])
def test_without_a_shared_cache_all_is_as_it_was(class_room: Path, monkeypatch, place: str) -> None:
    monkeypatch.setenv("ITR_SHARED_CACHE", place)
    assert cached_folder("there", lambda path: (path / "a.txt").write_text("x")).parent == cache_folder()


def test_weights_of_a_package_come_from_there_where_it_is_not_installed(class_room: Path, monkeypatch) -> None:
    monkeypatch.setitem(offline.PACKAGED, "all-minilm-l6-v2", ("a_package_that_is_nowhere", "model"))
    with pytest.raises(OSError, match="comes with the extra 'offline'"):
        folder_of("all-minilm-l6-v2")
    class_room.chmod(0o755)
    shutil.copytree(class_room / "there", class_room / key_of("all-minilm-l6-v2"))
    assert folder_of("all-minilm-l6-v2") == str(class_room / key_of("all-minilm-l6-v2"))


def test_the_command_fills_a_folder_that_everybody_can_read(tmp_path: Path, monkeypatch, capsys) -> None:
    package = tmp_path / "weights_of_ours"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model" / "weights.bin").write_text("1234")
    monkeypatch.setenv("ITR_CACHE", "x")  # put back afterwards
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    known = {"ours": ("weights_of_ours", "model"), "theirs": ("a_package_that_is_nowhere", "model")}
    monkeypatch.setattr(offline, "PACKAGED", known)
    monkeypatch.setattr(shared_cache, "PACKAGED", known)
    made = []
    monkeypatch.setattr(shared_cache, "load_scenes", made.append)
    monkeypatch.setattr(shared_cache, "small_clip_folder", lambda profile: made.append(f"clip {profile}"))
    folder = tmp_path / "shared"
    old = os.umask(0o077)
    try:
        assert shared_cache.main([str(folder), "--profiles", "smoke", "quick"]) == 0
    finally:
        os.umask(old)
    out = capsys.readouterr().out
    assert made == ["smoke", "clip smoke", "quick", "clip quick"]
    assert "without theirs" in out and f"ITR_SHARED_CACHE={folder}" in out
    assert json.loads((folder / "weights-ours" / MANIFEST).read_text())["files"].keys() == {"weights.bin"}
    assert not list(folder.glob("*.lock"))
    if sys.platform != "win32":
        assert {path.stat().st_mode & 0o055 for path in folder.rglob("*") if path.is_dir()} == {0o055}
        assert {path.stat().st_mode & 0o044 for path in folder.rglob("*") if path.is_file()} == {0o044}


def test_a_folder_that_cannot_be_one_gets_a_sentence(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("ITR_CACHE", "x")
    (tmp_path / "taken").write_text("")
    monkeypatch.setattr(shared_cache, "load_scenes", lambda profile: cached_folder("k", never))
    assert shared_cache.main([str(tmp_path / "taken")]) == 1
    assert "cannot be written to" in capsys.readouterr().err
