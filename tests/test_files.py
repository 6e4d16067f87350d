"""Files that are written whole or not at all, whoever writes them."""

from __future__ import annotations

import os

import pytest

from data_scripts import expect
from itr_lib.checks import answers
from itr_lib.files import write_whole
from itr_lib.lessons import recorded

WRITERS = {
    "text": lambda path: write_whole(path, "new"),
    "bands": lambda path: expect.write_bands(path, "scenes", {"00": {"t2i_r1": [1.0, 2.0]}}, widen=False),
    "record": lambda path: recorded.write_record("00", {"data": "scenes", "runs": []}),
    "answers": lambda path: answers._write(path, {"a-slug": "x = 1"}),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_what_was_there(writer, step, tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "RECORDED", tmp_path)
    path = tmp_path / "00-scenes.json"
    WRITERS[writer](path)
    before = path.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no room"):
        patch.setattr(os, step, lambda *_: (_ for _ in ()).throw(OSError("no room")))
        WRITERS[writer](path)
    assert path.read_bytes() == before
    WRITERS[writer](path)
    assert {file.name for file in tmp_path.iterdir()} == {path.name}


def test_text_is_utf_8(tmp_path):
    write_whole(tmp_path / "x", "Mädchen\n")
    assert (tmp_path / "x").read_bytes() == "Mädchen\n".encode()
