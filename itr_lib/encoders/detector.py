"""A detector's boxes on a picture, with what it takes them for: DETR (Carion et al., ECCV 2020) and its like."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from itr_lib.data.boxes import MAX_REGIONS
from itr_lib.encoders.pretrained import Preparation, load_image_model, run

if TYPE_CHECKING:
    from PIL.Image import Image


class Detections(NamedTuple):
    """The boxes (x1, y1, x2, y2; relative) that a detector is most certain of, best first, 36 at most a picture.

    ``features`` is what the decoder's last layer knows of each box, ``scores`` how likely its label is, from 0 to 1.
    """

    features: Float[np.ndarray, "pictures boxes dim"]
    boxes: Float[np.ndarray, "pictures boxes 4"]
    labels: Shaped[np.ndarray, "pictures boxes"]
    scores: Float[np.ndarray, "pictures boxes"]


@dataclass(frozen=True)
class Detector:
    """Pictures to :class:`Detections`, in two steps as an ``ImageEncoder`` does it."""

    prepare: Callable[[Sequence[Image]], dict[str, np.ndarray]]
    encode: Callable[[dict[str, np.ndarray]], Detections]

    def __call__(self, pictures: Sequence[Image]) -> Detections:
        """RGB pictures of any size to :class:`Detections`."""
        return self.encode(self.prepare(pictures))


def load_detector(name: str | os.PathLike, device: str = "cpu", *, precision: str = "float32") -> Detector:
    """A detector by a name on the hub or from a folder.

    Raises ``OSError`` where it cannot be had, ``ValueError`` where it is none, or one that works otherwise than DETR.
    """
    from transformers import AutoModelForObjectDetection  # slow to import: only when it is needed

    model, processor, _ = load_image_model(name, device, AutoModelForObjectDetection)

    def encode(arrays: dict[str, np.ndarray]) -> Detections:
        out = run(model, arrays, device, precision)
        expected = (*out.last_hidden_state.shape[:2], len(model.config.id2label) + 1)
        if out.logits.shape != expected:
            raise ValueError(
                f"{str(name)!r} is a {type(model).__name__}, whose logits have shape {tuple(out.logits.shape)}:"
                f" expected {expected}, as of a DETR, which knows a label for nothing and has a state a box"
            )
        return _best(out, model.config.id2label)

    return Detector(Preparation(processor, None), encode)


def _best(out: Any, label_of: dict[int, str]) -> Detections:
    scores, labels = out.logits.float().softmax(-1)[..., :-1].max(-1)  # the last label stands for nothing
    scores, best = scores.topk(min(MAX_REGIONS, scores.shape[1]))
    features, boxes = (_rows(part.float(), best) for part in (out.last_hidden_state, out.pred_boxes))
    centre, size = boxes.split(2, dim=-1)
    corners = torch.cat([centre - size / 2, centre + size / 2], dim=-1).clamp(0, 1)
    names = np.array([label_of[label] for label in range(len(label_of))])
    return Detections(
        features.cpu().numpy(), corners.cpu().numpy(), names[labels.gather(1, best).cpu()], scores.cpu().numpy()
    )


def _rows(values: Float[Tensor, "pictures queries dim"], best: Tensor) -> Float[Tensor, "pictures boxes dim"]:
    return values.gather(1, best[..., None].expand(-1, -1, values.shape[-1]))
