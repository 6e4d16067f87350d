"""``training-loop``, lesson 01.

A loop over epochs and batches trains a tiny model; what it called, in which order, and every gradient that it stepped
along are held against gradient descent by hand.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

import torch
from torch import Tensor, nn

from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks._loop_log import Log
from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs

CLIP = 2.0


class _Mark:
    """Lives as long as the graph of the loss that it belongs to."""


class _Watched(torch.autograd.Function):
    """The loss as it is; logs when somebody goes back through it, and whether its graph is still held."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, bench: Bench) -> Tensor:
        ctx.bench, ctx.mark = bench, _Mark()
        bench.marks.append(weakref.ref(ctx.mark))
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ctx.bench.log.add("backward")
        return gradients[0], None


@dataclass(eq=False)
class Bench:
    """A linear model of two parameters with all that a loop needs; everything that the loop does is logged."""

    batches: list[list[Tensor]]  # by epoch; a batch is (x0, x1, y)
    rate: float = 0.1
    decay: float = 1.0
    lazy: bool = False

    def __post_init__(self) -> None:
        self.model = _Model(self)
        self.optimizer = _Optimizer(self)
        self.schedule = _Schedule(self)
        self.restart()

    def restart(self) -> None:
        """Everything as it was before anybody trained."""
        self.log, self.marks = Log(self.batches), []
        for weight in self.model.parameters():
            torch.nn.init.zeros_(weight)
            weight.grad = None
        self.model.eval()  # as whoever looked at it last left it
        self.optimizer.param_groups[0]["lr"] = self.rate

    def inputs(self) -> Inputs:
        """What the learner's function is called with."""
        return {
            "model": self.model, "objective": self.objective, "batches_of": self.batches_of,
            "optimizer": self.optimizer, "schedule": self.schedule, "epochs": len(self.batches),
            "validate": self.validate,
        }  # fmt: skip

    def batches_of(self, epoch: int) -> Any:
        """The batches of an epoch, as a list or as an iterator."""
        self.log.add("batches", epoch)
        batches = self.batches[epoch] if 0 <= epoch < len(self.batches) else self.batches[-1]
        return iter(batches) if self.lazy else list(batches)

    def objective(self, model: nn.Module, batch: Tensor, epoch: int) -> Tensor:
        """The squared error of one batch."""
        held = sum(mark() is not None for mark in self.marks)
        own = model is self.model
        self.log.add("loss", batch, epoch, getattr(model, "training", None), held, own, self.model.weights())
        return _Watched.apply((model(batch[:2]) - batch[2]) ** 2, self)

    def validate(self, epoch: int) -> None:
        """Leaves the model in eval mode, as a look at other data does."""
        self.log.add("validate", epoch)
        self.model.eval()

    def __deepcopy__(self, memo: dict) -> Bench:
        return self


class _Model(nn.Module):
    def __init__(self, bench: Bench):
        super().__init__()
        self.bench = bench
        self.first, self.second = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return (self.first * x[0] + self.second * x[1]).sum()

    def weights(self) -> list[float]:
        return [self.first.item(), self.second.item()]

    def __deepcopy__(self, memo: dict) -> _Model:
        """A check calls an answer with copies of its inputs: this very model, at its beginning."""
        self.bench.restart()
        return self


class _Optimizer(torch.optim.SGD):
    def __init__(self, bench: Bench):
        super().__init__(bench.model.parameters(), bench.rate)
        self.bench = bench

    def step(self, closure: Callable | None = None) -> None:
        gradients = [weight.grad for weight in self.bench.model.parameters()]
        known = None if any(g is None for g in gradients) else [g.item() for g in gradients]
        self.bench.log.add("step", known, self.bench.model.weights())
        super().step(closure)

    def __deepcopy__(self, memo: dict) -> _Optimizer:
        return self


class _Schedule:
    """The learning rate falls by a factor at each step."""

    def __init__(self, bench: Bench):
        self.bench = bench

    def step(self, *_: Any) -> None:
        self.bench.log.add("schedule")
        self.bench.optimizer.param_groups[0]["lr"] *= self.bench.decay

    def __deepcopy__(self, memo: dict) -> _Schedule:
        return self


def by_hand(bench: Bench) -> tuple[list[float], list[float]]:
    """Mean losses and the last weights: gradient descent in plain numbers."""
    w, rate, means = [0.0, 0.0], bench.rate, []
    for batches in bench.batches:
        losses = []
        for x0, x1, y in (batch.tolist() for batch in batches):
            error = w[0] * x0 + w[1] * x1 - y
            losses.append(error**2)
            gradient = [2 * error * x0, 2 * error * x1]
            length = (gradient[0] ** 2 + gradient[1] ** 2) ** 0.5
            factor = min(1.0, CLIP / (length + 1e-6))  # as clip_grad_norm_ guards its division
            w = [v - rate * factor * g for v, g in zip(w, gradient, strict=True)]
            rate *= bench.decay
        means.append(sum(losses) / len(losses))
    return means, w


def training_cases() -> Iterator[Case]:
    """One to three epochs, with different batches in each, as lists and as iterators."""
    for seed, (epochs, lazy, trap) in enumerate(
        [
            ([4], False, "there is one epoch"),
            ([3, 4, 2], False, "there are several epochs"),
            ([3, 3], True, "batches_of returns an iterator, which has no length"),
            ([1, 1], False, "an epoch has one batch"),
        ]
    ):
        g = generator(40 + seed)
        batches = [list(torch.randn(size, 3, generator=g, dtype=torch.float64) * 2) for size in sizes(*epochs)]
        yield Case(Bench(batches, decay=0.8, lazy=lazy).inputs(), trap)


