"""Pictures with as much background as one likes: what a word's attention must not be drawn to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from safetensors.torch import load_file

from itr_lib.data.boxes import SHOWN, iou
from itr_lib.data.dataset import RetrievalData, SceneTruth, known_truth
from itr_lib.data.scenes.detector import Detector, extract
from itr_lib.data.scenes.make import detector_folder
from itr_lib.data.scenes.regions import boxes_anywhere
from itr_lib.data.scenes.rendering import render
from itr_lib.data.scenes.worker import PICTURE_SIZE
from itr_lib.data.scenes.world import Scene

TRIES, CLEAR_TRIES = 400, 10_000  # boxes drawn a picture


def with_background(
    data: RetrievalData, count: int, seed: int = 0, detector: Detector | None = None, clear: bool = False
) -> RetrievalData:
    """Scenes whose regions are their boxes on objects and ``count`` boxes of background, seen by their detector.

    Boxes fall anywhere where they show no object (IoU below 0.5 with each), the first ``count`` of one sequence: more
    boxes come on top of fewer.

    Args:
        data: a split of scenes.
        count: background boxes an image, at least 1.
        seed: the seed that the scenes were loaded with; their detector is read from the cache.
        detector: the detector itself, instead.
        clear: only boxes that touch no object at all (IoU 0).

    Raises:
        ValueError: for data without known scenes, a count below 1, or a picture without room for so many boxes.
    """
    truth = known_truth(data)
    if count < 1:
        raise ValueError(f"count is {count}, expected at least 1 box of background")
    rng = np.random.default_rng(seed)
    added = np.stack([_background_boxes(scene, count, rng, clear) for scene in truth.scenes])
    everywhere = np.ones(added.shape[:2], bool)
    pictures = np.stack([render(scene, PICTURE_SIZE) for scene in truth.scenes])
    seen = extract(detector or load_detector(seed), pictures, added, everywhere)
    on_object = truth.region_object >= 0
    nothing = np.full(added.shape[:2], -1, truth.region_object.dtype)
    return replace(
        data,
        features=np.concatenate([np.where(on_object[..., None], data.features, 0), seen], axis=1),
        boxes=np.concatenate([np.where(on_object[..., None], data.boxes, 0), added], axis=1),
        region_mask=np.concatenate([on_object, everywhere], axis=1),
        truth=SceneTruth(truth.scenes, truth.captions, np.concatenate([truth.region_object, nothing], axis=1)),
    )


def _background_boxes(scene: Scene, count: int, rng: np.random.Generator, clear: bool) -> Float[np.ndarray, "count 4"]:
    """The first ``count`` boxes of any place that show none of the scene's objects, or touch none.

    Of boxes drawn anywhere about nine in ten show no object, and one in eight, or far fewer, touches none.
    """
    boxes = boxes_anywhere(CLEAR_TRIES if clear else TRIES, rng).astype(np.float32)
    covered = iou(boxes, np.array([thing.box for thing in scene.objects])).max(axis=1)
    fit = boxes[covered == 0 if clear else covered < SHOWN][:count]
    if len(fit) < count:
        raise ValueError(f"count is {count}, but a picture has room for {len(fit)} boxes of background only")
    return fit


def load_detector(seed: int = 0) -> Detector:
    """The frozen detector behind the features of the scenes of a seed, from the cache."""
    detector = Detector()
    detector.load_state_dict(load_file(detector_folder(seed) / "weights.safetensors"))
    return detector.eval().requires_grad_(False)
