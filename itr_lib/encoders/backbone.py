"""The image network as a part of the model: pixels go in, and it learns with the rest.

Where it stays as it is, its features are better extracted once (``data_scripts.extract_features``). Where it is to
learn, a model gets one as its attribute ``backbone``. Training and inference then hand the model what the backbone
makes of a batch of pictures, the whole picture and a grid of its map as regions, and none of the models knows of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from itr_lib.data.batches import ImageBatch
from itr_lib.data.boxes import WHOLE
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.pixels import with_pixels
from itr_lib.encoders.pretrained import Prepare, box_shares, grid_boxes, load_network

# Pictures whose inner activations are kept at a time, 110 MB each in EfficientNet-lite0 in float32. Of a larger batch
# they are computed anew in the backward pass, which makes it a third slower and lets it have any size.
AT_ONCE = 32


@dataclass(frozen=True)
class BackboneConfig:
    """Which network looks at pictures, and what it says of them.

    Attributes:
        pretrained: a name on the hub, a folder, or ``"efficientnet-lite0"``, kept as a string.
        grid: beside the whole picture, so many parts of its map a side; 0: the whole picture alone.
    """

    pretrained: str | os.PathLike[str]
    grid: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "pretrained", os.fspath(self.pretrained))
        if self.grid < 0:
            raise ValueError(f"grid is {self.grid}, expected the parts a side, or 0 for the whole picture alone")


class Backbone(nn.Module):
    """A pretrained image network, from the pixels of :func:`itr_lib.data.pixels.with_pixels` to regions.

    It is always in evaluation mode, also while it learns: batch normalisation keeps the statistics of its pretraining,
    as in VSE-infinity's released code. So a picture's regions depend on nothing else in the batch, nor on how many
    processes share it, and training sees the function that is evaluated later.

    Args:
        config: which network, and how many regions.
        files: the folder that :meth:`save` wrote; default: what the configuration names.

    Raises:
        OSError: the network cannot be had.
        ValueError: it is no image model, or prepares pictures in a way that depends on more than a pixel's value.
    """

    boxes: Float[Tensor, "regions 4"]

    def __init__(self, config: BackboneConfig, files: Path | None = None):
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # what files lack, a pooling layer say, is random numbers: the same at every load
            self.network, prepare = load_network(files or config.pretrained)
        self.network.float()  # files may hold 16 bits, in which no network learns
        black, step = _values(prepare, self.network.size)
        self.register_buffer("black", black, persistent=False)
        self.register_buffer("step", step, persistent=False)
        with torch.no_grad():
            maps = self.network(black.expand(1, 3, *self.network.size))
        self.width = maps.whole.shape[1]  # numbers a region
        if config.grid and maps.cells.shape[3] != self.width:
            raise ValueError(
                f"{config.pretrained!r} has {self.width} numbers for the whole picture and {maps.cells.shape[3]} for a"
                " cell: they cannot be regions of one set, so take grid=0"
            )
        parts = grid_boxes(config.grid) if config.grid else np.zeros((0, 4), np.float32)
        arrays = {"boxes": np.concatenate([WHOLE, parts])}
        arrays["down"], arrays["across"] = box_shares(parts, maps.cells.shape[1:3])
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array).float(), persistent=False)
        self.train(False)

    def train(self, mode: bool = True) -> Backbone:
        """Evaluation mode, whatever is asked for."""
        return super().train(False)

    def pictures(self, data: RetrievalData) -> RetrievalData:
        """A split with pictures, as this network sees it. Raises ``ValueError`` where it came without."""
        return with_pixels(data, self.network.size, self.network.resample)

    def forward(self, batch: ImageBatch) -> ImageBatch:
        """The whole picture and, row by row, its grid, of a batch of :meth:`pictures`.

        Raises ``ValueError`` for a batch of something else.
        """
        height, width = self.network.size
        if batch.features.shape[1:] != (1, 3 * height * width):
            raise ValueError(
                f"an image has {batch.features.shape[1]} regions of {batch.features.shape[2]} numbers, and this model"
                f" looks at {height} x {width} pixels: give it what backbone.pictures(data) returns"
            )
        parts = batch.features.unflatten(2, (height, width, 3))[:, 0].permute(0, 3, 1, 2).split(AT_ONCE)
        look = self._regions
        if len(parts) > 1 and torch.is_grad_enabled():
            look = partial(checkpoint, look, use_reentrant=False, preserve_rng_state=False)  # nothing is drawn in it
        regions = torch.cat([look(part) for part in parts])
        mask = torch.ones(regions.shape[:2], dtype=torch.bool, device=regions.device)
        return ImageBatch(regions, self.boxes.expand(len(regions), -1, -1), mask, batch.guide)

    def _regions(self, pixels: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures regions width"]:
        maps = self.network(pixels * self.step + self.black)
        with torch.autocast(pixels.device.type, enabled=False):  # sums of cells in full width, as they are extracted
            whole, cells = (part.to(self.step.dtype) for part in maps)
            if not self.config.grid:
                return whole[:, None]
            parts = torch.einsum("rh,rw,nhwc->nrc", self.down, self.across, cells)
            return torch.cat([whole[:, None], parts], dim=1)

    def save(self, folder: Path) -> None:
        """Write the network into a folder, which ``data_scripts.extract_features`` takes as a model, too."""
        folder.mkdir(parents=True, exist_ok=True)
        self.network.save(folder)


def _values(prepare: Prepare, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What ``prepare`` makes of a black pixel, and of one more in 255: two numbers a colour, (3, 1, 1)."""
    black, white = (prepare([Image.new("RGB", size[::-1], (value,) * 3)]) for value in (0, 255))
    shapes = {name: np.shape(array) for name, array in black.items()}
    if shapes != {"pixel_values": (1, 3, *size)}:
        raise ValueError(
            f"pictures are prepared as {shapes}, expected plain pixel_values of {(1, 3, *size)}: extract features with"
            " this model instead"
        )
    low, high = (torch.tensor(made["pixel_values"][0, :, :1, :1], dtype=torch.float32) for made in (black, white))
    return low, (high - low) / 255
