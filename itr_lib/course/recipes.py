"""The sizes and settings of a lesson's models, by profile: one place for notebooks and recorded runs alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from itr_lib.data.dataset import RetrievalData
from itr_lib.encoders.text import TextConfig
from itr_lib.models import build
from itr_lib.training import Objective, TrainConfig, TripletObjective


@dataclass(frozen=True)
class Recipe:
    """A model and how to train it."""

    model: str
    settings: dict[str, object]
    text: dict[str, object]
    objective: Objective
    training: TrainConfig

    def build(self, data: RetrievalData, tokenizer: PreTrainedTokenizerBase) -> nn.Module:
        """The untrained model; the same seed gives the same weights."""
        torch.manual_seed(self.training.seed)
        text = TextConfig(len(tokenizer), **self.text)
        return build(self.model, feature_dim=data.feature_dim, text=text, **self.settings)


def vse(profile: str, data: str = "scenes", seed: int = 0) -> Recipe:
    """VSE++ with GPO pooling, lesson 01."""
    width = {"smoke": 64, "quick": 256, "full": 512}[profile]
    text = {"smoke": (32, 1), "quick": (128, 2), "full": (256, 4)}[profile]
    epochs = {"smoke": 2, "quick": 5, "full": 12}[profile]
    if data != "scenes" and profile == "quick":
        epochs = 10  # a tenth of the scenes' captions
    training = TrainConfig(epochs=epochs, batch_size=64 if profile == "smoke" else 128, seed=seed)
    return Recipe(
        "vse",
        {"dim": width, "pooling": "gpo"},
        {"hidden": text[0], "layers": text[1]},
        TripletObjective(),
        training,
    )
