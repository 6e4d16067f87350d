"""The script for the day there is a GPU, as far as it goes without one."""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import torch

from data_scripts import gpu_day
from itr_lib.course import build as builder


def test_a_step_of_every_model_is_measured_on_the_cpu(monkeypatch, capsys):
    monkeypatch.setattr(gpu_day, "STEPS", 1)
    found = gpu_day.steps("smoke", "cpu")
    assert list(found) == ["VSE", "TERAN", "CHAN", "USER", "TGDT"] and "TFLOP/s in bfloat16" in capsys.readouterr().out
    for one in found.values():
        assert one["gpu_mb"] == 0 and min(one["ms"], one["ms_float32"], one["ms_deterministic"]) > 0
        assert 0 < one["share_of_product"] < 1
    assert not torch.are_deterministic_algorithms_enabled()


PARENT = """
import subprocess, sys
print("begun", flush=True)
subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])
"""


def test_what_takes_too_long_is_stopped_with_its_children():
    began = time.monotonic()
    status, told = gpu_day.within([sys.executable, "-c", PARENT], began + 2)
    assert (status, told) == (124, ["begun"]) and time.monotonic() - began < 30
    assert gpu_day.within([sys.executable, "-c", "print(7); raise SystemExit(3)"], began + 60) == (3, ["7"])


def test_bands_come_of_several_seeds_alone(capsys):
    seeds = {"0": {"00_a": {"r1": 1.0}, "01_b": {"r1": 5.0}}, "1": {"00_a": {"r1": 2.0}}}
    assert gpu_day.values_of(seeds) == {"00_a": {"r1": [1.0, 2.0]}}
    assert "of one seed alone: 01_b" in capsys.readouterr().out


def test_lessons_run_seed_by_seed_while_there_is_time(monkeypatch, tmp_path):
    metrics = tmp_path / "runs" / "full" / "metrics"
    metrics.mkdir(parents=True)
    (metrics / "01_b.json").write_text(json.dumps({"metrics": {"r1": 9.0}}))  # of an earlier run

    def ran(command, ends):
        seed = int(command[command.index("--seed") + 1])
        (metrics / "00_a.json").write_text(json.dumps({"metrics": {"r1": seed + 0.5}}))
        return 3, ["done"]

    monkeypatch.setattr(builder, "REPO", tmp_path)
    monkeypatch.setattr(gpu_day, "within", ran)
    options, seeds = SimpleNamespace(profile="full", device="cuda", seeds=[0, 1, 2]), {"1": {"00_a": {"r1": 0.0}}}
    runs = gpu_day.lessons(options, ["00_a"], time.monotonic() + 60, seeds)
    assert [run["seed"] for run in runs] == [0, 1, 2] and runs[0]["status"] == 3
    assert seeds == {str(seed): {"00_a": {"r1": seed + 0.5}} for seed in (0, 1, 2)}
    assert len(gpu_day.lessons(options, ["00_a"], time.monotonic() - 1, {})) == 1
