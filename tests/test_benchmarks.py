"""The benchmark command runs to its end and prints its ratios; how large they are is no test's business."""

from __future__ import annotations

import torch

from data_scripts import benchmarks


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
    assert out.count("times the product") == 11 and out.count("bare product") == 5
    assert "projected from 3 x 8" in out and "bfloat16 keeps the first image" in out
    assert "two stages: 30 images x 36 regions" in out and out.count("times as fast as aligning") == 3


def test_the_padded_way_gives_the_same_scores():
    regions, words, mask = benchmarks.made_pairs(5, 7, 16, 0, "cpu")
    expected = benchmarks.alignment_scores(regions, words, None, mask)
    assert torch.allclose(benchmarks.padded(regions, words, mask), expected, atol=1e-5)
