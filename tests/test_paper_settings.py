"""The released settings of TERAN and CHAN run on what the papers train on: 36 regions of 2,048 numbers, a BERT-base."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from transformers import BertConfig, BertModel

from data_scripts import train
from data_scripts.settings import read_preset, recipe_of
from itr_lib.data import train_tokenizer

STEPS, HELD = 10, 8


def made(root: Path, images: int) -> list[str]:
    """Files of the papers' shapes: random numbers, a caption of ten words an image; returns the captions."""
    rng, sizes = np.random.default_rng(0), {"train": images, "val": HELD, "test": HELD}
    names = [f"{split}{number}.jpg" for split, size in sizes.items() for number in range(size)]
    captions = [" ".join(f"word{word}" for word in row) for row in rng.integers(0, 500, (len(names), 10))]
    records = [
        {"filename": name, "split": name.rstrip("0123456789.jpg"), "sentences": [{"raw": caption}]}
        for name, caption in zip(names, captions, strict=True)
    ]
    (root / "dataset_flickr30k.json").write_text(json.dumps({"images": records}))
    first, second = rng.random((2, len(names), 36, 2), np.float32)
    boxes = np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)
    features = rng.random((len(names), 36, 2048), np.float32).astype(np.float16)
    np.savez(root / "regions.npz", filenames=names, features=features, boxes=boxes)
    return captions


@pytest.mark.slow
@pytest.mark.parametrize(("name", "released", "batch_size"), [("teran", 30, 4), ("chan", 128, 16)])
def test_ten_steps_with_released_settings(name, released, batch_size, tmp_path, monkeypatch, capsys):
    """Slow: models of 100 million weights learn on a CPU. All is as released (rates, sizes, all layers) but the batch,
    an eighth of it, since whole batches would take minutes, and the BERT-base, whose weights are random.
    """
    recipe = recipe_of(read_preset(name, "paper", "flickr30k"))
    assert recipe.training.batch_size == released and recipe.model.text.pretrained == "bert-base-uncased"
    train_tokenizer(made(tmp_path, STEPS * batch_size)).save_pretrained(tmp_path / "bert")
    BertModel(BertConfig()).save_pretrained(tmp_path / "bert")
    seen, before, still, learn = [], {}, set(), train.train

    def watched(model, objective, *data, folder, **options):
        """As it is, but without a checkpoint, which would be a gigabyte."""

        def noted(model, batch, epoch):
            loss = objective(model, batch, epoch)
            seen.append((tuple(batch.images.features.shape), loss.item()))
            return loss

        before.update({key: value.detach().clone() for key, value in model.named_parameters() if value.ndim > 1})
        history = learn(model, noted, *data, **options)
        still.update(key for key, value in model.named_parameters() if key in before and (value == before[key]).all())
        return history

    monkeypatch.setattr(train, "train", watched)
    words = ["--model", name, "--preset", "paper", "--data", "flickr30k", "--root", str(tmp_path), "--device", "cpu"]
    words += ["--out", str(tmp_path / "run"), "--set", f"text.pretrained={tmp_path / 'bert'}", "--epochs", "1"]
    assert train.main([*words, "--set", f"training.batch_size={batch_size}"]) == 0, capsys.readouterr().err
    assert [shape for shape, _ in seen] == [(batch_size, 36, 2048)] * STEPS
    assert all(math.isfinite(loss) for _, loss in seen)
    layers = 6 if name == "teran" else 12
    assert sum(".bert." in key and "attention.self.query" in key for key in before) == layers
    assert not {key for key in still if "pooler" not in key}  # which nothing reads
    settings = (tmp_path / "run" / "settings.toml").read_text()
    assert "feature_dim = 2048" in settings and "regions = 36" in settings and "dim = 1024" in settings
    (epoch,) = json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"]
    assert epoch["loss"] == pytest.approx(np.mean([loss for _, loss in seen]), rel=1e-4)
