"""On a simulated GPU (simulated_gpu.py): training steps run there, the host seldom waits, a misplaced tensor is caught.

It computes on the CPU, so that all this is tested without a GPU; what it cannot tell (time, memory, CUDA's rounding) is
test_gpu.py's business.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from itr_lib.course.answered import solved
from itr_lib.course.source import lesson_sources, read_source

HERE = Path(__file__).parent
# Waits: for sizes and where gradients are, or for what is real (SGE); and to look at an epoch's losses and their mean.
A_STEP, AN_EPOCH = 2, 2
LESSONS = lesson_sources(HERE.parent)
ONE_BY_ONE = [
    pytest.param(path, id=path.stem, marks=() if path.stem[:3] in ("02_", "04_") else pytest.mark.nightly)
    for path in LESSONS
]


def ran(program: str, *arguments: str, **environment: str) -> str:
    """What a program of this folder prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(HERE / program), *arguments],
        capture_output=True,
        text=True,
        cwd=HERE.parent,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def seen() -> dict:
    """Losses, waits, errors and warnings of training steps on the device: some ten seconds, most of them imports."""
    return json.loads(ran("on_simulated_gpu.py").splitlines()[-1])


def test_the_simulation_finds_deliberate_mistakes() -> None:
    assert "all deliberate mistakes raised" in ran("simulated_gpu.py")


def test_every_model_trains_there_without_a_warning(seen: dict) -> None:
    assert set(seen["losses"]) >= {"vse", "teran", "chan", "user", "tgdt"}
    assert all(map(math.isfinite, seen["losses"].values())) and seen["warned"] == []


def test_a_training_step_waits_for_the_device_twice_at_most(seen: dict) -> None:
    for name, found in seen["counted"].items():
        assert found["waits"] <= A_STEP * seen["steps"] + AN_EPOCH, f"{name}, waits a step:\n{found['where']}"


def test_a_small_clip_is_trained_and_asked_there(seen: dict) -> None:
    clip = seen["clip"]
    assert min(clip["training"], clip["asking"]) > 50, "it stayed on the CPU"
    assert clip["apart"] < 1e-3 < clip["size"]  # its pictures' vectors are float16


def test_an_answer_runs_where_the_lesson_does(seen: dict) -> None:
    """With device="cpu" on the CPU alone, though a GPU is there; with "cuda" a tensor left behind is named."""
    assert seen["answers"]["cpu"] == {"caption-ranks": "", "recall-at-k": ""}
    assert "torch.arange(n, device=x.device)" in seen["answers"]["cuda"]["caption-ranks"]
    assert "numpy cannot read its memory" in seen["answers"]["cuda"]["recall-at-k"]


def test_a_misplaced_tensor_is_caught_wherever_it_is(seen: dict) -> None:
    assert len(seen["misplaced"]) >= 5
    for what, error in seen["misplaced"].items():
        assert "device" in error or "cpu" in error, f"{what}: {error or 'nothing noticed'}"


@pytest.mark.slow
def test_what_is_tested_on_a_gpu_passes_on_the_simulated_one() -> None:
    """Scores, gradients, losses, queues, steps, encoding, resuming, searching, metrics: a minute and more of two cores.

    What a real GPU must do beyond it, its own rounding, is why the tests are run there, too.
    """
    told = ran("gpu_tests_on_simulated_gpu.py")
    assert " passed" in told.splitlines()[-1] and "skipped" not in told


@pytest.mark.slow
@pytest.mark.parametrize("path", ONE_BY_ONE)
def test_a_lessons_cells_and_its_checks_run_there(path: Path, tmp_path: Path) -> None:
    """In the profile smoke, half a minute a lesson: each operation of a GPU is taken apart in Python."""
    kept = tmp_path / "my_answers.py"
    kept.write_text(solved(map(read_source, LESSONS)), encoding="utf-8")
    told = json.loads(ran("lesson_on_simulated_gpu.py", str(path), ITR_ANSWERS=str(kept)).splitlines()[-1])
    assert told["error"] == "" and told["device"] == "cuda" and told["metrics"] and told["warned"] == []
