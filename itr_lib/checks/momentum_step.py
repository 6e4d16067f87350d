"""``momentum-step``, lesson 04.

A key encoder's step after the encoder it follows: weights averaged, buffers copied, all in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.momentum import momentum_update


class _Encoder(nn.Module):
    """A small encoder with buffers; it remembers its copies, since a check hands copies to the answer."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float64):
        super().__init__()
        self.copies: list[_Encoder] = []
        self.own: list[nn.Parameter] = []  # the weights that it started with
        wide, mid, slim = sizes(3, 4, 2)
        layers = nn.Linear(wide, mid), nn.BatchNorm1d(mid), nn.Linear(mid, slim, bias=False)
        self.layers = nn.Sequential(*layers).to(dtype)
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


def _given(momentum: float, dtype: torch.dtype, seed: int) -> Inputs:
    target = _Encoder(2 * seed, dtype).requires_grad_(False)
    return {"target": target, "source": _Encoder(2 * seed + 1, dtype), "momentum": momentum}


def example() -> Case:
    """The docstring's: every number of target is 1, every number of source 2."""
    given = _given(0.9, torch.float64, seed=0)
    for name, number in (("target", 1), ("source", 2)):
        for value in given[name].state_dict().values():
            value.fill_(number)
    return Case(given)


def others() -> Iterator[Inputs]:
    """What :func:`momentum_properties` tries after the example: a mistake must explain all of it."""
    yield _given(0.9, torch.float64, seed=4)
    yield _given(0.99, torch.float32, seed=1)
    yield _given(0.0, torch.float64, seed=2)
    yield _given(1.0, torch.float32, seed=3)


Formula = Callable[[Tensor, Tensor, float], Tensor]  # target, source, momentum


def _moved(weight: Formula, buffer: Formula) -> Callable:
    """A step that moves every weight by one formula, and every buffer by another."""

    def step(target, source, momentum):
        buffer_names = {name for name, _ in target.named_buffers()}
        leaders = source.state_dict()
        with torch.no_grad():
            for name, value in target.state_dict().items():
                value.copy_((buffer if name in buffer_names else weight)(value, leaders[name], momentum))

    return step


def _average(t: Tensor, s: Tensor, m: float) -> Tensor:
    return m * t + (1 - m) * s


def _as_it_was(t: Tensor, s: Tensor, m: float) -> Tensor:
    return t


def _copy(t: Tensor, s: Tensor, m: float) -> Tensor:
    return s


momentum_specification = _moved(_average, _copy)

REPLACED = (
    "the weights of target are other tensors now: change them in place, with lerp_, mul_, copy_ or load_state_dict"
)
KEPT_GRAPH = (
    "the weights of target carry a gradient now: work under torch.no_grad(), or the graph of every step is kept"
)
MOVED_SOURCE = "source was changed: target follows source, not the other way round"
SHARED = "target and source share memory now: copy the values, or the next step of source is one of target too"
RETURNED = "your function returns something: it changes target in place, and returns nothing; leave out the return"
UNMOVED = "target did not change: work on its own tensors, in place"
WEIGHTS: dict[str, Formula] = {
    "": _average,
    "m and 1 - m are exchanged: m stays with target, 1 - m comes from source": lambda t, s, m: (1 - m) * t + m * s,
    "this is a plain copy: momentum is not used": _copy,
    "the weights did not move: m target + (1 - m) source, in place": _as_it_was,
    "the two parts are added without their factors m and 1 - m": lambda t, s, m: t + s,
    "the share of target is missing: m target + (1 - m) source": lambda t, s, m: (1 - m) * s,
    "the share of source is missing: m target + (1 - m) source": lambda t, s, m: m * t,
    "source comes with its full weight: m target + (1 - m) source": lambda t, s, m: m * t + s,
    "target keeps its full weight: m target + (1 - m) source": lambda t, s, m: t + (1 - m) * s,
    "target moves away from source: the step is (1 - m) (source - target)": lambda t, s, m: t - (1 - m) * (s - t),
    "source comes with a minus: m target + (1 - m) source": lambda t, s, m: m * t - (1 - m) * s,
    "both come with m: m target + (1 - m) source": lambda t, s, m: m * (t + s),
    "both come with 1 - m: m target + (1 - m) source": lambda t, s, m: (1 - m) * (t + s),
    "this is the step alone, (1 - m) (source - target): add it to target": lambda t, s, m: (1 - m) * (s - t),
    "the share of source is taken off: m target + (1 - m) source": lambda t, s, m: t - (1 - m) * s,
    "target keeps 1 - m, and source is missing: m target + (1 - m) source": lambda t, s, m: (1 - m) * t,
    "target moves the whole way less m: m target + (1 - m) source": lambda t, s, m: s - m * t,
    "the step is made twice": lambda t, s, m: m * m * t + (1 - m * m) * s,
    "target was scaled before it was used again: m^2 target + ...; keep its old value, or use lerp_": lambda t, s, m: (
        m * m * t + (1 - m) * s
    ),
    "this is the mean of the two: momentum says how much each counts": lambda t, s, m: (t + s) / 2,
    "the weights are set to 0": lambda t, s, m: 0 * t,
}
BUFFERS: dict[str, Formula] = {
    "": _copy,
    "the buffers (running means and the like) were not copied: parameters() does not list them, buffers() does": (
        _as_it_was
    ),
    "the buffers are averaged: copy them as they are": _average,
    "the buffers are averaged, with m and 1 - m exchanged: copy them as they are": lambda t, s, m: (1 - m) * t + m * s,
    "the buffers are added to: copy them as they are": lambda t, s, m: t + s,
    "buffers of whole numbers (num_batches_tracked) were not copied: copy all of them": lambda t, s, m: (
        s if s.is_floating_point() else t
    ),
}