def training_properties(inputs: Inputs, run: Callable[..., Any]) -> None:
    """What was called and in which order; the gradients of the steps; the weights; the losses that come back."""
    bench = inputs["model"].bench
    result = run()
    if isinstance(result, GeneratorType):
        raise AssertionError("your function yields: collect the losses in a list, and return it at the end")
    log, (means, weights) = bench.log, by_hand(bench)
    told = log.epochs() or log.taken() or log.order() or log.gradients(CLIP) or log.validation() or log.graphs()
    if told:
        raise AssertionError(told)
    if not torch.allclose(torch.tensor(bench.model.weights()), torch.tensor(weights), rtol=0, atol=1e-6):
        raise AssertionError(
            "the weights do not end where gradient descent by hand ends: does something beside optimizer.step() "
            "change the weights or the learning rate?"
        )
    if told := _about_losses(result, means, log.values(), len(bench.batches)):
        raise AssertionError(told)


def _about_losses(result: Any, means: list[float], values: list[list[float]], epochs: int) -> str:
    """What is wrong with the losses that came back, "" where nothing is."""
    if result is None:
        return "your function returned None: return the list of mean losses at its end"
    mine = torch.as_tensor(result, dtype=torch.float64) if _is_numbers(result) else None
    if mine is None:
        return f"your function returned a {type(result).__name__}, expected a list of numbers, one an epoch"
    if mine.ndim == 0 or (mine.numel() == 1 and epochs > 1):
        every = sum(values, [])
        if epochs == 1:
            return "your function returned a single number: collect one mean loss an epoch in a list"
        if abs(float(mine.reshape(())) - sum(every) / len(every)) < 1e-5:
            return "your function returned one mean over all epochs: begin a new list of losses in each, return a list"
        which = "the last epoch's" if abs(float(mine.reshape(())) - means[-1]) < 1e-5 else "one"
        return f"your function returned {which} loss alone: collect one an epoch in a list"
    if mine.numel() == sum(map(len, values)) != epochs:
        return "your function returned one loss a batch: take their mean in each epoch"
    if tuple(mine.shape) != (epochs,):
        return f"your function returned losses of shape {tuple(mine.shape)}, expected one an epoch: {epochs}"
    if _close(mine, means):
        return ""
    named = next((told for told, losses in _wrong_means(means, values).items() if _close(mine, losses)), None)
    shown = [round(float(loss), 4) for loss in mine]
    right = [round(loss, 4) for loss in means]
    return f"{named or 'the losses are not the means of each epoch'}\n(yours {shown}, expected {right})"


def _wrong_means(means: list[float], values: list[list[float]]) -> dict[str, list[float]]:
    """What else a learner may return: by what they are told."""
    epochs = range(len(values))
    so_far = [sum(values[: e + 1], []) for e in epochs]
    return {
        "these are the sums of each epoch's losses: take the mean": [sum(v) for v in values],
        "these are the losses of each epoch's last batch: take the mean over its batches": [v[-1] for v in values],
        "these are the losses of each epoch's first batch: take the mean over its batches": [v[0] for v in values],
        "the sum is not set back to 0 when an epoch begins": [sum(so_far[e]) / len(values[e]) for e in epochs],
        "the mean goes over all epochs so far: begin a new list in each epoch": [sum(s) / len(s) for s in so_far],
        "the sum is divided by the number of epochs: divide by the number of batches": [
            sum(v) / len(values) for v in values
        ],
        "the sum is divided by one batch too many: count the batches from 1": [sum(v) / (len(v) + 1) for v in values],
        "these are the largest losses of each epoch: take the mean": [max(v) for v in values],
        "these are the smallest losses of each epoch: take the mean": [min(v) for v in values],
        "the losses stand in reverse order": means[::-1],
        "every entry is the mean of the last epoch: the list holds one and the same thing": means[-1:] * len(values),
    }


def _is_numbers(result: Any) -> bool:
    try:
        torch.as_tensor(result, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


def _close(mine: Tensor, losses: list[float]) -> bool:
    return torch.allclose(mine.cpu(), torch.tensor(losses, dtype=torch.float64), rtol=1e-5, atol=1e-5)


def library(
    model: nn.Module,
    objective: Callable,
    batches_of: Callable,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    epochs: int,
    validate: Callable,
) -> list[float]:
    """The heart of :func:`itr_lib.training.train`, without its checkpoints."""
    means = []
    for epoch in range(epochs):
        model.train()
        losses = []
        for batch in batches_of(epoch):
            loss = objective(model, batch, epoch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        means.append(torch.stack(losses).mean().item())
        validate(epoch)
    return means


def _example() -> Inputs:
    """A weight of 0 that is to become 1, then 2, then 3; the second weight has nothing to do."""
    batches = [torch.tensor([1.0, 0.0, y], dtype=torch.float64) for y in (1.0, 2.0, 3.0)]
    return Bench([batches]).inputs()


EXERCISE = Exercise(
    "training-loop",
    library=library,
    example=Case(_example(), worked=[3.6667]),
    cases=training_cases,
    properties=training_properties,
)
