"""What figures say to someone who cannot see them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from toy import toy_data

from itr_lib import figures
from itr_lib.course.build import read_notebook
from itr_lib.figures.alt_text import LONGEST, MORE, alt_text


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_lines_are_told_by_their_ends_and_a_peak():
    figure, axis = plt.subplots()
    axis.plot([1, 2, 3], [1, 5, 2], label="up and down")
    axis.plot([1, 2, 3], [4, 4, 4], label="level")
    axis.plot([1, 2, 3], [0, 9, 0])
    axis.plot([1, 2], [1e-20, 1], label="μ = 30")
    axis.axhline(0.5, label="chance")
    axis.axvline(2, label="turn")
    axis.set(title="A finding", xlabel="$\\mu$ of it", ylabel="R@1 (%)")
    assert alt_text(figure) == (
        "A finding. R@1 (%) against mu of it. Up and down from 1 to 2, in between up to 5. Level at 4."
        " μ = 30 from almost 0 to 1. Chance at 0.5. Turn at mu of it 2. A line from 0 to 0, in between up to 9."
    )


def test_bars_are_told_by_label_and_height():
    runs = {"yours": [{"t2i_r1": 20.0}], "theirs": [{"t2i_r1": 40.0, "i2t_r1": 50.0}, {"t2i_r1": 44.0, "i2t_r1": 50.0}]}
    figure = figures.recall_bars(runs, {"chance": {"t2i_r1": 0.1}}, ["i2t_r1", "t2i_r1"], "A finding")
    assert alt_text(figure) == (
        "A finding. Axis: queries with a hit (%). Yours: text to image R@1 20."
        " Theirs (2 seeds): image to text R@1 50, text to image R@1 42. Chance at 0.1."
    )
    figure, axis = plt.subplots()
    axis.barh(["a", "b"], [1, 2])
    assert alt_text(figure) == "Bars: a 1, b 2."
    figure, axis = plt.subplots()
    axis.bar(range(30), np.arange(30) / 10)
    assert alt_text(figure) == "Bars: 30 of them, 0 to 2.9."


def test_images_heat_maps_tables_points_and_diagrams():
    figure, axes = plt.subplots(1, 2)
    axes[0].imshow([[0.0, 2.0, 1.0]], vmin=-1)
    axes[1].table([["1", "2"]], colLabels=["model", "R@1"])
    assert alt_text(figure) == (
        "Heat map of 1 by 3 (rows by columns), coloured from -1 to 2 (viridis), highest 2 in row 0, column 1."
        " A table with the columns model, R@1."
    )
    figure, axis = plt.subplots()
    axis.scatter([1, 2], [1, 2], label="captions")
    axis.annotate("here", (1, 2.5))
    assert alt_text(figure) == "2 points: captions. Here at 1, 2.5."
    figure, axes = plt.subplots(1, 2)
    for axis, name in zip(axes, ("a star", "a ring ✓"), strict=True):
        axis.imshow(np.zeros((4, 4, 3)))
        axis.set_xlabel(name)
    figure.suptitle("Two of them")
    assert alt_text(figure) == "Two of them. 2 pictures: a star; a ring right."
    for axis in axes:
        axis.set_xlabel("0.765")
    assert alt_text(figure) == "Two of them. 2 pictures."
    assert alt_text(plt.figure()) == "A figure."


def test_drawings_of_the_library_are_read_out():
    told = alt_text(figures.tgdt_diagram("One network, two scores"))
    assert told.startswith("One network, two scores. It reads: ") and "no gradient passes down here" in told
    epochs = [{"loss": 2.0, "t2i_r1": 1.0, "i2t_r1": 2.0}, {"loss": 1.0, "t2i_r1": 11.0, "i2t_r1": 12.0}]
    assert "Run, text to image from 1 to 11" in alt_text(figures.training_curves({"run": epochs}, "It learns"))
    told = alt_text(figures.similarity_heatmap(torch.eye(2), ["a", "b"], ["c", "d"]))
    assert "coloured from 0 to 1 (viridis), highest 1 in a, c." in told  # by the names that the axes show


def test_long_texts_end_at_a_sentence_or_a_word():
    figure, axis = plt.subplots()
    for place in range(40):
        axis.plot([0, 1], [0, place + 1], label=f"line number {place}")
    told = alt_text(figure)
    assert LONGEST - 80 < len(told) <= LONGEST and told.endswith(f". {MORE}")
    figure, axis = plt.subplots()
    axis.set_title("word " * 200)
    assert len(alt_text(figure)) <= LONGEST and f"word … {MORE}" in alt_text(figure)  # no end of a sentence


def test_marks_are_read_as_what_they_mean():
    data = replace(toy_data(images=2, captions=2), open_picture=lambda image: Image.new("RGB", (30, 20)))
    pair = data.take(np.array([0, 1]))
    pair = replace(pair, captions=("a red star", "a blue star"), image_of_caption=np.array([0, 1]))
    figure = figures.pair_figure(pair, torch.tensor([[0.5, 0.25], [0.125, 0.75]]), 0, "Which picture?")
    assert alt_text(figure) == (
        "Which picture? 2 pictures: preferred: +0.500 a red star, +0.250 a blue star;"
        " +0.125 a red star, preferred: +0.750 a blue star."
    )
    level = figures.pair_figure(pair, torch.ones(2, 2), 0, "A draw")
    assert "preferred" not in alt_text(level) and "▸" not in level.get_supxlabel()
    first, second, third, fourth = data.captions
    grid = figures.picture_grid(data, range(2), "Two each", captions=2)
    assert alt_text(grid) == f"Two each. 2 pictures: {first}, {second}; {third}, {fourth}."


EXECUTED = sorted((Path(__file__).resolve().parents[1] / "solutions").glob("*.ipynb"))


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.stem)
def test_every_picture_of_an_executed_lesson_has_a_text(path):
    """Of figures, of the explorer's still and of whatever else a cell left; no output is a picture and nothing else."""
    notebook = read_notebook(path)
    bundles = [out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", [])]
    pages = ["".join(bundle["text/html"]) for bundle in bundles if "text/html" in bundle]
    pages += [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    pictures = [tag for page in pages for tag in re.findall(r"<(?:img|svg)[^>]*>", page)]
    assert pictures and all(re.search(r'(alt|aria-label)="[^"]{20,}"', tag) for tag in pictures)
    assert not any("![" in cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    bare = [bundle.keys() for bundle in bundles if any(kind.startswith("image/") for kind in bundle)]
    assert not bare
    assert all("<th" in table for page in pages for table in re.findall(r"<table.*?</table>", page, flags=re.DOTALL))
