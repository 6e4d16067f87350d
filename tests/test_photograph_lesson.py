"""What lesson 06 stands on: 29 photographs and their licences, regions of maps, questions, judgements, figures."""

from __future__ import annotations

import json
import re
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from itr_lib import figures
from itr_lib.data import load_tokenizer, train_tokenizer
from itr_lib.encoders.pretrained import grid_boxes
from itr_lib.evaluation import retrieval_metrics
from itr_lib.inference import score
from itr_lib.lessons import photographs
from itr_lib.lessons import recorded as records
from itr_lib.lessons.photographs import HERE, boxed, judged_fits, load_album, object_questions, with_regions
from itr_lib.models import load_model

RECORDS = json.loads((HERE / "photographs.json").read_text(encoding="utf-8"))["images"]


@pytest.fixture(scope="module")
def album():
    return load_album()


@pytest.fixture(scope="module")
def tokenizer(album):
    return train_tokenizer(album.data.captions)


def mean_by_hand(cells, box):
    """The mean of an 8 x 8 map over a box, cell by cell, each by the area that it shares with the box."""
    x1, y1, x2, y2 = (8 * float(side) for side in box)
    total, weights = np.zeros(cells.shape[2]), 0.0
    for row in range(8):
        for column in range(8):
            across = max(0.0, min(x2, column + 1) - max(x1, column))
            weight = across * max(0.0, min(y2, row + 1) - max(y1, row))
            total, weights = total + weight * cells[row, column].numpy(), weights + weight
    return total / weights


def pool(cells, boxes):
    return torch.from_numpy(np.stack([mean_by_hand(cells, box.numpy()) for box in boxes])).float()


# --- the 29


def test_each_photograph_may_be_shown_and_says_whose_it_is():
    assert len(RECORDS) == 29 == len({one["cocoid"] for one in RECORDS}) == len(list((HERE / "images").iterdir()))
    for one in RECORDS:
        assert one["licence"] == "CC BY 2.0" and one["filename"] == f"{one['cocoid']:012d}.jpg"
        photo = re.search(r"/(\d+)_\w+\.jpg$", one["address"])[1]
        assert one["page"] == f"https://www.flickr.com/photo.gne?id={photo}"
        with Image.open(HERE / "images" / one["filename"]) as picture:
            assert (list(picture.size), picture.mode) == (one["size"], "RGB") and min(one["size"]) == 224


def test_the_29_are_those_of_coco_with_that_licence(shared_data):
    there = json.loads((shared_data / "coco_mini" / "dataset_coco.json").read_text())["images"]
    allowed = {one["cocoid"]: one for one in there if one["license"] == "Attribution License"}
    assert {one["cocoid"] for one in RECORDS} == set(allowed)
    for one in RECORDS:
        assert one["address"] == allowed[one["cocoid"]]["flickr_url"]
        assert [s["tokens"] for s in one["sentences"]] == [s["tokens"] for s in allowed[one["cocoid"]]["sentences"]]


def test_captions_boxes_and_judgements_fit_together(album):
    data = album.data
    assert Counter(data.image_of_caption.tolist()) == dict.fromkeys(range(29), 5)
    assert album.cells.shape == (29, 8, 8, 1280) and album.cells.isfinite().all() and album.cells.min() >= 0
    for one, (labels, boxes) in zip(RECORDS, album.objects, strict=True):
        assert len(labels) == len(boxes) == len(one["objects"]) > 0
        assert (boxes >= 0).all() and (boxes <= 1).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    assert album.fits[np.arange(145), data.image_of_caption].all()
    others = [
        (data.captions[c], data.image_ids[i]) for c, i in np.argwhere(album.fits) if data.image_of_caption[c] != i
    ]
    assert ("A laptop computer sitting on top of a desk.", "000000553664.jpg") in others and len(others) == 5


def test_all_that_is_shipped_is_small():
    sizes = {path.relative_to(HERE).as_posix(): path.stat().st_size for path in HERE.rglob("*.*") if path.is_file()}
    assert sum(size for name, size in sizes.items() if name.startswith("images/")) < 600_000
    assert sizes["model/model.safetensors"] < 5_000_000


# --- regions


def test_regions_take_the_place_of_those_that_were_there(album):
    few = album.data.take(np.array([3, 7]))
    halves, whole = torch.tensor([[0, 0, 0.5, 1], [0.5, 0, 1, 1]]), torch.tensor([[0.0, 0, 1, 1]])
    changed = with_regions(few, [torch.ones(2, 5), 2 * torch.ones(1, 5)], [halves, whole])
    assert changed.features[:, :, 0].tolist() == [[1, 1], [2, 0]] and changed.region_mask.tolist() == [[1, 1], [1, 0]]
    assert changed.boxes[0].tolist() == halves.tolist() and changed.boxes[1, 1].tolist() == [0, 0, 0, 0]
    assert changed.captions == few.captions and changed.feature_dim == 5 and few.feature_dim == 1280


def test_boxes_become_regions(album):
    few = photographs.Album(album.data.take(np.arange(2)), album.fits[:10, :2], album.cells[:2], album.objects[:2])
    data = boxed(few, pool)
    assert data.region_mask.sum(axis=1).tolist() == [len(labels) for labels, _ in few.objects]
    assert np.allclose(data.features[1, 0], mean_by_hand(album.cells[1], few.objects[1][1][0]), atol=1e-5)
    own_folder = photographs.Album(few.data, few.fits)
    assert boxed(own_folder, pool) is few.data


