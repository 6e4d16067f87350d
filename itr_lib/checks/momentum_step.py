"""``momentum-step``, lesson 04.

A key encoder's step after the encoder it follows: weights averaged, buffers copied, all in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from itr_lib.checks._inputs import generator
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


class _Encoder(nn.Module):
    """A small encoder with buffers; it remembers its copies, since a check hands copies to the answer."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float64):
        super().__init__()
        self.copies: list[_Encoder] = []
        self.own: list[nn.Parameter] = []  # the weights that it started with
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False)).to(dtype)
        g = generator(seed)
        with torch.no_grad():
            for value in self.state_dict().values():
                drawn = torch.rand(value.shape, generator=g, dtype=torch.float64)
                value.copy_(100 * drawn if value.dtype == torch.long else drawn)

    def __deepcopy__(self, memo: dict) -> _Encoder:
        new = _Encoder(0)
        new.layers = copy.deepcopy(self.layers, memo)
        new.own = list(new.parameters())
        self.copies.append(new)
        return new

    def forward(self, rows: Tensor) -> Tensor:
        return self.layers(rows)


def momentum_cases() -> Iterator[Inputs]:
    """A key encoder that takes no gradient, and the encoder that it follows; both ends of the momentum too."""
    for seed, (momentum, dtype) in enumerate(
        [(0.9, torch.float64), (0.99, torch.float32), (0.0, torch.float64), (1.0, torch.float32)]
    ):
        target = _Encoder(2 * seed, dtype).requires_grad_(False)
        yield {"target": target, "source": _Encoder(2 * seed + 1, dtype), "momentum": momentum}


def _moved(weight: Callable[[Tensor, Tensor, float], Tensor], buffer: Callable | None = None) -> Callable:
    """A step that moves every weight, and every buffer, by a formula; a buffer is copied by default."""

    def step(target, source, momentum):
        buffer_names = {name for name, _ in target.named_buffers()}
        leaders = source.state_dict()
        with torch.no_grad():
            for name, value in target.state_dict().items():
                how = (buffer or (lambda t, s, m: s)) if name in buffer_names else weight
                value.copy_(how(value, leaders[name], momentum))

    return step


def _average(t: Tensor, s: Tensor, m: float) -> Tensor:
    return m * t + (1 - m) * s


def _as_it_was(t: Tensor, s: Tensor, m: float) -> Tensor:
    return t


momentum_specification = _moved(_average)


def _replaces(target, source, momentum):
    right = copy.deepcopy(target)
    momentum_specification(right, source, momentum)
    target.layers = right.layers


def _keeps_graph(target, source, momentum):
    for own, leader in zip(target.parameters(), source.parameters(), strict=True):
        own.mul_(momentum).add_((1 - momentum) * leader)
    for own, leader in zip(target.buffers(), source.buffers(), strict=True):
        own.copy_(leader)


def _moves_source(target, source, momentum):
    momentum_specification(source, target, momentum)


def _shares_buffers(target, source, momentum):
    momentum_specification(target, source, momentum)
    target.layers[1].running_mean = source.layers[1].running_mean


REPLACED = (
    "the weights of target are other tensors now: change them in place, with lerp_, mul_, copy_ or load_state_dict"
)
KEPT_GRAPH = (
    "the weights of target carry a gradient now: work under torch.no_grad(), or the graph of every step is kept"
)
MOVED_SOURCE = "source was changed: target follows source, not the other way round"
SHARED = "target and source share memory now: copy the values, or the next step of source is one of target too"
ABOUT_MEMORY = (_replaces, _keeps_graph, _moves_source, _shares_buffers)
MOMENTUM_MISTAKES = {
    "target did not change: work on its own tensors, in place": _moved(_as_it_was, _as_it_was),
    "m and 1 - m are exchanged: m stays with target, 1 - m comes from source": _moved(
        lambda t, s, m: (1 - m) * t + m * s
    ),
    "the buffers (running means and the like) were not copied: parameters() does not list them, buffers() does": _moved(
        _average, _as_it_was
    ),
    "the buffers are averaged: copy them as they are": _moved(_average, _average),
    "this is a plain copy: momentum is not used": _moved(lambda t, s, m: s),
    "only the buffers were copied: the weights did not move": _moved(_as_it_was),
    "the two parts are added without their factors m and 1 - m": _moved(lambda t, s, m: t + s),
    "the share of target is missing: m target + (1 - m) source": _moved(lambda t, s, m: (1 - m) * s),
    "source comes with its full weight: m target + (1 - m) source": _moved(lambda t, s, m: m * t + s),
    "target moves away from source: the step is (1 - m) (source - target)": _moved(
        lambda t, s, m: t - (1 - m) * (s - t)
    ),
    REPLACED: _replaces,
    KEPT_GRAPH: _keeps_graph,
    MOVED_SOURCE: _moves_source,
    SHARED: _shares_buffers,
}


def momentum_properties(inputs: Inputs, run: Callable[..., Any]) -> None:
    """What the answer did to its copies of target and source."""
    target, source, momentum = inputs["target"], inputs["source"], inputs["momentum"]
    run()
    mine, leader = target.copies[0], source.copies[0]
    if _different(leader, source):
        raise AssertionError(MOVED_SOURCE)
    if any(value.requires_grad for value in mine.parameters()):
        raise AssertionError(KEPT_GRAPH)
    wrong_names = _different(mine, _after(momentum_specification, target, source, momentum))
    if wrong_names:
        for message, wrong in MOMENTUM_MISTAKES.items():
            if wrong not in ABOUT_MEMORY and not _different(mine, _after(wrong, target, source, momentum)):
                raise AssertionError(f"{message}\n(momentum {momentum})")
        names = ", ".join(wrong_names)
        raise AssertionError(f"after a step with momentum {momentum} these are not what the formula says: {names}")
    memory = {value.data_ptr() for value in (*leader.parameters(), *leader.buffers())}
    if any(value.data_ptr() in memory for value in (*mine.parameters(), *mine.buffers())):
        raise AssertionError(SHARED)
    if any(now is not then for now, then in zip(mine.parameters(), mine.own, strict=True)):
        raise AssertionError(REPLACED)


def _after(step: Callable, target: _Encoder, source: _Encoder, momentum: float) -> _Encoder:
    moved = copy.deepcopy(target)
    step(moved, copy.deepcopy(source), momentum)
    return moved


def _different(module: nn.Module, other: nn.Module) -> list[str]:
    """The names of weights and buffers that differ."""
    pairs = zip(module.state_dict().items(), other.state_dict().values(), strict=True)
    return [name for (name, value), right in pairs if not torch.allclose(value.double(), right.double(), atol=1e-6)]


EXERCISE = Exercise(
    "momentum-step",
    momentum_cases,
    mistakes=MOMENTUM_MISTAKES,
    properties=momentum_properties,
    may_change=("target", "source"),
)
