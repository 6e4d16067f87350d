"""A model as its objective sees it in training.

An objective asks a model for the encodings of a batch, then for scores, and makes a loss of them. What is special about
a training, 16-bit numbers or several processes, concerns the encoders alone, so it stands here between the two: neither
objectives nor models know of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from itr_lib.data.batches import Batch, CaptionBatch, ImageBatch
from itr_lib.encoders.tokens import Encoded
from itr_lib.parallel import gather_rows
from itr_lib.similarity.precision import wide


def looked_at(model: nn.Module, batch: Batch, precision: str) -> Batch:
    """A batch of pictures as its regions, which a model's backbone computes in ``precision``; any other as it is.

    They come before all that hides a part of what a model sees, and once a step: key encoders take them, too.
    """
    backbone = getattr(model, "backbone", None)
    if backbone is None:
        return batch
    with torch.autocast(batch.image_ids.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return batch._replace(images=backbone(batch.images))


class TrainingView:
    """A model whose encoders compute in ``precision``, take this process's share, and answer for the whole batch.

    They answer in float32. All else is the model's own. ``pairs``: how many the whole batch has.
    """

    def __init__(self, model: nn.Module, precision: str, pairs: int):
        self._model, self._precision, self._pairs = model, precision, pairs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """The encodings of the whole batch's images, from this process's share of them."""
        return self._whole(self._share("encode_images", batch))

    def encode_captions(self, batch: CaptionBatch) -> Encoded:
        """The encodings of the whole batch's captions, likewise."""
        return self._whole(self._share("encode_captions", batch))

    def encode_keys(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The keys of the whole batch, of a model that has key encoders."""
        images, captions = self._share("encode_keys", batch)
        return self._whole(images), self._whole(captions)

    def _share(self, encoder: str, batch: ImageBatch | CaptionBatch | Batch) -> Any:
        device = next(self._model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._precision == "bfloat16"):
            return getattr(self._model, encoder)(batch)

    def _whole(self, encoded: Any) -> Any:
        if not isinstance(encoded, Tensor):
            return encoded._make(map(self._whole, encoded))
        return gather_rows(wide(encoded) if encoded.is_floating_point() else encoded)[: self._pairs]
