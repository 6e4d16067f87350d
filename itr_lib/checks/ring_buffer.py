"""``ring-buffer``, lesson 04.

A queue of keys and their ids; it goes through random batches beside a deque.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs

UNFILLED = "slots that were never filled are returned: only those that came, min(came, size) of them"
OVERFULL = "the queue holds more keys than its size: the oldest must go"
OUT_OF_STEP = "the ids are not in step with the keys: write both to the same places, and read both in the same order"
OLD_CHANGED = (
    "keys you gave out earlier changed with a later enqueue: a slice is a view of the storage; return a copy, as "
    "indexing with a tensor of places does"
)
INPUT_KEPT = "the queue changes when the tensor that was enqueued is changed afterwards: store a copy"
GRAPH_KEPT = "the stored keys carry a gradient: detach() what you store, or the graph of every batch is kept"


def ring_cases() -> Iterator[Inputs]:
    """Queues of several sizes, a single slot among them."""
    for size, dim in ((5, 3), (1, 2), (8, 4), (4, 1)):
        yield {"size": size, "dim": dim}


class _Ring:
    """The right answer with plain lists; each mistake below spoils one thing."""

    def __init__(self, size: int, dim: int):
        self.size, self.dim, self.came = size, dim, 0
        self.slots = [(torch.zeros(dim), -1)] * size

    def enqueue(self, keys: Tensor, ids: Tensor) -> None:
        for key, owner in self.taken(list(zip(keys.detach().clone(), ids.tolist(), strict=True))):
            self.slots[self.came % self.size] = (key, owner)
            self.came += 1

    def taken(self, rows: list) -> list:
        return rows

    def shown(self) -> list:
        filled = min(self.came, self.size)
        return [self.slots[turn % self.size] for turn in range(self.came - filled, self.came)]

    def keys(self) -> Tensor:
        return torch.stack([key for key, _ in self.shown()]) if self.shown() else torch.zeros(0, self.dim)

    def ids(self) -> Tensor:
        return torch.tensor([owner for _, owner in self.shown()], dtype=torch.long)


class _StorageOrder(_Ring):
    def shown(self):
        return self.slots[: min(self.came, self.size)]


class _NewestFirst(_Ring):
    def shown(self):
        return super().shown()[::-1]


class _FirstRows(_Ring):
    def taken(self, rows):
        return rows[: self.size]


class _CutAtTheEnd(_Ring):
    def enqueue(self, keys, ids):
        pointer = self.came % self.size
        for place, row in enumerate(zip(keys.detach().clone(), ids.tolist(), strict=True), pointer):
            if place < self.size:
                self.slots[place] = row
        self.came += len(keys)


class _BeginsAgain(_Ring):
    pointer = filled = 0

    def enqueue(self, keys, ids):
        rows = list(zip(keys.detach().clone(), ids.tolist(), strict=True))[-self.size :]
        if self.pointer + len(rows) > self.size:
            self.pointer = 0
        for row in rows:
            self.slots[self.pointer] = row
            self.pointer += 1
        self.filled = max(self.filled, self.pointer)

    def shown(self):
        return self.slots[self.pointer : self.filled] + self.slots[: self.pointer]


class _FullIsFull(_Ring):
    def taken(self, rows):
        return rows[: max(0, self.size - self.came)]


class _Unfilled(_Ring):
    def shown(self):
        return self.slots


class _Overfull(_Ring):
    def __init__(self, size, dim):
        super().__init__(1000, dim)


class _IdsInStorageOrder(_Ring):
    def ids(self):
        return torch.tensor([owner for _, owner in _StorageOrder.shown(self)], dtype=torch.long)


class _Views(_Ring):
    def __init__(self, size, dim):
        super().__init__(size, dim)
        self.stored = torch.zeros(size, dim)

    def enqueue(self, keys, ids):
        super().enqueue(keys, ids)
        self.stored.copy_(torch.stack([key for key, _ in self.slots]))

    def keys(self):
        return self.stored[: self.came] if self.came <= self.size else super().keys()


class _KeepsInput(_Ring):
    def enqueue(self, keys, ids):
        for key, owner in zip(keys.detach(), ids.tolist(), strict=True):
            self.slots[self.came % self.size] = (key, owner)
            self.came += 1


class _KeepsGraph(_Ring):
    def enqueue(self, keys, ids):
        for key, owner in zip(keys.clone(), ids.tolist(), strict=True):
            self.slots[self.came % self.size] = (key, owner)
            self.came += 1


RING_MISTAKES = {
    "keys come in the order of the storage: oldest first begins at came % size, once the queue is full": _StorageOrder,
    "keys come newest first: oldest first is asked for": _NewestFirst,
    "of more keys than fit the first ones stay: the last ones are the newest": _FirstRows,
    "keys that did not fit before the end of the storage are lost: they go on at place 0": _CutAtTheEnd,
    "a batch that does not fit before the end begins at place 0: fill the end first, then go on at place 0": (
        _BeginsAgain
    ),
    "a full queue takes nothing more: new keys replace the oldest": _FullIsFull,
    UNFILLED: _Unfilled,
    OVERFULL: _Overfull,
    OUT_OF_STEP: _IdsInStorageOrder,
    OLD_CHANGED: _Views,
    INPUT_KEPT: _KeepsInput,
    GRAPH_KEPT: _KeepsGraph,
}


def ring_properties(inputs: Inputs, run: Callable[..., Any]) -> None:
    """Random sequences of batches beside a deque, and beside the known mistakes, which explain a difference."""
    size, dim, g = inputs["size"], inputs["dim"], generator(inputs["size"])
    ring, wanted = run(), deque(maxlen=size)
    others = {message: wrong(**inputs) for message, wrong in RING_MISTAKES.items()}
    given_out, came = [], 0
    later = torch.randint(0, 2 * size + 2, (9,), generator=g).tolist()
    for new in [2, 1, 0, 2, size, 1, size + 2, 3, *later, 1]:
        keys = torch.randn(new, dim, generator=g)
        ids = torch.arange(came, came + new) * 7 % 11
        mine = keys.clone().requires_grad_(True)
        _call(ring, "enqueue", size, came, mine, ids.clone())
        came += new
        for other in others.values():
            other.enqueue(keys, ids)
        wanted.extend(zip(keys, ids.tolist(), strict=True))
        found = _call(ring, "keys", size, came), _call(ring, "ids", size, came)
        _expect_ring(found, wanted, others, size, dim, came)
        with torch.no_grad():
            mine.fill_(torch.nan)
        if bool(_call(ring, "keys", size, came).isnan().any()):
            raise AssertionError(INPUT_KEPT)
        if any(not torch.equal(now, then) for now, then in given_out):
            raise AssertionError(OLD_CHANGED)
        given_out.append((found[0], found[0].clone()))


def _call(ring: Any, name: str, size: int, came: int, *values: Tensor) -> Any:
    """A method of the learner's class; what it raises becomes a diagnosis."""
    method = getattr(ring, name, None)
    if not callable(method):
        raise AssertionError(f"the class has no method {name}(), the names in the stub are what the check calls")
    try:
        return method(*values)
    except Exception as error:
        if isinstance(error, NotImplementedError) and "not implemented for" not in str(error):
            raise
        with_keys = f"{len(values[0])} keys came to" if values else "it was asked of"
        raise AssertionError(
            f"your {name} stopped with {type(error).__name__}: {error}\n{with_keys} a queue of size {size} that had "
            f"seen {came}. Any number of keys must do, 0 too; places wrap round: (came + torch.arange(n)) % size"
        ) from error


