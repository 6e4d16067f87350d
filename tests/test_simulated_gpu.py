"""On a simulated GPU (simulated_gpu.py): training steps run there, the host seldom waits, a misplaced tensor is caught.

It computes on the CPU, so that all this is tested without a GPU; what it cannot tell (time, memory, CUDA's rounding) is
test_gpu.py's business.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Waits: for sizes and where gradients are, or for what is real (SGE); and to look at an epoch's losses and their mean.
A_STEP, AN_EPOCH = 2, 2


def ran(program: str) -> str:
    """What a program of this folder prints, in a process of its own."""
    done = subprocess.run([sys.executable, str(HERE / program)], capture_output=True, text=True, cwd=HERE.parent)
    assert done.returncode == 0, done.stderr
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


def test_an_answer_runs_where_the_lesson_does(seen: dict) -> None:
    """With device="cpu" on the CPU alone, though a GPU is there; with "cuda" a tensor left behind is named."""
    assert seen["answers"]["cpu"] == {"caption-ranks": "", "recall-at-k": ""}
    assert "torch.arange(n, device=x.device)" in seen["answers"]["cuda"]["caption-ranks"]
    assert "numpy cannot read its memory" in seen["answers"]["cuda"]["recall-at-k"]


def test_a_misplaced_tensor_is_caught_wherever_it_is(seen: dict) -> None:
    assert len(seen["misplaced"]) >= 5
    for what, error in seen["misplaced"].items():
        assert "device" in error or "cpu" in error, f"{what}: {error or 'nothing noticed'}"
