"""``ring-buffer``, lesson 04.

A queue of keys and their ids; batches of every length go through it beside a deque, and beside spoiled rings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator
from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.checks.wrong import own_line
from itr_lib.momentum import FeatureQueue

OLD_CHANGED = (
    "keys you gave out earlier changed with a later enqueue: a slice is a view of the storage; return a copy, as "
    "indexing with a tensor of places does"
)
INPUT_KEPT = "the queue changes when the tensor that was enqueued is changed afterwards: store a copy"
GRAPH_KEPT = "the stored keys carry a gradient: detach() what you store, or the graph of every batch is kept"
NOT_IN_STEP = "the ids are not in step with the keys: write both to the same places, and read both in the same order"

Shown = tuple[list[int], list[int]]  # the numbers of the keys, from 1, and their ids
Script = tuple[int, int, list[int]]  # size, width, and how many keys come in each batch


def scripts() -> Iterator[Script]:
    """The docstring's example; then queues of several sizes, a single place among them, and batches of any length."""
    yield 4, 1, [3, 3]
    for size, dim in ((5, 3), (1, 2), (8, 4), (4, 1)):
        later = torch.randint(0, 2 * size + 2, (9,), generator=generator(size)).tolist()
        yield size, dim, [2, 1, 0, 2, size, 1, size + 2, 3, *later, 1]


@dataclass
class Ring:
    """The right ring on plain lists; each option spoils one step.

    ``order`` and ``turned`` (by how many places, and whether only after wrapping) spoil the way out, ``filled`` and
    ``missing`` how many come out, ``take`` and ``end`` which keys go in, ``count`` what is counted, ``start`` and
    ``modulo`` their places, ``own_ids`` the ids alone.
    """

    size: int
    order: str = "oldest"
    turned: tuple[int, bool] = (0, False)
    filled: str = "min"
    missing: str = ""
    take: str = "last"
    end: str = "wrap"
    count: str = "keys"
    start: int = 0
    modulo: int = 0
    own_ids: str = ""
    came: int = 0
    pointer: int = 0

    def __post_init__(self) -> None:
        self.slots, self.owners = [0] * self.size, [-1] * self.size

    def enqueue(self, rows: list[tuple[int, int]]) -> None:
        """Keys (number, id)."""
        new = min(len(rows), self.size)
        first, kept = self.came + len(rows) - new, rows[:new] if self.take == "first" else rows[len(rows) - new :]
        if self.end in ("cut", "full"):
            first, kept = self.came, rows
        if self.end == "again" and self.pointer + new > self.size:
            self.pointer = 0
        for turn, (key, owner) in enumerate(kept):
            place = self._place(first, turn)
            if place < self.size:
                self.slots[place] = key
                if self.own_ids != "once" or first + turn < self.size:
                    self.owners[place] = owner
        self.pointer += new
        self.came += len(rows) if self.count == "keys" else 1

    def _place(self, first: int, turn: int) -> int:
        if self.end == "cut":
            return first % self.size + turn
        if self.end == "full":
            return first + turn
        if self.end == "again":
            return self.pointer + turn
        return (first + turn + self.start) % max(1, self.size + self.modulo)

    def shown(self) -> Shown:
        """What keys() and ids() return."""
        places = self._order()
        read = {"storage": range(min(self.came, self.size)), "turned": places[::-1]}.get(self.own_ids, places)
        return [self.slots[place] for place in places], [self.owners[place] for place in read]

    def _order(self) -> list[int]:
        filled = self.size if self.filled == "size" else min(self.came, self.size)
        if self.order == "storage":
            return list(range(filled))
        shift, wrapped = self.turned
        begin = self.came - filled + (shift if self.came >= self.size + wrapped else 0)
        places = [turn % self.size for turn in range(begin, begin + filled)]
        if self.missing and (self.came >= self.size or "always" in self.missing):
            places = places[1:] if "oldest" in self.missing else places[:-1]
        return places[::-1] if self.order == "newest" else places


