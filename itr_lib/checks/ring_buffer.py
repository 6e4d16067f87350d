"""``ring-buffer``, lesson 04.

A queue of keys and their ids; batches of every length go through it beside a deque, and beside spoiled rings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks._rings import RING_TOGGLES, Ring, Shown
from itr_lib.checks.device import devices
from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.checks.wrong import own_line
from itr_lib.momentum import FeatureQueue, to_device

OLD_CHANGED = (
    "keys you gave out earlier changed with a later enqueue: a slice is a view of the storage; return a copy, as "
    "indexing with a tensor of places does"
)
INPUT_KEPT = "the queue changes when the tensor that was enqueued is changed afterwards: store a copy"
GRAPH_KEPT = "the stored keys carry a gradient: detach() what you store, or the graph of every batch is kept"
CAME = "counts the keys that stay: it is the number of all that came, also where a batch is longer than the queue"
NOT_IN_STEP = "the ids are not in step with the keys: write both to the same places, and read both in the same order"

ANY_NUMBER = "Any number of keys must do, 0 too, and more than size; places wrap round: (came + torch.arange(n)) % size"
ELSEWHERE = (
    "The keys are on the GPU, and something from the CPU meets them: make it where the storage is, "
    "device=self.stored.device"
)

Script = tuple[int, int, list[int]]  # size, width, and how many keys come in each batch


def scripts() -> Iterator[Script]:
    """The docstring's example; then queues of several sizes, a single place among them, and batches of any length."""
    yield 4, 1, [3, 3]
    yield 3, 2, [0, 2, 4]  # asked while it is empty, as at the first step of a training
    for shape in ((5, 3), (1, 2), (8, 4), (4, 1)):
        size, dim = sizes(*shape)
        later = torch.randint(0, 2 * size + 2, (9,), generator=generator(size)).tolist()
        yield size, dim, [2, 1, 0, 2, size, 1, size + 2, 3, *later, 1]


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
    """What came out of all scripts beside a deque, wherever the lesson runs; then whether it keeps its own memory."""
    played = [
        (script, _play(to_device(run(size=script[0], dim=script[1]), device), script, device))
        for device in devices()
        for script in scripts()
    ]
    for script, shown in played:
        for step, (mine, right) in enumerate(zip(shown, _wanted(script), strict=True)):
            if mine != right:
                raise AssertionError(_told(played) + _where(script, step, mine, right))
    for script in scripts():
        _expect_the_count(run(size=script[0], dim=script[1]), script)
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


def _play(ring: Any, script: Script, device: str) -> list[Shown]:
    """What the learner's class holds after each batch of keys from a device."""
    shown = []
    for rows in _batches(script):
        keys, ids = _tensors(rows, script[1])
        _call(ring, "enqueue", script, keys.to(device, copy=True), ids.to(device, copy=True))
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
        hint = ELSEWHERE if "same device" in str(error) else ANY_NUMBER
        line = own_line(error)
        raise AssertionError(
            f"your {name} stopped with {type(error).__name__}: {error}\n" + (f"    {line}\n" if line else "") +
            f"{with_keys} a queue of size {script[0]}. {hint}"
        ) from error  # fmt: skip


def _expect_the_count(ring: Any, script: Script) -> None:
    """``came`` of the stub, where the class still has it."""
    for rows in _batches(script):
        ring.enqueue(*_tensors(rows, script[1]))
    came, right = getattr(ring, "came", None), sum(script[2])
    if isinstance(came, int | Tensor) and int(came) != right:
        raise AssertionError(f"self.came {CAME}\n(size {script[0]}, after {right} keys: your came is {int(came)})")


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
