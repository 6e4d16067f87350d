"""``machines``, lesson 07.

Shards by weight, copies by load, beside counting machine by machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from itr_lib.checks._inputs import sizes
from itr_lib.checks.frame import Case, Exercise
from itr_lib.search.capacity import machines


def _case(items, item_bytes, memory, asked, seconds_an_item, spare, trap="", worked=None) -> Case:
    gallery = {"items": items, "item_bytes": item_bytes, "memory": memory}
    load = {"asked": asked, "seconds_an_item": seconds_an_item, "spare": spare}
    return Case(gallery | load, trap, worked)


EXAMPLE = _case(1000, 64, 32_000, 8, 2**-10, 1, worked=10)
# items, item_bytes, memory, asked, seconds_an_item, spare, trap; numbers that are exact in binary, so that what just
# fits fits
CASES = [
    (5000, 128, 100_000, 20, 2**-12, 2, ""),
    (9000, 32, 50_000, 3, 2**-11, 1, ""),
    (70_000, 256, 1_000_000, 2, 2**-13, 3, ""),
    (4096, 64, 65_536, 16, 2**-10, 1, "the gallery fills its shards to the last byte"),
    (4097, 64, 65_536, 16, 2**-12, 1, "one item more than fits makes another shard"),
    (1024, 64, 2**20, 4, 2**-10, 1, "the copies are busy every second"),
    (1025, 64, 2**20, 4, 2**-10, 1, "a little more is asked than the copies answer"),
    (500, 64, 100_000, 1, 2**-14, 0, "one machine is enough, and none is spare"),
    (500, 64, 100_000, 1, 2**-14, 2, "one machine is enough, and two are spare"),
    (3000, 2048, 4096, 5, 2**-10, 1, "two items fill a machine"),
    (5000, 8, 1000, 6, 2**-9, 1, "a machine is tiny"),
    (6000, 96, 100_000, 0.125, 2**-10, 1, "a query comes every eight seconds"),
    (30_000, 64, 2**21, 300, 2**-12, 0, "nothing is spare"),
]


def machines_cases() -> Iterator[Case]:
    """Ordinary galleries; ceilings just met and just missed; a load below one; nothing spare."""
    for items, *rest, trap in CASES:
        yield _case(items if "fills" in trap or "little" in trap or "busy" in trap else sizes(items)[0], *rest, trap)


def machines_specification(items, item_bytes, memory, asked, seconds_an_item, spare) -> int:
    """Shard by shard until everything has a place, copy by copy until everybody is answered."""
    shards = 1
    while shards * memory < items * item_bytes:
        shards += 1
    copies = 0
    while copies < asked * seconds_an_item * items / shards:
        copies += 1
    return shards * (copies + spare)


def machines_with(
    items, item_bytes, memory, asked, seconds_an_item, spare, up=math.ceil, up_copies=math.ceil,
    weight=lambda items, item_bytes, memory: items * item_bytes / memory,
    held=lambda items, shards: items / shards, busy=lambda asked, seconds: asked * seconds,
    and_spare=lambda copies, spare: copies + spare, together=lambda shards, copies, spare: shards * copies,
):  # fmt: skip
    """The count, with options to spoil it."""
    shards = up(weight(items, item_bytes, memory))
    copies = and_spare(up_copies(busy(asked, seconds_an_item * held(items, shards))), spare)
    return together(shards, copies, spare)


TOGGLES: dict[str, dict[str, object]] = {
    "shards are rounded down, so that some items have no place: math.ceil": {"up": math.floor},
    "shards are rounded down, and at least one: what is left over needs a machine, too, math.ceil": {
        "up": lambda shards: max(1, math.floor(shards))
    },
    "shards are rounded to the nearest whole number, so that some items have no place: math.ceil": {"up": round},
    "shards are no whole number: math.ceil": {"up": lambda shards: shards},
    "one shard more than is needed where they are just full: math.ceil, not + 1": {
        "up": lambda shards: math.floor(shards) + 1
    },
    "copies are rounded down, so that some queries wait for ever: math.ceil": {"up_copies": math.floor},
    "copies are rounded down, and at least one: math.ceil": {"up_copies": lambda copies: max(1, math.floor(copies))},
    "copies are rounded to the nearest whole number, so that some queries wait for ever: math.ceil": {
        "up_copies": round
    },
    "copies are no whole number before the spare ones are added: math.ceil": {"up_copies": lambda copies: copies},
    "one copy more than is needed where they are just busy: math.ceil, not + 1": {
        "up_copies": lambda copies: math.floor(copies) + 1
    },
    "a machine is taken to look at the whole gallery: it holds one shard, items / shards": {
        "held": lambda items, shards: items
    },
    "a shard is taken to hold items * shards: it holds items / shards": {"held": lambda items, shards: items * shards},
    "a shard is taken to be full: the items are shared out evenly, items / shards": {
        "held": lambda items, shards: items if shards == 1 else math.ceil(items / shards) + 1
    },
    "memory is divided by what the gallery weighs: items * item_bytes / memory": {
        "weight": lambda items, item_bytes, memory: memory / (items * item_bytes)
    },
    "item_bytes is left out: a gallery weighs items * item_bytes": {
        "weight": lambda items, item_bytes, memory: items / memory
    },
    "one machine is taken to hold everything: items * item_bytes / memory says how many are needed": {
        "weight": lambda items, item_bytes, memory: 1
    },
    "the queries a second are divided by the seconds a query: a copy is busy for asked * seconds of every second": {
        "busy": lambda asked, seconds: asked / seconds
    },
    "the seconds a query are divided by the queries a second: a copy is busy for asked * seconds of every second": {
        "busy": lambda asked, seconds: seconds / asked
    },
    "this counts a copy for each query a second, whatever time it takes: asked * seconds": {
        "busy": lambda asked, seconds: asked
    },
    "asked is left out: so many queries come each second, and each keeps a copy busy": {
        "busy": lambda asked, seconds: seconds
    },
    "one copy is taken to be enough: asked * seconds says how many are needed": {"busy": lambda asked, seconds: 1},
    "the spare copies are forgotten: copies + spare": {"and_spare": lambda copies, spare: copies},
    "the spare copies are taken away: copies + spare": {"and_spare": lambda copies, spare: copies - spare},
    "the copies are multiplied by the spare ones: copies + spare": {"and_spare": lambda copies, spare: copies * spare},
    "one copy is spare, whatever spare says: copies + spare": {"and_spare": lambda copies, spare: copies + 1},
    "the larger of copies and spare is taken: copies + spare": {"and_spare": max},
    "spare machines are added at the end: a spare copy is a machine for every shard, shards * (copies + spare)": {
        "and_spare": lambda copies, spare: copies,
        "together": lambda shards, copies, spare: shards * copies + spare,
    },
    "shards and copies are added: a copy is a machine for every shard, shards * copies": {
        "together": lambda shards, copies, spare: shards + copies
    },
    "these are the copies: each is a machine for every shard, shards * copies": {
        "together": lambda shards, copies, spare: copies
    },
    "these are the shards: each is kept so many times as there are copies, shards * copies": {
        "together": lambda shards, copies, spare: shards
    },
    "the larger of shards and copies is taken: a copy is a machine for every shard, shards * copies": {
        "together": lambda shards, copies, spare: max(shards, copies)
    },
}


def _one_ceiling(items, item_bytes, memory, asked, seconds_an_item, spare):
    shards = items * item_bytes / memory
    return math.ceil(shards * (asked * seconds_an_item * items / shards + spare))


def _one_ceiling_of_all(items, item_bytes, memory, asked, seconds_an_item, spare):
    return math.ceil(items * item_bytes / memory * (asked * seconds_an_item * items + spare))


def _whole_division(items, item_bytes, memory, asked, seconds_an_item, spare):
    shards = items * item_bytes // memory + 1
    return int(shards * (asked * seconds_an_item * items // shards + 1 + spare))


def _items_on_a_full_machine(items, item_bytes, memory, asked, seconds_an_item, spare):
    shards = math.ceil(items * item_bytes / memory)
    return shards * (math.ceil(asked * seconds_an_item * memory / item_bytes) + spare)


def _answers_of_a_machine(items, item_bytes, memory, asked, seconds_an_item, spare):
    """A machine is taken to answer a whole number of queries a second."""
    shards = math.ceil(items * item_bytes / memory)
    return shards * (math.ceil(asked / math.floor(1 / (seconds_an_item * items / shards))) + spare)


def _spread_over_machines(items, item_bytes, memory, asked, seconds_an_item, spare):
    shards = math.ceil(items * item_bytes / memory)
    return max(shards, math.ceil(asked * seconds_an_item * items)) + spare


MACHINES_MISTAKES: dict[str, Callable] = {
    "this rounds once, at the end: shards are whole machines, and so are copies, so round each up": _one_ceiling,
    "two things: this rounds once, at the end, where shards are whole machines, and so are copies; and a machine is "
    "taken to look at the whole gallery, where it holds one shard, items / shards": _one_ceiling_of_all,
    "this is // and + 1, which is one too many where nothing is left over: math.ceil(a / b)": _whole_division,
    "a machine is taken to hold as many items as fit: they are shared out evenly, items / shards": (
        _items_on_a_full_machine
    ),
    "a copy is taken to answer a whole number of queries a second, and the rest of the second is lost: "
    "math.ceil(asked * seconds)": _answers_of_a_machine,
    "every query is taken to go to one machine alone: it goes to every shard, so a copy is a machine for each": (
        _spread_over_machines
    ),
}


def _step_by_step(items, item_bytes, memory, asked, seconds_an_item, spare) -> str:
    """Shards, seconds, copies."""
    shards = math.ceil(items * item_bytes / memory)
    seconds = seconds_an_item * items / shards
    copies = math.ceil(asked * seconds)
    return (
        f"the items weigh {items * item_bytes:,} bytes, so {shards} shards; a query takes {seconds:g} s there, so "
        f"{copies} copies answer {asked:g} a second; with {spare} spare that is {shards} * ({copies} + {spare})"
    )


EXERCISE = Exercise(
    "machines",
    library=machines,
    example=EXAMPLE,
    cases=machines_cases,
    specification=machines_specification,
    steps=_step_by_step,
    mistakes=MACHINES_MISTAKES,
    family=(machines_with, TOGGLES),
    exact=True,
)
