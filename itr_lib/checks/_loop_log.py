"""What a training loop did, call by call, and what is wrong with it: for the check of ``training-loop``."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor

Gradient = list[float]


class Loss(NamedTuple):
    """One call of the objective: the batch's epoch and place, and what the loop said and held at that moment."""

    place: tuple[int, int] | None
    epoch: Any
    training: bool | None
    held: int  # graphs of earlier losses that are still alive
    own_model: bool
    weight: Gradient


class Log:
    """Calls in their order. Each method names what is wrong in one respect, or returns ""."""

    def __init__(self, batches: list[list[Tensor]]):
        self.batches = batches
        self.calls: list[tuple[str, Any]] = []

    def add(self, name: str, *what: Any) -> None:
        """Write a call down."""
        if name == "loss":
            what = (Loss(self._place(what[0]), *what[1:]),)
        self.calls.append((name, *what))

    def _place(self, batch: Any) -> tuple[int, int] | None:
        """Where a batch stands; the same tensor, not a copy."""
        places = ((e, i) for e, batches in enumerate(self.batches) for i in range(len(batches)))
        return next(((e, i) for e, i in places if self.batches[e][i] is batch), None)

    def all(self, name: str) -> list[Any]:
        """What each call of this name was told."""
        return [call[1] if len(call) > 1 else None for call in self.calls if call[0] == name]

    def kinds(self) -> list[list[str]]:
        """For each loss the names of the calls that follow it, up to the next loss or epoch."""
        steps: list[list[str]] = []
        for name, *_ in self.calls:
            if name == "loss":
                steps.append([])
            elif steps and name in ("backward", "step", "schedule"):
                steps[-1].append(name)
        return steps

    def values(self) -> list[list[float]]:
        """The losses of each epoch."""
        values: list[list[float]] = [[] for _ in self.batches]
        for loss in self.all("loss"):
            values[loss.place[0]].append(self._error(loss) ** 2)
        return values

    def _error(self, loss: Loss) -> float:
        x0, x1, y = self.batches[loss.place[0]][loss.place[1]].tolist()
        return loss.weight[0] * x0 + loss.weight[1] * x1 - y

    def _gradient(self, loss: Loss) -> Gradient:
        """By hand: 2 (w x - y) x."""
        x0, x1, _ = self.batches[loss.place[0]][loss.place[1]].tolist()
        return [2 * self._error(loss) * x0, 2 * self._error(loss) * x1]

    def epochs(self) -> str:
        """Is every epoch begun, once and in order?"""
        asked, wanted = self.all("batches"), list(range(len(self.batches)))
        if not asked:
            return "batches_of(epoch) is never called: it gives the batches of an epoch"
        if asked == wanted:
            return ""
        if asked == [0] and len(self.all("loss")) > len(self.batches[0]):
            return "batches_of is called once, before the loop over epochs: call batches_of(epoch) in every epoch"
        if asked == wanted[: len(asked)]:
            return "only one epoch is trained: does a return stand inside the loop over epochs?" * (
                len(asked) == 1
            ) or (
                f"{len(asked)} epochs are trained, expected {len(wanted)}: range(epochs) gives as many as epochs says"
            )
        if asked[0] == 1 and asked[: len(wanted)] == [epoch + 1 for epoch in wanted][: len(asked)]:
            return f"epochs are counted from 0, as range(epochs) does: you asked for {asked}"
        if len(set(asked)) == 1 and len(asked) == len(wanted):
            return f"every epoch trains on the batches of epoch {asked[0]}: call batches_of(epoch) with the epoch"
        if len(asked) > len(wanted) and asked[: len(wanted)] == wanted:
            return f"there is an epoch too many: range(epochs) goes from 0 to {wanted[-1]}; you asked for {asked}"
        return f"batches_of is asked for the epochs {asked}, expected {wanted}: once at the beginning of each"

    def taken(self) -> str:
        """Is the loss of every batch computed once and in order, with the model, its mode and the epoch right?"""
        losses: list[Loss] = self.all("loss")
        if not losses:
            return "objective(model, batch, epoch) is never called: it gives the loss of a batch"
        if any(loss.place is None for loss in losses):
            return "objective gets something else than a batch: give it what the loop over batches_of(epoch) gives you"
        if not all(loss.own_model for loss in losses):
            return "you train a copy: give objective the model that was handed in"
        if told := self._which([loss.place for loss in losses]):
            return told
        if any(loss.epoch != loss.place[0] for loss in losses):
            said = sorted({str(loss.epoch) for loss in losses})
            return f"objective's third argument is the epoch, counted from 0; you gave {', '.join(said)}"
        if len(self.all("validate")) == len(losses) > len(self.batches):
            return "validate is called after every batch: once an epoch, after its last batch, is enough"
        if not losses[0].training:
            return "the model comes in eval mode, where dropout is off: call model.train() before the first batch"
        if not all(loss.training for loss in losses):
            return (
                "validate leaves the model in eval mode, so that later epochs train without dropout: call "
                "model.train() at the beginning of every epoch"
            )
        return ""

    def _which(self, places: list[tuple[int, int]]) -> str:
        """What is wrong with the batches that were taken."""
        every = [(e, i) for e, batches in enumerate(self.batches) for i in range(len(batches))]
        if places == every:
            return ""
        if len(set(places)) == 1 < len(places):
            return "the same batch is taken again and again: give objective the batch of the loop"
        if places == [place for place in every for _ in range(2)]:
            return "objective is called twice for each batch: keep its result"
        known = {
            "the last batch of an epoch is left out": [(e, i) for e, i in every if i < len(self.batches[e]) - 1],
            "the first batch of an epoch is left out": [(e, i) for e, i in every if i > 0],
            "only the first batch of each epoch is taken: does a return or break stand inside the loop over batches?": [
                (e, i) for e, i in every if i == 0
            ],
            "only the last batch of each epoch is taken: what follows the loss belongs inside the loop": [
                (e, i) for e, i in every if i == len(self.batches[e]) - 1
            ],
            "only one batch is taken: does a return stand inside the loop over batches?": every[:1],
        }
        named = next((message for message, taken in known.items() if taken == places), None)
        return named or f"{len(places)} losses are computed for {len(every)} batches: take each batch once, in order"

    def order(self) -> str:
        """Does each batch go loss, backward, optimizer, schedule?"""
        steps, epochs = self.kinds(), len(self.batches)
        counts = {name: sum(step.count(name) for step in steps) for name in ("backward", "step", "schedule")}
        calls = {"backward": "loss.backward()", "step": "optimizer.step()", "schedule": "schedule.step()"}
        why = {"backward": "no gradient", "step": "no weight moves", "schedule": "the learning rate never falls"}
        for name, count in counts.items():
            if count == 0:
                return f"{calls[name]} is never called: {why[name]}"
        if all(step == ["backward", "step", "schedule"] for step in steps):
            return ""
        for name, count in counts.items():
            if count in (epochs, 1) and count < len(steps):
                often = "once an epoch" if count == epochs else "once"
                return f"{calls[name]} is called {often}: it belongs inside the loop over batches, once a batch"
            if count != len(steps):
                return f"{calls[name]} is called {count} times for {len(steps)} batches: once a batch is right"
        if any(_before(step, "step", "backward") for step in steps):
            return "optimizer.step() stands before loss.backward(): it moves along the gradient of the batch before"
        if any(_before(step, "schedule", "step") for step in steps):
            return "schedule.step() stands before optimizer.step(): the learning rate falls one batch too early"
        return "the order within a batch is: loss, backward, optimizer.step(), schedule.step()"

    def gradients(self, clip: float) -> str:
        """Does each step go along the clipped gradient of its batch alone?"""
        steps: list[Gradient | None] = self.all("step")
        own = [self._gradient(loss) for loss in self.all("loss")]
        right = [_clipped(gradient, clip) for gradient in own]
        if any(step is None or not any(step) for step in steps):
            return "the gradient is wiped out between backward and step: zero_grad stands before loss.backward()"
        if _alike(steps, right):
            return ""
        before = [[0.0, 0.0], *steps[:-1]]
        summed = [_plus(old, new) for old, new in zip(before, own, strict=True)]
        running = list(_running(own))
        known = {
            "the gradients of earlier batches are still there: optimizer.zero_grad() is missing, once a batch, before "
            "loss.backward()": [[_clipped(g, clip) for g in summed], summed, running],
            f"the gradient is not clipped: clip_grad_norm_(model.parameters(), {clip}) belongs between backward and "
            "step": [own],
            "every number, or every parameter, is cut for itself: clip the norm of all together, "
            f"clip_grad_norm_(model.parameters(), {clip})": [[[max(-clip, min(clip, v)) for v in g] for g in own]],
            f"every gradient is made {clip} long, short ones too: only longer ones are clipped": [
                [[clip * v / _length(g) for v in g] for g in own]
            ],
        }
        named = next((m for m, ways in known.items() if any(_alike(steps, way) for way in ways)), None)
        longest = max(_length(step) for step in steps)
        if named is None and longest < clip - 1e-3 and _alike(steps, [_clipped(g, longest) for g in own]):
            return f"the gradient is clipped to a norm of {longest:.3g}, expected {clip}"
        return named or "optimizer.step() does not go along the gradient of this batch's loss, clipped to a norm of 2"

    def validation(self) -> str:
        """Is validate called once an epoch, after its last batch?"""
        asked, wanted = self.all("validate"), list(range(len(self.batches)))
        if not asked:
            return "validate(epoch) is never called: it belongs at the end of each epoch"
        if len(asked) != len(wanted):
            return f"validate is called {len(asked)} times in {len(wanted)} epochs: once, at the end of each"
        if asked != wanted:
            return f"validate gets the epoch, counted from 0: {wanted}; you gave {asked}"
        names = [name for name, *_ in self.calls if name in ("batches", "validate", "loss")]
        if any(one == "validate" and other == "loss" for one, other in pairwise(names)) or names[-1] != "validate":
            return "validate is called before the epoch's batches: it belongs after the last of them"
        return ""

    def graphs(self) -> str:
        """Are the graphs of earlier losses let go?"""
        if max(loss.held for loss in self.all("loss")) > 1:
            return (
                "the losses are kept with their graphs, and memory grows with every batch: keep loss.item(), a number"
            )
        return ""


def _before(step: list[str], one: str, other: str) -> bool:
    return one in step and other in step and step.index(one) < step.index(other)


def _length(gradient: Gradient) -> float:
    return sum(value**2 for value in gradient) ** 0.5


def _clipped(gradient: Gradient, most: float) -> Gradient:
    factor = min(1.0, most / (_length(gradient) + 1e-6))  # as clip_grad_norm_ guards its division
    return [factor * value for value in gradient]


def _plus(one: Gradient, other: Gradient) -> Gradient:
    return [a + b for a, b in zip(one, other, strict=True)]


def _running(gradients: list[Gradient]) -> Any:
    total = [0.0, 0.0]
    for gradient in gradients:
        total = _plus(total, gradient)
        yield total


def _alike(some: list[Gradient], others: list[Gradient]) -> bool:
    return all(abs(a - b) < 1e-5 for s, o in zip(some, others, strict=True) for a, b in zip(s, o, strict=True))
