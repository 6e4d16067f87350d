"""More background: on no object, the same first boxes for every count, and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import toy_data

from itr_lib.data.scenes.background import with_background
from itr_lib.data.scenes.detector import Detector
from itr_lib.data.scenes.make import load_scenes
from itr_lib.data.scenes.regions import iou


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


def test_bad_input(few, detector):
    with pytest.raises(ValueError, match="count is 0"):
        with_background(few, 0, detector=detector)
    with pytest.raises(ValueError, match="no word-region truth"):
        with_background(toy_data(), 4, detector=detector)
