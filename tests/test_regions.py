"""Candidate boxes, which object they show, and the detector network."""

import numpy as np
import pytest
import torch

from itr_lib.data.scenes import make_scene
from itr_lib.data.scenes.detector import BACKGROUND, CROP, Recipe, accuracies, crop, extract, labels, train_detector
from itr_lib.data.scenes.regions import candidate_boxes, iou, pad_boxes, region_object
from itr_lib.data.scenes.worker import Job, draw


@pytest.fixture(scope="module")
def drawn():
    return draw(Job("detector", 0, 0, 40))


def test_boxes_are_as_described():
    counts = []
    for seed in range(60):
        scene = make_scene(np.random.default_rng(seed))
        boxes = candidate_boxes(scene, np.random.default_rng(seed))
        shown = region_object(scene, boxes)
        assert boxes.dtype == np.float32 and boxes[0].tolist() == [0, 0, 1, 1]
        assert (boxes >= 0).all() and (boxes <= 1).all() and (boxes[:, 2:] > boxes[:, :2]).all()
        assert set(range(len(scene.objects))) <= set(shown.tolist())  # every object has a box
        assert (shown == -1).any()
        counts.append(len(boxes))
    assert min(counts) >= 20 and max(counts) <= 36 and len(set(counts)) > 8


def test_region_object_against_a_plain_loop():
    for seed in range(20):
        scene = make_scene(np.random.default_rng(seed))
        boxes = candidate_boxes(scene, np.random.default_rng(seed))
        for box, found in zip(boxes, region_object(scene, boxes), strict=True):
            best, index = 0.0, -1
            for number, thing in enumerate(scene.objects):
                w = min(box[2], thing.box[2]) - max(box[0], thing.box[0])
                h = min(box[3], thing.box[3]) - max(box[1], thing.box[1])
                common = max(w, 0) * max(h, 0)
                areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, thing.box)]
                share = common / (sum(areas) - common)
                if share > best:
                    best, index = share, number
            assert found == (index if best >= 0.5 else -1)


def test_iou_worked_numbers():
    a = np.array([[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]])
    b = np.array([[0, 0, 0.5, 1], [0.5, 0, 1.5, 1]])
    assert iou(a, b).round(6).tolist() == [[0.5, 0.333333], [0, 0]]


def test_padding():
    boxes, mask = pad_boxes([np.ones((3, 4)), np.ones((36, 4))])
    assert boxes.shape == (2, 36, 4) and mask.sum(1).tolist() == [3, 36] and not boxes[0, 3:].any()


def test_crops_show_what_the_box_holds():
    picture = np.zeros((1, 112, 112, 3), np.uint8)
    picture[0, 56:, :56] = 255  # lower left
    boxes = np.float32([[[0.1, 0.6, 0.4, 0.9], [0.6, 0.1, 0.9, 0.4], [0, 0, 1, 1], [0, 0, 0, 0]]])
    crops = crop(picture, boxes, np.array([[True, True, True, False]]))
    assert crops.shape == (3, 3, CROP, CROP)
    assert torch.allclose(crops[0], torch.tensor(1.0)) and torch.allclose(crops[1], torch.tensor(-1.0))
    assert crops[2, 0, -1, 0] == 1 and crops[2, 0, 0, 0] == -1 and crops[2, 0, -1, -1] == -1


def test_labels_name_the_object(drawn):
    found = labels(drawn.scenes, drawn.shown, drawn.mask)
    assert len(found["shape"]) == drawn.mask.sum()
    background = drawn.shown[drawn.mask] < 0
    assert (found["shape"].numpy() == BACKGROUND).tolist() == background.tolist()
    assert (found["colour"].numpy() == -100).tolist() == background.tolist()


def test_same_seed_same_weights_and_settings_restored(drawn):
    """Trains twice, for a second: reproducible data hangs on it."""
    crops, targets = crop(drawn.pictures, drawn.boxes, drawn.mask), labels(drawn.scenes, drawn.shown, drawn.mask)
    before, state = torch.get_num_threads(), torch.random.get_rng_state()
    recipe = Recipe(epochs=2)
    first, second, other = (train_detector(crops, targets, seed, recipe) for seed in (0, 0, 1))
    assert torch.get_num_threads() == before and not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [net.state_dict() for net in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["trunk.0.weight"], weights[2]["trunk.0.weight"])
    measured = accuracies(first, crops, targets)
    assert set(measured) == {"shape", "colour", "texture", "background"} and measured["colour"] > 0.15
    features = extract(first, drawn.pictures, drawn.boxes, drawn.mask)
    assert features.dtype == np.float16 and features.shape == (40, 36, 128)
    assert (features >= 0).all() and not features[~drawn.mask].any() and features[drawn.mask].any(-1).all()
