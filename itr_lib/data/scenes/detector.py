"""A small detector network: crops of a picture to region features, as Faster R-CNN gives them to VSE models.

Like the detector of bottom-up attention (Anderson et al., CVPR 2018) it learns, on pictures of its own, to name
what a box shows (the shape, or that it is background) and its attributes (colour, texture), and is then frozen.
The features are its last hidden layer: they know what the labels asked for, with the errors of a real detector.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from itr_lib.data.scenes.world import COLOURS, SHAPES, TEXTURES, Scene

FEATURE_DIM = 128
CROP = 24  # pixels
CONTEXT = 0.1  # of the box's sides, added on each side
THREADS = 1  # fixed, for the same bytes everywhere; and small kernels stall where cores are shared
CLASSES = {"shape": len(SHAPES) + 1, "colour": len(COLOURS), "texture": len(TEXTURES)}  # shape: + background
BACKGROUND = len(SHAPES)


class Detector(nn.Module):
    """Crops (n, 3, 24, 24) to features (n, 128), non-negative, and features to class scores."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(48 * 9, FEATURE_DIM),
            nn.ReLU(),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURE_DIM, classes) for name, classes in CLASSES.items()})

    def forward(self, crops: Float[Tensor, "n 3 24 24"]) -> Float[Tensor, "n 128"]:
        """Region features."""
        return self.trunk(crops)


@dataclass(frozen=True)
class Recipe:
    """How the detector is trained. The defaults take some ten seconds on one core."""

    pictures: int = 800
    test_pictures: int = 150
    epochs: int = 7
    batch: int = 256
    rate: float = 3e-3


def crop(
    pictures: UInt8[np.ndarray, "images side side 3"],
    boxes: Float[np.ndarray, "images regions 4"],
    mask: Bool[np.ndarray, "images regions"],
) -> Float[Tensor, "real 3 24 24"]:
    """What the real boxes show, with some context, resampled to 24 x 24 pixels; values in [-1, 1]."""
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    corners = torch.from_numpy(boxes)
    centres, sides = (corners[..., 2:] + corners[..., :2]) / 2, corners[..., 2:] - corners[..., :2]
    steps = ((torch.arange(CROP) + 0.5) / CROP - 0.5) * (1 + 2 * CONTEXT)
    at = centres[..., None, :] + sides[..., None, :] * steps[:, None]  # (images, regions, 24, 2), in [0, 1]
    x = at[..., None, :, 0].expand(-1, -1, CROP, -1)
    y = at[..., :, None, 1].expand(-1, -1, -1, CROP)
    grid = (torch.stack([x, y], dim=-1) * 2 - 1).flatten(1, 2)  # (images, regions * 24, 24, 2)
    sampled = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return sampled.unflatten(2, (-1, CROP)).transpose(1, 2)[torch.from_numpy(mask)]


def labels(scenes: list[Scene], shown: np.ndarray, mask: np.ndarray) -> dict[str, Tensor]:
    """What each real box shows: class numbers (real,) by head; -100 = background has no such attribute."""
    names = {"shape": SHAPES, "colour": COLOURS, "texture": TEXTURES}
    rows, columns = np.nonzero(mask)
    objects = [shown[row, column] for row, column in zip(rows, columns, strict=True)]
    columns_of = {}
    for head, values in names.items():
        blank = BACKGROUND if head == "shape" else -100
        found = [
            blank if at < 0 else values.index(getattr(scenes[row].objects[at], head))
            for row, at in zip(rows, objects, strict=True)
        ]
        columns_of[head] = torch.tensor(found)
    return columns_of


def train_detector(
    crops: Float[Tensor, "n 3 24 24"], targets: dict[str, Tensor], seed: int, recipe: Recipe
) -> Detector:
    """Train on crops and their labels; the same seed gives the same weights on one machine."""
    # Background is easy: half of it is enough, and saves a quarter of the time.
    keep = torch.nonzero((targets["shape"] != BACKGROUND) | (torch.arange(len(crops)) % 2 == 0))[:, 0]
    with reproducible(seed):
        net = Detector().to(memory_format=torch.channels_last)  # the faster layout on a CPU
        optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=1e-3)
        batches = -(-len(keep) // recipe.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=recipe.rate, total_steps=recipe.epochs * batches, pct_start=0.15
        )
        for _ in range(recipe.epochs):
            for rows in keep[torch.randperm(len(keep))].split(recipe.batch):
                hidden = net(crops[rows].contiguous(memory_format=torch.channels_last))
                loss = sum(_loss(head(hidden), targets[name][rows]) for name, head in net.heads.items())
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return net.eval().requires_grad_(False)


def _loss(scores: Tensor, target: Tensor) -> Tensor:
    """Cross entropy over the boxes that have such a label; 0 where none has."""
    return F.cross_entropy(scores, target, ignore_index=-100, reduction="sum") / (target != -100).sum().clamp(min=1)


def extract(net: Detector, pictures: np.ndarray, boxes: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Features (images, regions, 128) float16 of the boxes, zero where padded."""
    features = np.zeros((*mask.shape, FEATURE_DIM), np.float16)
    with reproducible(), torch.inference_mode():
        features[mask] = net(crop(pictures, boxes, mask).contiguous(memory_format=torch.channels_last)).numpy()
    return features


def accuracies(net: Detector, crops: Float[Tensor, "n 3 24 24"], targets: dict[str, Tensor]) -> dict[str, float]:
    """Share of boxes named rightly: shape, colour and texture of boxes on objects, and background as such."""
    with reproducible(), torch.inference_mode():
        hidden = torch.cat([net(some) for some in crops.split(4096)])
        right = {name: head(hidden).argmax(-1) == targets[name] for name, head in net.heads.items()}
    on_object = targets["shape"] != BACKGROUND
    result = {name: float(right[name][on_object].float().mean()) for name in CLASSES}
    return {**result, "background": float(right["shape"][~on_object].float().mean())}


@contextlib.contextmanager
def reproducible(seed: int | None = None) -> Iterator[None]:
    """Inside: a fixed number of threads and deterministic kernels on the CPU; after: everything as before.

    With a ``seed`` torch's random numbers are fixed too, and the caller's go on where they were.
    """
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        try:
            torch.set_num_threads(THREADS)
            torch.use_deterministic_algorithms(True)
            if seed is not None:
                torch.random.default_generator.manual_seed(seed)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict, warn_only=warn_only)
