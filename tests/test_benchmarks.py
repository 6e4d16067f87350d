"""The benchmark commands run to their end and print their numbers; how large they are is no test's business."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import psutil
import pytest
import torch

from data_scripts import benchmarks, busy, scale


def test_every_ratio_is_printed(monkeypatch, capsys):
    for name, size in {
        "DIM": 16,
        "SMALL": (4, 12),
        "BATCH": 6,
        "COCO_PART": (3, 8),
        "GALLERY": 30,
        "QUERIES": 4,
    }.items():
        monkeypatch.setattr(benchmarks, name, size)
    threads = torch.get_num_threads()
    assert benchmarks.main(["--device", "cpu", "--repeats", "1", "--threads", str(threads)]) == 0
    out = capsys.readouterr().out
    assert out.count("times the product") == 11 + 8 and out.count("bare product") == 5
    assert "projected from 3 x 8" in out and "bfloat16 keeps the first image" in out
    assert "two stages: 30 images x 36 regions" in out and out.count("of aligning every image") == 8


@pytest.mark.skipif(None in map(find_spec, ("faiss", "qdrant_client", "qdrant_edge")), reason="of the extra scale")
def test_every_home_has_its_line(capfd):
    small = ["--items", "600", "--queries", "6", "--dim", "16", "--tokens", "3", "--repeats", "1", "--local"]
    assert scale.main(small) == 0
    lines = {line[:34].strip(): line[34:].split() for line in capfd.readouterr().out.splitlines()}
    for name in ("in memory", "faiss, Flat", "qdrant-edge", "qdrant, Python copy"):
        assert lines[name][1:3] == ["1.000", "1.000"], "recall, and the same ids"


@pytest.mark.skipif(find_spec("faiss") is None, reason="of the extra scale")
def test_a_collection_on_disk_goes_on_and_is_held_against_a_scan(tmp_path, capfd):
    small = ["--items", "2000", "--queries", "9", "--dim", "16", "--tokens", "2", "--repeats", "1"]
    for there in ("0 of 2,000", "2,000 of 2,000"):
        assert scale.main(["--million", *small, "--folder", str(tmp_path)]) == 0
        out = capfd.readouterr().out
        assert there + " items are there" in out
        assert 0.75 < float(re.search(r"recall@10 ([\d.]+) of a scan", out)[1]) <= 1  # 16 of 51 cells
    assert scale.recall([["a", "b"], ["c"]], [["b", "d"], ["c"]]) == 0.75


def test_what_is_not_installed_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SystemExit):
        scale.main(["--items", "3", "--queries", "1"])
    assert "faiss is not installed" in capsys.readouterr().err


def test_the_padded_way_gives_the_same_scores():
    regions, words, mask = benchmarks.made_pairs(5, 7, 16, 0, "cpu")
    expected = benchmarks.alignment_scores(regions, words, None, mask)
    assert torch.allclose(benchmarks.padded(regions, words, mask), expected, atol=1e-5)


def test_a_step_is_measured_in_every_way_idle_and_beside_busy_programs(monkeypatch, capsys):
    seen = []

    def measured(way, options):
        programs = [child for child in psutil.Process().children() if "while True" in " ".join(child.cmdline())]
        seen.append((way, len(programs)))
        return 10.0 * len(seen)

    monkeypatch.setattr(busy, "measured", measured)
    assert busy.main(["--programs", "3", "--steps", "1"]) == 0
    assert [count for _, count in seen] == [0, 3] * 3
    assert [way for way, _ in seen[::2]] == [way for way, _ in seen[1::2]] == list(busy.WAYS.values())
    assert not [child for child in psutil.Process().children() if "while True" in " ".join(child.cmdline())]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-2:] for line in lines[-3:]] == [["10", "20"], ["30", "40"], ["50", "60"]]


def test_a_way_to_wait_reaches_a_process_of_its_own(monkeypatch):
    """The environment and the command; what the process itself does is measured below."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")  # the user's own setting must not change what is compared
    asked = {}

    def run(command, **settings):
        asked.update(command=command, **settings)
        return SimpleNamespace(stdout="12.5\n")

    monkeypatch.setattr(busy.subprocess, "run", run)
    options = SimpleNamespace(threads=2, steps=4)
    assert busy.measured({"GOMP_SPINCOUNT": "7"}, options) == 12.5
    found = {name: value for name, value in asked["env"].items() if name.startswith(("GOMP_", "OMP_"))}
    assert found == {"GOMP_SPINCOUNT": "7", "OMP_NUM_THREADS": "2"}
    assert asked["command"][1:] == ["-m", "data_scripts.busy", "--one", "--steps", "4"]


def test_one_number_is_the_milliseconds_of_a_training_step(monkeypatch, capsys):
    small = busy.made_batch(4)
    monkeypatch.setattr(busy, "made_batch", lambda size: small)
    assert busy.main(["--one", "--steps", "2"]) == 0
    assert 0 < float(capsys.readouterr().out) < 60_000
