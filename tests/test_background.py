"""More background: on no object, the same first boxes for every count, and nothing else changed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from toy import toy_data

from itr_lib.data import scene_questions, train_tokenizer
from itr_lib.data.scenes.background import with_background
from itr_lib.data.scenes.detector import Detector
from itr_lib.data.scenes.make import load_scenes
from itr_lib.data.scenes.regions import iou
from itr_lib.inference import encode
from itr_lib.lessons import background, recipes


@pytest.fixture(scope="module")
def few():
    return load_scenes("smoke", progress=False).test.take(np.arange(5))


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return Detector().eval()


def test_boxes_of_background_come_beside_those_on_objects(few, detector):
    more = with_background(few, 9, detector=detector)
    on_object = few.truth.region_object >= 0
    assert more.region_mask.sum(axis=1).tolist() == (on_object.sum(axis=1) + 9).tolist()
    assert np.array_equal(more.features[:, :36][on_object], few.features[on_object])
    assert (more.truth.region_object[:, 36:] == -1).all() and more.captions == few.captions
    for scene, boxes in zip(few.truth.scenes, more.boxes[:, 36:], strict=True):
        assert iou(boxes, np.array([thing.box for thing in scene.objects])).max() < 0.5
    assert (more.boxes[..., 2:] >= more.boxes[..., :2]).all() and more.boxes.max() <= 1
    assert np.isfinite(more.features).all() and np.abs(more.features[:, 36:]).sum() > 0


def test_more_boxes_come_on_top_of_fewer(few, detector):
    fewer, more = (with_background(few, count, detector=detector) for count in (4, 32))
    assert np.array_equal(fewer.boxes, more.boxes[:, :40])
    assert np.array_equal(fewer.features, more.features[:, :40])


def test_clear_boxes_touch_no_object(few, detector):
    clear = with_background(few, 4, detector=detector, clear=True)
    for scene, boxes in zip(few.truth.scenes, clear.boxes[:, 36:], strict=True):
        assert boxes.shape == (4, 4) and not iou(boxes, np.array([thing.box for thing in scene.objects])).any()


def test_what_the_record_keeps_is_what_plain_loops_find(few, monkeypatch, detector):
    monkeypatch.setattr(background, "with_background", partial(with_background, detector=detector))
    tokenizer = train_tokenizer(few.captions)
    model = recipes.chan("smoke").build(few, tokenizer)
    found = background.background_metrics(model, tokenizer, few)
    world = with_background(few, 4, detector=detector)
    regions, words = encode(model, tokenizer, world)
    owner = world.image_of_caption
    shares, used, hits = [], [], []
    asked = scene_questions(world, tokenizer, kinds=("shape", "colour"))
    for caption, start, stop, right in zip(asked.caption, asked.start, asked.stop, asked.right, strict=True):
        real = world.region_mask[owner[caption]]
        word = words.vectors[caption, start:stop].mean(dim=0)
        weights = ((regions.vectors[owner[caption]][real] @ word) / 0.1).softmax(dim=0)
        shares.append(float(weights[torch.from_numpy(right[real])].sum()))
        used.append(float((-(weights * weights.log()).sum()).exp()))
    assert found["background_4_soft_share"] == pytest.approx(100 * np.mean(shares), abs=1e-3)
    assert found["background_4_soft_regions"] == pytest.approx(np.mean(used), abs=1e-3)
    for m, image in enumerate(owner):
        told = words.vectors[m][words.mask[m]]
        codes = [(v[mask] @ told.T).amax(dim=0) for v, mask in zip(*regions, strict=True)]
        scores = torch.stack([(code / 0.1).logsumexp(dim=0) for code in codes])
        hits.append(bool((scores >= scores[image]).sum() == 1))
    assert found["background_4_hard_t2i_r1"] == pytest.approx(100 * np.mean(hits))
    ground = np.array([caption.meaning.ground is not None for caption in world.truth.captions])
    for name, some in {"ground": ground, "objects": ~ground}.items():
        assert found[f"background_4_hard_t2i_r1_{name}"] == pytest.approx(100 * np.mean(np.array(hits)[some]))


def test_bad_input(few, detector):
    with pytest.raises(ValueError, match="count is 0"):
        with_background(few, 0, detector=detector)
    with pytest.raises(ValueError, match="no word-region truth"):
        with_background(toy_data(), 4, detector=detector)