def _expect_ring(found: tuple, wanted: deque, others: dict[str, _Ring], size: int, dim: int, came: int) -> None:
    for name, value, shape in (("keys", found[0], (len(wanted), dim)), ("ids", found[1], (len(wanted),))):
        if not isinstance(value, Tensor):
            raise AssertionError(f"{name}() returned {type(value).__name__}, expected a tensor")
        if value.shape[1:] != shape[1:]:
            raise AssertionError(f"{name}() has shape {tuple(value.shape)}, expected {shape}")
    keys, ids = found[0].detach(), found[1]
    right = torch.stack([key for key, _ in wanted]) if wanted else torch.zeros(0, dim)
    owners = [owner for _, owner in wanted]
    if len(keys) == size > came:
        raise AssertionError(UNFILLED)
    if len(keys) > size:
        raise AssertionError(OVERFULL)
    if not torch.equal(keys.to(right), right):
        same = (message for message, other in others.items() if torch.equal(other.keys().detach(), keys.to(right)))
        told = next(same, f"keys() returned {len(keys)} keys, and not the last {len(wanted)} that came, oldest first")
        raise AssertionError(f"{told}\n(a queue of size {size}, after {came} keys)")
    if ids.tolist() != owners:
        raise AssertionError(f"{OUT_OF_STEP}\n(ids() {ids.tolist()}, expected {owners})")
    if found[0].requires_grad:
        raise AssertionError(GRAPH_KEPT)


EXERCISE = Exercise("ring-buffer", ring_cases, mistakes=RING_MISTAKES, properties=ring_properties)
