"""Pictures to one vector each, through a pretrained model of ``transformers``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


@contextmanager
def no_bars_of_transformers() -> Iterator[None]:
    """Loading and saving without its own progress bars, which go to standard error."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_image_model(name: str | os.PathLike, device: str = "cpu"):
    """A model with its image processor, by name or folder; ``OSError`` says what to do where it is not found."""
    from transformers import AutoImageProcessor, AutoModel  # slow to import: only when it is needed

    name = os.path.expanduser(name)
    try:
        with no_bars_of_transformers():
            model = AutoModel.from_pretrained(name).eval().to(device)
        # CLIP's own default needs torchvision; the Pillow version gives the same pixels on every machine
        processor = AutoImageProcessor.from_pretrained(name, backend="pil")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise OSError(
            f"model {str(name)!r} could not be loaded ({reason}): without a network, download it on another machine"
            " with `hf download NAME --local-dir FOLDER`, copy the folder here and give it instead of the name"
            " (to a script: --model FOLDER)"
        ) from error
    return model, processor


@torch.inference_mode()
def joint_vectors(model, processor, pictures: Sequence[Image]) -> Float[Tensor, "pictures dim"]:
    """What a CLIP makes of whole pictures: vectors in the space it shares with its captions, of any length."""
    pixels = processor(images=list(pictures), return_tensors="pt")["pixel_values"].to(model.device)
    vectors = model.get_image_features(pixel_values=pixels)
    # since transformers 5 an object, whose pooler_output is the vector projected into the joint space
    return getattr(vectors, "pooler_output", vectors).float()
