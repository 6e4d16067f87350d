"""Figures: what they mark is right, and they come with an alt text."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image
from toy import toy_data

from itr_lib import figures
from itr_lib.figures import page
from itr_lib.figures.explorer import _still

FRAMES = {to_hex(figures.MATCH): "match", to_hex(figures.MISS): "miss"}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def data():
    toy = toy_data(images=6, captions=2)
    colours = [(40 * i, 0, 0) for i in range(6)]
    return type(toy)(
        **{
            **{name: getattr(toy, name) for name in toy.__dataclass_fields__},
            "open_picture": lambda i: Image.new("RGB", (30, 20), colours[i]),
        }
    )


def frames(figure):
    return [FRAMES[to_hex(ax.spines["left"].get_edgecolor())] for ax in figure.axes if ax.axison]


def test_the_true_picture_is_framed_and_its_rank_is_told(data):
    scores = torch.zeros(6, 12)
    scores[:, 4] = torch.tensor([0.1, 0.9, 0.5, 0.3, 0.2, 0.0])  # caption 4 belongs to image 2: second
    figure = figures.image_gallery(data, scores, [4], k=3)
    assert frames(figure) == ["miss", "match", "miss"]
    assert any("rank 2" in text.get_text() for ax in figure.axes for text in ax.texts)


def test_own_captions_are_ticked(data):
    scores = np.random.default_rng(0).random((6, 12))
    figure = figures.caption_gallery(data, scores, [3], k=12)
    ticked = [text.get_text() for ax in figure.axes for text in ax.texts if text.get_text().startswith("✓")]
    assert len(ticked) == 2


def test_bars_show_means_and_every_seed():
    runs = [{"t2i_r1": 40.0}, {"t2i_r1": 44.0}]
    figure = figures.recall_bars({"a": runs}, {"chance": {"t2i_r1": 0.1}}, metrics=("t2i_r1",))
    axis = figure.axes[0]
    assert axis.patches[0].get_height() == 42
    assert sorted(y for line in axis.lines for y in line.get_ydata()) == [40, 44]


def test_the_map_does_not_depend_on_the_sign_of_an_axis(monkeypatch):
    g = torch.Generator().manual_seed(0)
    images, captions = torch.randn(5, 4, generator=g), torch.randn(10, 4, generator=g)

    def places():
        figure = figures.embedding_map(images, captions, np.repeat(np.arange(5), 2))
        assert len(figure.axes[0].lines) == 10
        return figure.axes[0].collections[1].get_offsets()

    before, svd = places(), torch.linalg.svd
    monkeypatch.setattr(
        torch.linalg, "svd", lambda *a, **k: (lambda r: type("R", (), {"U": r.U, "S": r.S, "Vh": -r.Vh}))(svd(*a, **k))
    )
    assert len(before) == 5 and np.allclose(places(), before)


def test_the_other_figures_are_drawn(data):
    epochs = [{"loss": 1.0, "t2i_r1": 10.0, "i2t_r1": 12.0}] * 2
    pair = data.take(np.array([0, 1]))
    for figure in (
        figures.two_encoders(),
        figures.picture_grid(data, range(5), "title"),
        figures.boxes_on_picture(data, 0),
        figures.similarity_heatmap(torch.eye(2), ["a", "b"], ["c", "d"], matches=np.eye(2, dtype=bool)),
        figures.training_curves({"run": epochs}),
        figures.pair_figure(pair, torch.rand(2, 4), 0),
    ):
        figure.canvas.draw()


def test_shown_with_an_alt_text_and_closed(monkeypatch):
    shown = []
    monkeypatch.setattr(page, "display", lambda bundle, raw: shown.append(bundle))
    figures.show(figures.two_encoders(), alt='two "lanes"')
    source = shown[0]["text/html"]
    assert 'alt="two &quot;lanes&quot;"' in source and not plt.get_fignums()
    picture = Image.open(io.BytesIO(base64.b64decode(source.split("base64,")[1].split('"')[0])))
    assert picture.format == "PNG" and picture.width > 400


def test_a_shown_figure_keeps_its_colours(monkeypatch):
    """Colours carry meaning here: a palette of 256, say, would turn a violet star grey."""
    shown = []
    monkeypatch.setattr(page, "display", lambda bundle, raw: shown.append(bundle))
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    noise[60:140, 60:140] = (122, 40, 200)
    figure, axis = plt.subplots(figsize=(2, 2))
    axis.imshow(noise)
    axis.axis("off")
    figures.show(figure, alt="a violet square in noise")
    source = shown[0]["text/html"]
    picture = Image.open(io.BytesIO(base64.b64decode(source.split("base64,")[1].split('"')[0])))
    assert picture.format == "JPEG"
    middle = np.asarray(picture)[picture.height // 2, picture.width // 2].astype(int)
    assert np.abs(middle - (122, 40, 200)).max() < 12


def test_metrics_table_shows_mean_and_range():
    table = figures.metrics_table({"a": [{"t2i_r1": 40.0}, {"t2i_r1": 44.0}], "b": [{"t2i_r1": 1.0}]}, ["t2i_r1"])
    assert table.loc["a (2 seeds)", "text→image R@1"] == "42.0 (40.0–44.0)" and table.loc["b"].item() == "1.0"


MONEY = r"a $x_{$ bill and a $\frac$ one"  # set as a formula it is an error


def test_dollars_of_captions_are_no_formulas(data):
    """Two dollar signs enclose a formula in matplotlib: a caption with them became one, or stopped the figure."""
    words = ["$x_{$", "a"]
    paid = replace(data, captions=(MONEY,) * len(data.captions))
    scores, alignment = np.random.default_rng(0).random((6, 12)), np.random.default_rng(0).random((4, 2))
    drawn = [
        figures.picture_grid(paid, [0, 1], "$v$", captions=2),
        figures.image_gallery(paid, scores, [0, 4], k=2),
        figures.found_pictures(paid, [0, 1], [MONEY, "a"], MONEY),
        figures.caption_gallery(paid, scores, [1, 2]),
        figures.pair_figure(paid, scores, 1),
        figures.alignment_heatmap(alignment, words),
        figures.word_boxes(paid, 0, words, alignment),
        figures.attention_boxes(paid, 0, words[0], {"hard": np.array([1.0, 0, 0, 0])}),
        _still(paid, lambda image, caption: (words, alignment), 0, "$v$")[0],
    ]
    for figure in drawn:
        figure.canvas.draw()
        said = [text.get_text() for text in figure.findobj(Text)]
        assert all(text == "$v$" or r"\$" in text for text in said if "$" in text)
    assert figures.alt_text(drawn[2]).startswith("A $x$ bill and a $frac$ one")
