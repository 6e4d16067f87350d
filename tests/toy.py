"""A data set small enough to learn in a second: an image is four concepts, a caption names them in some order."""

from __future__ import annotations

import numpy as np

from itr_lib.data.dataset import RetrievalData


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