# --- questions and judgements


def test_a_word_asks_for_the_boxes_of_what_it_names(album, tokenizer):
    questions = object_questions(album, tokenizer)
    hydrant = album.data.image_ids.index("000000377575.jpg")
    caption = album.data.captions.index("A dog is tied to a fire hydrant.")
    (row,) = np.flatnonzero((questions.caption == caption) & (questions.kind == "dog"))
    labels, _ = album.objects[hydrant]
    assert [labels[region] for region in np.flatnonzero(questions.right[row])] == ["dog"]
    spoken = tokenizer(album.data.captions[caption]).tokens()
    assert "".join(spoken[questions.start[row] : questions.stop[row]]).replace("##", "") == "dog"
    poodle = album.data.captions.index("A black poodle is leashed to a fire hydrant.")
    assert "dog" in questions.kind[questions.caption == poodle]
    assert len(questions) > 150 and not questions.right.all(axis=1).all()


def test_of_a_folder_without_boxes_nothing_is_asked(album, tokenizer):
    assert object_questions(photographs.Album(album.data, album.fits), tokenizer) is None


def test_a_readers_judgement_counts_and_else_the_authors(album):
    captions = np.array([album.data.captions.index("A laptop computer sitting on top of a desk."), 0])
    images = np.array([album.data.image_ids.index("000000553664.jpg"), 5])
    fits, whose = judged_fits(album, "  ", captions, images)
    assert fits.tolist() == [True, False] and whose == "an author of the course"
    fits, whose = judged_fits(album, "N y\n", captions, images)
    assert fits.tolist() == [False, True] and whose == "you"
    for wrong in ("yny", "y", "yx"):
        with pytest.raises(ValueError, match="expected 2 letters, y or n"):
            judged_fits(album, wrong, captions, images)


# --- recorded steps


def test_steps_are_the_recorded_seeds_and_nothing_where_nothing_was_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RECORDED", tmp_path)
    assert photographs.steps("t2i_r1", ["TERAN"]) == {}
    runs = [{"variant": "TERAN", "seed": seed, "metrics": {"t2i_r1": 10.0 + seed}} for seed in range(2)]
    records.write_record(photographs.LESSON, {"data": photographs.RECORDED_ON, "runs": runs})
    assert photographs.steps("t2i_r1", ["CLIP", "TERAN"]) == {"TERAN": [10.0, 11.0]}


# --- figures


def test_each_cell_says_what_a_box_takes_of_it(album):
    shares = np.zeros((8, 8))
    shares[0, :2] = 0.25, 0.75
    figure = figures.pooled_cells(album.data, 0, {"cat": np.array([0, 0, 0.25, 0.125])}, [shares], "A box")
    assert [text.get_text() for text in figure.axes[0].texts] == ["25", "75"]
    assert "A box" in figures.alt_text(figure) and "Cat" in figures.alt_text(figure)
    plt.close(figure)


def test_misses_are_numbered_and_sentences_stand_as_they_are(album):
    sheet = figures.judging_sheet(album.data, [0, 7, 9], [3, 3, 4], "Judge")
    titles = [axis.get_title(loc="left") for axis in sheet.axes if axis.axison]
    assert titles == ["1", "2", "3"] and "3 pictures" in figures.alt_text(sheet)
    rows = figures.sentence_gallery(album.data, ["it costs $5 and $6", "b"], [[0, 1], [2, 3]], [1, 2], "Ask")
    assert r"\$5" in rows.axes[0].texts[0].get_text()
    framed = [axis.spines["top"].get_visible() for axis in rows.axes if axis.images]
    assert framed == [False, True, True, False]
    plt.close("all")


def test_a_ladder_has_a_bar_a_step_and_a_dot_a_seed():
    groups = {"eyes": {"hand-made": [2.0, 3.0], "ImageNet": [15.0]}, "text": {"MiniLM": [18.0]}}
    figure = figures.ladder(groups, "Steps")
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == [2.5, 15, 18]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["hand-made", "ImageNet", "MiniLM"]
    assert sorted(len(line.get_xdata()) for line in axis.lines) == [1, 1, 2]
    assert "eyes" in [text.get_text().strip() for text in axis.texts]
    plt.close(figure)
    with pytest.raises(ValueError, match="at least one bar"):
        figures.ladder({"eyes": {}})


# --- what the lesson needs from long runs


def test_the_model_that_comes_along_finds_photographs(album):
    model, tokenizer = load_model(HERE / "model"), load_tokenizer(HERE / "model" / "tokenizer")
    features = [
        torch.cat([whole[None], pool(cells, torch.from_numpy(grid_boxes(4)))])
        for whole, cells in zip(album.cells.mean(dim=(1, 2)), album.cells, strict=True)
    ]
    boxes = torch.from_numpy(np.concatenate([photographs.WHOLE, grid_boxes(4)]))
    gallery = with_regions(album.data, features, [boxes] * len(features))
    found = retrieval_metrics(score(model, tokenizer, gallery), gallery.image_of_caption)
    assert found.t2i_r1 > 15 and found.i2t_r1 > 15  # chance: 3.4


def test_no_number_of_the_text_waits_for_its_record(repo):
    text = (repo / "solutions" / f"{photographs.LESSON}.py").read_text(encoding="utf-8")
    assert "… %" not in text and "… to" not in text and "to …" not in text
