"""On a simulated Mac's GPU, which has no float64 (simulated_gpu.py, ``"mps"``): what the course does there, it can.

That Metal has every other operation, and what it makes of them, only a Mac can tell.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from itr_lib.course.answered import solved
from itr_lib.course.source import lesson_sources, read_source
from itr_lib.encoders.pretrained import faster_precision
from itr_lib.lessons import open_lesson
from itr_lib.lessons.machine import WITHOUT_MPS, choose_device
from itr_lib.parallel import together
from itr_lib.similarity.precision import fastest_dtype

HERE = Path(__file__).parent
LESSONS = lesson_sources(HERE.parent)
ONE_BY_ONE = [
    pytest.param(path, id=path.stem, marks=() if path.stem[:3] in ("01_", "06_") else pytest.mark.nightly)
    for path in LESSONS
]


def ran(*arguments: str, **environment: str) -> dict:
    """What on_simulated_mps.py prints, in a process of its own."""
    command = [sys.executable, str(HERE / "on_simulated_mps.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, env=os.environ | environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_model_trains_resumes_and_is_measured_there() -> None:
    """Some fifteen seconds, most of them imports."""
    seen = ran()
    assert {name.partition(",")[0] for name in seen} == {"vse", "teran", "chan", "user", "tgdt"}
    for name, measured in seen.items():
        assert all(map(math.isfinite, measured.values())) and measured["found"] == 3, name
        assert measured["apart"] < 1e-4, f"{name}: scores {measured['apart']} from the CPU's"


@pytest.mark.slow
@pytest.mark.parametrize("path", ONE_BY_ONE)
def test_a_lessons_cells_run_there_or_it_says_why_not(path: Path, tmp_path: Path) -> None:
    """In the profile smoke, half a minute a lesson: each operation of a GPU is taken apart in Python."""
    kept = tmp_path / "my_answers.py"
    kept.write_text(solved(map(read_source, LESSONS)), encoding="utf-8")
    told = ran(str(path), ITR_ANSWERS=str(kept))
    if path.stem in WITHOUT_MPS:
        assert WITHOUT_MPS[path.stem] in told["error"]
    else:
        assert told["error"] == "" and told["device"] == "mps" and told["metrics"]


@pytest.fixture
def a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_it_is_taken_only_when_it_is_named(a_mac) -> None:
    assert choose_device("auto") == "cpu" and choose_device("mps") == "mps"


def test_where_there_is_none_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device is 'mps', and torch finds no Mac's GPU here: use 'auto' or 'cpu'"):
        choose_device("mps")


@pytest.mark.parametrize("lesson", WITHOUT_MPS)
def test_a_lesson_that_cannot_says_why_and_is_one_that_there_is(a_mac, lesson: str) -> None:
    assert lesson in {path.stem for path in LESSONS}
    with pytest.raises(ValueError, match=WITHOUT_MPS[lesson]):
        open_lesson(lesson, profile="smoke", device="mps")


def test_it_computes_in_32_bits_by_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert faster_precision("mps") == "float32" and fastest_dtype("mps") == torch.float32
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="which one process has for itself"), together("mps"):
        pass
