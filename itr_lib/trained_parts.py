"""Which parts of a model a training moves, and how fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from itr_lib.data.tokenisation import TokenisedCaptions
from itr_lib.encoders.known_states import KnownStates, can_be_kept
from itr_lib.encoders.text import TextEncoder


def pretrained_text(model: nn.Module) -> list[nn.Module]:
    """The pretrained text model, where there is one; first the one that learns, then any copy of it that makes keys."""
    return [encoder.bert for encoder in _pretrained_encoders(model)]


def frozen_parts(model: nn.Module, pretrained_rate: float, image_rate: float) -> list[nn.Module]:
    """What stays as it is: pretrained text at a ``pretrained_rate`` of 0, a backbone at an ``image_rate`` of 0."""
    return ([] if pretrained_rate else pretrained_text(model)) + ([] if image_rate else _backbone(model))


def _backbone(model: nn.Module) -> list[nn.Module]:
    """The network that looks at pictures, where the model has one."""
    backbone = getattr(model, "backbone", None)
    return [] if backbone is None else [backbone]


def _pretrained_encoders(model: nn.Module) -> list[TextEncoder]:
    text = getattr(getattr(model, "config", None), "text", None)
    if text is None or not text.pretrained:
        return []
    return [part for part in model.modules() if isinstance(part, TextEncoder) and part.bert is not None]


@contextmanager
def captions_read_once(
    model: nn.Module, tokens: TokenisedCaptions, precision: str, *, progress: bool = True
) -> Iterator[None]:
    """Inside, the frozen text model of ``model`` answers in training from what it said of these captions before.

    On the CPU alone, where reading them costs more than all the rest of a step; a GPU would wait for the host to look
    them up. A copy that makes keys reads for itself: it may lag behind.
    """
    encoder = _pretrained_encoders(model)[0]
    width, device = encoder.bert.config.hidden_size, encoder.project.weight.device.type
    if device == "cpu" and can_be_kept(tokens, width):
        encoder.bert.eval()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            encoder.known = KnownStates(encoder.states, tokens, progress=progress)
    try:
        yield
    finally:
        encoder.known = None


@contextmanager
def without_gradient(parts: list[nn.Module]) -> Iterator[None]:
    """Inside, these parts take no gradient: no graph is built through them, and an optimizer keeps nothing of them."""
    before = [(parameter, parameter.requires_grad) for part in parts for parameter in part.parameters()]
    for parameter, _ in before:
        parameter.requires_grad_(False)
        parameter.grad = None  # of an earlier training: it would count in the norm that is clipped
    try:
        yield
    finally:
        for parameter, takes_gradient in before:
            parameter.requires_grad_(takes_gradient)


def parameter_groups(
    model: nn.Module, learning_rate: float, pretrained_rate: float, image_rate: float = 0.0
) -> list[dict[str, Any]]:
    """What AdamW moves: all that takes gradients, in groups of their own what was pretrained, and a temperature.

    ``pretrained_rate``, of the text model, and ``image_rate``, of the backbone, are shares of ``learning_rate``; 0: it
    is frozen.
    """
    temperature = getattr(model, "log_scale", None)
    pretrained = [(text, pretrained_rate) for text in pretrained_text(model)[:1]]
    pretrained += [(backbone, image_rate) for backbone in _backbone(model)]
    groups: list[dict[str, Any]] = [
        {"params": list(part.parameters()), "lr": rate * learning_rate} for part, rate in pretrained if rate
    ]
    if temperature is not None:  # its 0 means a temperature of 1, nothing to be drawn to
        groups.append({"params": [temperature], "weight_decay": 0.0})
    known = {id(parameter) for group in groups for parameter in group["params"]}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    return [{"params": rest}, *groups]
