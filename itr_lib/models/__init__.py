"""The models by name; one file a paper.

A model that looks at pictures itself has a :class:`~itr_lib.encoders.backbone.Backbone` as its ``backbone``.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from itr_lib.encoders.backbone import Backbone, BackboneConfig
from itr_lib.encoders.text import TextConfig
from itr_lib.models import chan, teran, tgdt, user, vse
from itr_lib.models.contract import AligningModel, RetrievalModel, TwoStageModel
from itr_lib.models.two_networks import TwoNetworks
from itr_lib.models.user import enhance
from itr_lib.validation import expect_choice

ModelConfig = vse.VSEConfig | teran.TERANConfig | chan.CHANConfig | tgdt.TGDTConfig | user.USERConfig
# the class, the course's sizes and settings, the paper's
MODELS = {
    "vse": (vse.VSE, vse.VSEConfig(), vse.PAPER),
    "teran": (teran.TERAN, teran.TERANConfig(), teran.PAPER),
    "chan": (chan.CHAN, chan.CHANConfig(), chan.PAPER),
    "tgdt": (tgdt.TGDT, tgdt.TGDTConfig(), tgdt.PAPER),
    "user": (user.USER, user.USERConfig(), user.PAPER),
}


def build(name: str, *, feature_dim: int, text: TextConfig, preset: str = "small", **settings) -> nn.Module:
    """A new model with random weights (from torch's global generator: seed it first).

    Args:
        name: ``"vse"``, ``"teran"``, ``"chan"``, ``"user"`` or ``"tgdt"``.
        feature_dim: width of the region vectors, ``RetrievalData.feature_dim``.
        text: the text side.
        preset: ``"small"``, the course's sizes, or ``"paper"``.
        settings: fields of the model's configuration beyond the preset, e.g. ``dim=256, pooling="gpo"`` for
            :class:`itr_lib.models.vse.VSEConfig`.

    Raises:
        ValueError: for an unknown model, preset or setting.
    """
    expect_choice("name", name, tuple(MODELS))
    expect_choice("preset", preset, ("small", "paper"))
    _, small, paper = MODELS[name]
    preset_config = paper if preset == "paper" else small
    try:
        config = replace(preset_config, feature_dim=feature_dim, text=text, **settings)
    except TypeError as error:
        raise ValueError(f"model {name!r} does not take these settings: {error}") from error
    return from_config(config)


def from_config(config: ModelConfig) -> nn.Module:
    """The model of a configuration, with random weights.

    Raises:
        ValueError: where it does not say yet what depends on the data, such as ``feature_dim``, or is no model's.
    """
    for model, small, _ in MODELS.values():
        if type(small) is type(config):
            return model(config)
    raise ValueError(f"config is a {type(config).__name__}, expected the configuration of one of {', '.join(MODELS)}")


def save_model(model: nn.Module, folder: str | Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` into ``folder``, for :func:`load_model`.

    A model whose text side came from ``pretrained`` needs that name or folder again when it is loaded. A backbone goes
    into a folder of its own, ``backbone``, and needs none.

    Raises:
        ValueError: for a model that :func:`build` does not make; two networks are saved one by one.
    """
    name = next((name for name, (kind, *_) in MODELS.items() if type(model) is kind), None)
    if name is None:
        raise ValueError(f"model is a {type(model).__name__}, expected one of {', '.join(MODELS)}")
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"model": name, **asdict(cast(ModelConfig, model.config))}
    weights = {key: value for key, value in model.state_dict().items() if not key.startswith("backbone.")}
    backbone = getattr(model, "backbone", None)
    if backbone is not None:
        settings["backbone"] = asdict(backbone.config)
    text = json.dumps(settings, indent=2, default=lambda number: number.item())  # numpy's, from `dim=widths[0]`
    with tempfile.TemporaryDirectory(dir=folder) as unfinished:  # a process that dies leaves no half of a file
        Path(unfinished, "config.json").write_text(text + "\n", encoding="utf-8")
        save_file({key: value.contiguous() for key, value in weights.items()}, Path(unfinished, "model.safetensors"))
        parts = ["model.safetensors", "config.json"]
        if backbone is not None:
            backbone.save(Path(unfinished, "backbone"))
            shutil.rmtree(folder / "backbone", ignore_errors=True)  # a folder takes the place of no other
            parts.insert(0, "backbone")
        for name in parts:
            os.replace(Path(unfinished, name), folder / name)


def load_model(folder: str | Path) -> nn.Module:
    """Read a model that :func:`save_model` wrote, on the CPU, in evaluation mode.

    Raises:
        ValueError: when the folder does not hold such a model, or a file of it is damaged.
    """
    folder = Path(folder).expanduser()
    try:
        settings = json.loads((folder / "config.json").read_text())
        text, seen = TextConfig(**settings.pop("text")), settings.pop("backbone", None)
        model = build(settings.pop("model"), text=text, **settings)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        if seen is not None:
            model.backbone = Backbone(BackboneConfig(**seen), folder / "backbone")
    except (OSError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} does not hold a model written by save_model: {error}") from error
    return model.eval()


__all__ = [
    "MODELS",
    "AligningModel",
    "ModelConfig",
    "RetrievalModel",
    "TextConfig",
    "TwoNetworks",
    "TwoStageModel",
    "build",
    "enhance",
    "from_config",
    "load_model",
    "save_model",
]