RING_TOGGLES = {
    "keys come in the order of the storage: oldest first begins at came % size, once the queue is full": {
        "order": "storage"
    },
    "keys come newest first: oldest first is asked for": {"order": "newest"},
    "the oldest key comes last: the order begins one too late; came % size itself is the oldest place": {
        "turned": (1, False)
    },
    "the newest key comes first: the order begins one too early; came % size is the oldest place": {
        "turned": (-1, False)
    },
    "the oldest key comes last once the ring has wrapped round: the order begins one too late; came % size itself is "
    "the oldest place": {"turned": (1, True)},
    "the newest key comes first once the ring has wrapped round: the order begins one too early; came % size is the "
    "oldest place": {"turned": (-1, True)},
    "the oldest key is missing from a full queue: begin at came - size, not one later": {"missing": "oldest"},
    "the newest key is missing from a full queue: end at came, not one earlier": {"missing": "newest"},
    "slots that were never filled are returned: only those that came, min(came, size) of them": {"filled": "size"},
    "one key too few is returned, the oldest: min(came, size) of them are filled": {"missing": "always the oldest"},
    "one key too few is returned, the newest: min(came, size) of them are filled": {"missing": "always the newest"},
    "of more keys than fit the first ones stay: the last ones are the newest": {"take": "first"},
    "keys that did not fit before the end of the storage are lost: they go on at place 0": {"end": "cut"},
    "a batch that does not fit before the end begins at place 0: fill the end first, then go on at place 0": {
        "end": "again"
    },
    "a full queue takes nothing more: new keys replace the oldest": {"end": "full"},
    "batches are counted, not keys: came grows by len(keys)": {"count": "batches"},
    "the first key of a batch goes one place too far: key number k stands at place k % size, from 0": {"start": 1},
    "the first key of a batch overwrites the newest: key number k stands at place k % size": {"start": -1},
    "places wrap round one too early: modulo size, not size - 1": {"modulo": -1},
    "the ids come in the order of the storage: read them in the same order as the keys": {"own_ids": "storage"},
    "the ids come in the opposite order: read them in the same order as the keys": {"own_ids": "turned"},
    "ids are not replaced once the queue is full: write them to the same places as the keys": {"own_ids": "once"},
}


class RingBuffer:
    """The library's queue, with the methods of the exercise."""

    def __init__(self, size: int, dim: int):
        self.queue = FeatureQueue(size, dim)

    def enqueue(self, keys: Tensor, ids: Tensor) -> None:
        """Add keys (n, dim) and the images they belong to, (n,)."""
        self.queue.enqueue(keys, ids)

    def keys(self) -> Tensor:
        """(filled, dim), oldest first."""
        return self.queue.keys

    def ids(self) -> Tensor:
        """(filled,), in the same order."""
        return self.queue.ids


def ring_properties(inputs: Inputs, run: Callable[..., Any]) -> None:
    """What came out of all scripts beside a deque; then whether the queue keeps its own memory."""
    played = [(script, _play(run(size=script[0], dim=script[1]), script)) for script in scripts()]
    for script, shown in played:
        for step, (mine, right) in enumerate(zip(shown, _wanted(script), strict=True)):
            if mine != right:
                raise AssertionError(_told(played) + _where(script, step, mine, right))
    for script in scripts():
        _expect_own_memory(run(size=script[0], dim=script[1]), script)


def _batches(script: Script) -> Iterator[list[tuple[int, int]]]:
    """(number from 1, id) of the keys of each batch."""
    came = 0
    for new in script[2]:
        yield [(k + 1, k * 7 % 11) for k in range(came, came + new)]
        came += new


def _tensors(rows: list[tuple[int, int]], dim: int) -> tuple[Tensor, Tensor]:
    numbers = torch.tensor([float(number) for number, _ in rows])
    return numbers[:, None] + torch.arange(dim) / 8, torch.tensor([owner for _, owner in rows], dtype=torch.long)


def _wanted(script: Script) -> list[Shown]:
    queue, shown = deque(maxlen=script[0]), []
    for rows in _batches(script):
        queue.extend(rows)
        shown.append(([number for number, _ in queue], [owner for _, owner in queue]))
    return shown


def _play(ring: Any, script: Script) -> list[Shown]:
    """What the learner's class holds after each batch."""
    shown = []
    for rows in _batches(script):
        keys, ids = _tensors(rows, script[1])
        _call(ring, "enqueue", script, keys.clone(), ids.clone())
        found = _call(ring, "keys", script), _call(ring, "ids", script)
        for name, value, ndim in zip(("keys", "ids"), found, (2, 1), strict=True):
            if not isinstance(value, Tensor):
                raise AssertionError(f"{name}() returned {type(value).__name__}, expected a tensor")
            if value.ndim != ndim or (ndim == 2 and value.shape[1] != script[1]):
                wanted = f"(filled, {script[1]})" if ndim == 2 else "(filled,)"
                raise AssertionError(f"{name}() has shape {tuple(value.shape)}, expected {wanted}")
        shown.append(([int(round(x)) for x in found[0].detach()[:, 0].tolist()], [int(x) for x in found[1].tolist()]))
    return shown


