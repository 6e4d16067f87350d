"""The released settings of TERAN and CHAN run on what the papers train on: 36 regions of 2,048 numbers, a BERT-base."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from transformers import BertConfig, BertModel

from data_scripts.settings import read_preset, recipe_of
from itr_lib.data import train_tokenizer
from itr_lib.data.dataset import RetrievalData
from itr_lib.training import train

STEPS = 10


def made(images: int, split: str) -> RetrievalData:
    """Random numbers of the papers' shapes, a caption of ten words an image."""
    rng = np.random.default_rng(len(split))
    first, second = rng.random((2, images, 36, 2), np.float32)
    words = rng.integers(0, 500, (images, 10))
    return RetrievalData(
        name="made",
        split=split,
        image_ids=tuple(map(str, range(images))),
        captions=tuple(" ".join(f"word{word}" for word in row) for row in words),
        image_of_caption=np.arange(images),
        features=rng.random((images, 36, 2048), np.float32).astype(np.float16),
        boxes=np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1),
        region_mask=np.ones((images, 36), bool),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "released", "batch_size"), [("teran", 30, 4), ("chan", 128, 16)])
def test_ten_steps_with_released_settings(name, released, batch_size, tmp_path):
    """Slow: models of 100 million weights learn on a CPU. All is as released (rates, sizes, all layers) but the batch,
    an eighth of it, since whole batches would take minutes, and the BERT-base, whose weights are random.
    """
    BertModel(BertConfig()).save_pretrained(tmp_path)
    recipe = recipe_of(read_preset(name, "paper", "flickr30k"))
    assert recipe.training.batch_size == released and recipe.model.text.pretrained == "bert-base-uncased"
    recipe = replace(
        recipe,
        model=replace(recipe.model, text=replace(recipe.model.text, pretrained=tmp_path)),
        training=replace(recipe.training, epochs=1, batch_size=batch_size),
    )
    data, val = made(STEPS * batch_size, "train"), made(8, "val")
    tokenizer = train_tokenizer(data.captions)
    model, seen = recipe.build(data, tokenizer), []

    def objective(model, batch, epoch):
        loss = recipe.objective(model, batch, epoch)
        seen.append((tuple(batch.images.features.shape), loss.item()))
        return loss

    before = {key: value.detach().clone() for key, value in model.named_parameters() if value.ndim > 1}
    train(model, objective, tokenizer, data, val, recipe.training, progress=False)
    assert [shape for shape, _ in seen] == [(batch_size, 36, 2048)] * STEPS
    assert all(math.isfinite(loss) for _, loss in seen)
    layers = 6 if name == "teran" else 12
    assert sum(".bert." in key and "attention.self.query" in key for key in before) == layers
    still = {key for key, value in model.named_parameters() if key in before and (value == before[key]).all()}
    assert not {key for key in still if "pooler" not in key}  # which nothing reads
