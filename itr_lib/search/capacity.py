"""How many machines a gallery needs: by what it weighs, and by how many ask."""

from __future__ import annotations

import math

from itr_lib.validation import expect_count, expect_positive


def machines(items: int, item_bytes: float, memory: float, asked: float, seconds_an_item: float, spare: int = 0) -> int:
    """Machines for a gallery that is cut into shards, each kept as often as the questions ask for.

    A *shard* is what one machine holds. Every query goes to all shards, which work side by side, each on its share of
    the items. A *copy* is one machine for each shard; every query goes to one copy.

    Args:
        items: of the whole gallery.
        item_bytes: bytes that an item takes.
        memory: bytes that a machine has for items.
        asked: queries a second, at the busiest hour.
        seconds_an_item: a machine's time for one query, divided by the items it holds.
        spare: copies beyond those that the questions ask for, so that as many may fail.

    Raises:
        ValueError: for what is not above 0 (``spare``: below 0), or an item that no machine holds.
    """
    for name, value in (("item_bytes", item_bytes), ("memory", memory), ("asked", asked)):
        expect_positive(name, value)
    expect_count("items", items)
    expect_positive("seconds_an_item", seconds_an_item)
    if spare < 0 or item_bytes > memory:
        raise ValueError(
            f"spare is {spare} and an item takes {item_bytes} of {memory} bytes: expected 0 or more, and room"
        )
    shards = math.ceil(items * item_bytes / memory)
    seconds = seconds_an_item * items / shards
    return shards * (math.ceil(asked * seconds) + spare)