def _told(played: list[tuple[Script, list[Shown]]]) -> str:
    """The known mistake, or the two, that give just this in all scripts; or what can be seen of it."""
    for together in [*combinations(RING_TOGGLES, 1), *combinations(RING_TOGGLES, 2)]:
        options = {name: value for message in together for name, value in RING_TOGGLES[message].items()}
        if len(options) == len(together) and all(shown == _spoiled(script, options) for script, shown in played):
            return together[0] if len(together) == 1 else f"two things: {together[0]}; and {together[1]}"
    steps = [
        pair for script, shown in played for pair in zip(shown, _wanted(script), [script[0]] * len(shown), strict=True)
    ]
    if any(len(mine[0]) > size for mine, _, size in steps):
        return "the queue holds more keys than its size: the oldest must go"
    if all(mine[0] == right[0] for mine, right, _ in steps):
        return NOT_IN_STEP
    if all(sorted(mine[0]) == sorted(right[0]) for mine, right, _ in steps):
        return "the right keys are there, in another order: the oldest first, the newest last"
    if any(0 in mine[0] for mine, _, _ in steps):
        return "slots that were never written are returned: come all keys to their places, and are only those read?"
    return "these are not the last keys that came, oldest first"


def _spoiled(script: Script, options: dict[str, Any]) -> list[Shown]:
    ring, shown = Ring(script[0], **options), []
    for rows in _batches(script):
        ring.enqueue(rows)
        shown.append(ring.shown())
    return shown


def _where(script: Script, step: int, mine: Shown, right: Shown) -> str:
    size, _, counts = script
    kind, own, wanted = ("keys", *(s[0] for s in (mine, right))) if mine[0] != right[0] else ("ids", mine[1], right[1])
    shift = kind == "keys"  # key number 0 came first
    own, wanted = ([x - shift for x in values] for values in (own, wanted))
    came = " + ".join(map(str, counts[: step + 1]))
    return f"\n(size {size}, after {came} keys, counted from 0: your {kind}() hold {own}, expected {wanted})"


def _call(ring: Any, name: str, script: Script, *values: Tensor) -> Any:
    """A method of the learner's class; what it raises becomes a diagnosis."""
    method = getattr(ring, name, None)
    if not callable(method):
        raise AssertionError(f"the class has no method {name}(): the names in the stub are what the check calls")
    try:
        return method(*values)
    except Exception as error:
        if isinstance(error, NotImplementedError) and "not implemented for" not in str(error):
            raise
        with_keys = f"{len(values[0])} keys came to" if values else "it was asked of"
        line = own_line(error)
        raise AssertionError(
            f"your {name} stopped with {type(error).__name__}: {error}\n" + (f"    {line}\n" if line else "") +
            f"{with_keys} a queue of size {script[0]}. Any number of keys must do, 0 too, and more than size; places "
            "wrap round: (came + torch.arange(n)) % size"
        ) from error  # fmt: skip


def _expect_own_memory(ring: Any, script: Script) -> None:
    """Nothing given out changes later, nothing taken in is kept as it is, and no graph is."""
    given_out = []
    for rows in _batches(script):
        keys, ids = _tensors(rows, script[1])
        keys = keys.requires_grad_(True)
        ring.enqueue(keys, ids)
        found = ring.keys()
        if found.requires_grad:
            raise AssertionError(GRAPH_KEPT)
        with torch.no_grad():
            keys.fill_(torch.nan)
            ids.fill_(-7)
        if bool(ring.keys().isnan().any()) or bool((ring.ids() == -7).any()):
            raise AssertionError(INPUT_KEPT)
        if any(not torch.equal(now, then) for now, then in given_out):
            raise AssertionError(OLD_CHANGED)
        given_out += [(value, value.clone()) for value in (found, ring.ids())]


EXERCISE = Exercise(
    "ring-buffer",
    library=RingBuffer,
    example=Case({"size": 4, "dim": 1}),
    cases=lambda: iter([]),
    properties=ring_properties,
    parts=2,
)
