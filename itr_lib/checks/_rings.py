"""The ring of ``ring-buffer`` on plain lists, with options that spoil one step each."""

from __future__ import annotations

from dataclasses import dataclass

Shown = tuple[list[int], list[int]]  # the numbers of the keys, from 1, and their ids


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
    first_number: int = 0
    came: int = 0
    pointer: int = 0

    def __post_init__(self) -> None:
        self.slots, self.owners = [0] * self.size, [-1] * self.size

    def enqueue(self, rows: list[tuple[int, int]]) -> None:
        """Keys (number, id)."""
        new = min(len(rows), self.size)
        first, kept = self.came + len(rows) - new, rows[:new] if self.take == "first" else rows[len(rows) - new :]
        if self.take == "last, begun at came":
            first = self.came
        if self.end in ("cut", "full", "last") or self.count == "capped by key":
            first, kept = self.came, rows
        if self.end == "again" and self.pointer + new > self.size:
            self.pointer = 0
        if self.count == "capped":  # by those that came, but never above size
            first = min(self.came, self.size)
        if self.count == "capped first":
            first = min(self.came + new, self.size) - new
        for turn, (key, owner) in enumerate(kept):
            by_key = self.count == "capped by key"
            place = self._place(min(first + turn, self.size), 0) if by_key else self._place(first, turn)
            if place < self.size:
                self.slots[place] = key
                if self.own_ids != "once" or first + turn < self.size:
                    self.owners[place] = owner
        self.pointer += new
        self.came += {"keys": len(rows), "batches": 1}.get(self.count, 0 if self.count == "none" else len(rows))
        if self.count in ("capped by key", "capped", "capped first"):
            self.came = min(self.came, self.size)
        if self.count == "wrapped":
            self.came %= self.size

    def _place(self, first: int, turn: int) -> int:
        if self.end == "cut":
            return first % self.size + turn
        if self.end == "full":
            return first + turn
        if self.end == "again":
            return self.pointer + turn
        if self.end == "last":
            return min(first + turn, self.size - 1)
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
        if self.first_number and self.came <= self.size:
            filled = max(0, filled - 1)
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
    "once the storage is full every key goes to its last place: places wrap round, key number k stands at place "
    "k % size": {"end": "last"},
    "a full queue takes nothing more: new keys replace the oldest": {"end": "full"},
    "of more keys than fit the last ones stay, but in other places: key number k stands at place k % size": {
        "take": "last, begun at came"
    },
    "came never grows: add len(keys) to it": {"count": "none"},
    "came stops at size, so that new keys all go to one place: it counts all keys that came": {
        "count": "capped by key"
    },
    "came stops at size, so that every batch begins at place 0: it counts all keys that came": {"count": "capped"},
    "came stops at size, so that every batch ends at the last place: it counts all keys that came": {
        "count": "capped first"
    },
    "came goes back to 0 at the end of the storage: it counts all keys, and places are came % size": {
        "count": "wrapped"
    },
    "key number 0 never comes out: numbers start at 0, max(0, came - size)": {"first_number": 1},
    "batches are counted, not keys: came grows by len(keys)": {"count": "batches"},
    "the first key of a batch goes one place too far: key number k stands at place k % size, from 0": {"start": 1},
    "the first key of a batch overwrites the newest: key number k stands at place k % size": {"start": -1},
    "places wrap round one too early: modulo size, not size - 1": {"modulo": -1},
    "the ids come in the order of the storage: read them in the same order as the keys": {"own_ids": "storage"},
    "the ids come in the opposite order: read them in the same order as the keys": {"own_ids": "turned"},
    "ids are not replaced once the queue is full: write them to the same places as the keys": {"own_ids": "once"},
}
