"""A data set small enough to learn in a second: an image is four concepts, a caption names them in some order."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image

from itr_lib.data.dataset import RetrievalData
from itr_lib.objectives import InfoNCEObjective, TripletObjective, TwoLevelObjective, UnifiedObjective

OBJECTIVES = {
    "vse": InfoNCEObjective(),
    "teran": TripletObjective(),
    "chan": TripletObjective(),
    "user": UnifiedObjective(),
    "tgdt": TwoLevelObjective(),
}


def toy_data(
    images: int = 200, captions: int = 3, split: str = "train", seed: int = 0, concepts: int = 40
) -> RetrievalData:
    """Features are noisy prototypes of the concepts, captions their names."""
    rng = np.random.default_rng([seed, len(split)])
    concept = rng.integers(0, concepts, (images, 4))
    prototypes = np.random.default_rng(1).normal(size=(concepts, 16))
    features = prototypes[concept] + 0.3 * rng.normal(size=(images, 4, 16))
    return RetrievalData(
        name="toy",
        split=split,
        image_ids=tuple(str(i) for i in range(images)),
        captions=tuple(" ".join(f"w{c}" for c in rng.permutation(row)) for row in concept for _ in range(captions)),
        image_of_caption=np.repeat(np.arange(images), captions),
        features=features.astype(np.float16),
        boxes=np.tile(np.array([0, 0, 1, 1], np.float32), (images, 4, 1)),
        region_mask=np.ones((images, 4), bool),
    )


def toy_pictures(data: RetrievalData) -> RetrievalData:
    """The same data with a picture an image, each its own noise."""
    return replace(data, open_picture=partial(_picture, len(data.split)))


def _picture(seed: int, row: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng([seed, row]).integers(0, 256, (20, 30, 3), np.uint8))


def toy_network(folder: Path) -> str:
    """A folder with a small image model, as pretrained ones come: a ResNet, whose batch normalisation has learnt."""
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    torch.manual_seed(0)
    network = transformers.ResNetModel(transformers.ResNetConfig(**sizes))
    network.train()(torch.randn(8, 3, 32, 32))
    network.eval().save_pretrained(folder)
    transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32}).save_pretrained(folder)
    return str(folder)