def momentum_properties(inputs: Inputs, run: Callable[..., Any]) -> None:
    """What the answer did to its copies of target and source."""
    pairs, returned = [], []
    for given in [inputs, *others()]:
        returned.append(run(**given))
        pairs.append((given, given["target"].copies[-1], given["source"].copies[-1]))
    if any(_different(leader, given["source"]) for given, _, leader in pairs):
        raise AssertionError(MOVED_SOURCE)
    if any(value.requires_grad for _, mine, _ in pairs for value in mine.parameters()):
        raise AssertionError(KEPT_GRAPH)
    if any(_different(mine, _after(momentum_specification, given)) for given, mine, _ in pairs):
        one = float(next(pairs[0][1].parameters()).flatten()[0].detach())
        example = f"\n(a weight of 1 that follows one of 2 with momentum 0.9 becomes {one:.4g}, expected 1.1)"
        raise AssertionError(_told(pairs) + (example if abs(one - 1.1) > 1e-6 else ""))
    for _, mine, leader in pairs:
        memory = {value.data_ptr() for value in (*leader.parameters(), *leader.buffers())}
        if any(value.data_ptr() in memory for value in (*mine.parameters(), *mine.buffers())):
            raise AssertionError(SHARED)
        if any(now is not then for now, then in zip(mine.parameters(), mine.own, strict=True)):
            raise AssertionError(REPLACED)
    if any(value is not None for value in returned):
        raise AssertionError(RETURNED)


def _told(pairs: list[tuple[Inputs, _Encoder, _Encoder]]) -> str:
    """The formulas that explain target in all cases, or which of its tensors are wrong."""
    if all(not _different(mine, given["target"]) for given, mine, _ in pairs):
        return UNMOVED
    for weight, weight_formula in WEIGHTS.items():
        for buffer, buffer_formula in BUFFERS.items():
            step = _moved(weight_formula, buffer_formula)
            if (weight or buffer) and all(not _different(mine, _after(step, given)) for given, mine, _ in pairs):
                return f"two things: {weight}; and {buffer}" if weight and buffer else weight or buffer
    given, mine, _ = pairs[1]
    names = _different(mine, _after(momentum_specification, given))
    still = [name for name in names if name not in _different(mine, given["target"])]
    if names and still == names:
        return f"these did not move: {', '.join(names)}. Does a loop end too early, or leave out a part of the module?"
    return (
        f"after a step with momentum {given['momentum']} these are not m target + (1 - m) source (buffers: not those "
        f"of source): {', '.join(names) or 'weights, with another momentum'}"
    )


def _after(step: Callable, given: Inputs) -> _Encoder:
    moved = copy.deepcopy(given["target"])
    given["target"].copies.pop()
    source = copy.deepcopy(given["source"])
    given["source"].copies.pop()
    step(moved, source, given["momentum"])
    return moved


def _different(module: nn.Module, other: nn.Module) -> list[str]:
    """The names of weights and buffers that differ."""
    pairs = zip(module.state_dict().items(), other.state_dict().values(), strict=True)
    return [name for (name, value), right in pairs if not torch.allclose(value.double(), right.double(), atol=1e-6)]


EXERCISE = Exercise(
    "momentum-step",
    library=momentum_update,
    example=example(),
    cases=lambda: iter([]),
    properties=momentum_properties,
    may_change=("target", "source"),
)
