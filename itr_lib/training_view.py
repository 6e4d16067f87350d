"""A model as its objective sees it in training.

An objective asks a model for the encodings of a batch, then for scores, and makes a loss of them. What is special about
a training, 16-bit numbers say, concerns the encoders alone, so it stands here between the two: neither objectives nor
models know of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from itr_lib.data.batches import Batch, CaptionBatch, ImageBatch
from itr_lib.encoders.tokens import Encoded

PRECISIONS = ("float32", "bfloat16")


class TrainingView:
    """A model whose encoders compute in ``precision`` and answer in float32. All else is the model's own."""

    def __init__(self, model: nn.Module, precision: str):
        self._model, self._precision = model, precision

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """The model's answer."""
        return _each(self._answer("encode_images", batch), _widened)

    def encode_captions(self, batch: CaptionBatch) -> Encoded:
        """The model's answer."""
        return _each(self._answer("encode_captions", batch), _widened)

    def encode_keys(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The answer of the key encoders, of a model that has some."""
        images, captions = self._answer("encode_keys", batch)
        return _widened(images), _widened(captions)

    def _answer(self, encoder: str, batch: ImageBatch | CaptionBatch | Batch) -> Any:
        device = next(self._model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._precision == "bfloat16"):
            return getattr(self._model, encoder)(batch)


def _each(encoded: Encoded, change: Callable[[Tensor], Tensor]) -> Encoded:
    """Every tensor of what an encoder returned, changed."""
    return change(encoded) if isinstance(encoded, Tensor) else encoded._make(map(change, encoded))


def _widened(part: Tensor) -> Tensor:
    return part.float() if part.is_floating_point() else part
