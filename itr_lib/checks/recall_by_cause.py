"""``recall-by-cause``, lesson 06.

Recall apart for captions that hold a word of each cause, beside a walk through each caption letter by letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.evaluation import recall_by_cause

Causes = dict[str, set[str]]
CAUSES: Causes = {
    "counting": {"one", "two", "three"},
    "negation": {"no", "without"},
    "relations": {"behind", "under", "on"},
}
CAPTIONS = (
    "Two dogs run behind a man",
    "A dog on a stone wall",  # "one" in "stone"
    "A man, without a hat, and two children.",
    "No one is on the bench",
    "a woman throws a ball",
    "Three men; three hats; three dogs!",
    "The snow melts",  # "no" in "snow"
    "ONE boy (under a tree)",
    "A young girl laughs",
    "Nobody knows the thunder",  # "no", "under" in other words
    "two-storey house",
    "A dog is behind, a cat on the sofa",
    "A girl on skis",
    "without",
    "People talk",
    "A man sings\tbehind\na fence",
)


def _inputs(rows: list[int], seed: int, causes: Causes = CAUSES, share: float = 0.45) -> Inputs:
    hits = torch.rand(len(rows), generator=generator(seed)) < share
    return {"captions": [CAPTIONS[row] for row in rows], "hits": hits, "causes": causes}


def cause_cases() -> Iterator[Case]:
    """Words in words, capitals and stops, several causes in one caption, causes of nobody, and of everybody."""
    every = list(range(len(CAPTIONS)))
    for seed in range(3):
        rows = torch.randint(len(CAPTIONS), sizes(40), generator=generator(30 + seed)).tolist()
        yield Case(_inputs(rows, 40 + seed))
    yield Case(_inputs(every, 43))
    more = CAUSES | {"colours": {"green", "red"}, "rare": {"skis", "storey", "melts"}}
    yield Case(_inputs(every * 2, 44, more), "no caption has a word of one of the causes")
    yield Case(_inputs([0, 2, 3, 5], 45), "every caption has a cause")
    yield Case(_inputs([4, 6, 8, 14], 46), "no caption has a cause")
    yield Case(_inputs([2], 47), "there is one caption")
    yield Case(_inputs(every, 48, {}), "there are no causes")


def cause_specification(captions: list[str], hits: Tensor, causes: Causes) -> dict[str, tuple[float, int]]:
    """Caption by caption, letter by letter: which words does it hold, and to which groups does it belong?"""
    groups: dict[str, list[bool]] = {cause: [] for cause in [*causes, "none"]}
    for caption, hit in zip(captions, hits.tolist(), strict=True):
        words, word = [], ""
        for letter in caption + " ":
            word, done = (word + letter.lower(), "") if letter.isalnum() else ("", word)
            words += [done] if done else []
        own = [cause for cause, some in causes.items() if any(w in some for w in words)]
        for cause in own or ["none"]:
            groups[cause].append(hit)
    return {cause: (100 * sum(found) / len(found), len(found)) for cause, found in groups.items() if found}


def _words(caption: str) -> list[str]:
    return re.findall(r"\w+", caption.lower())


def _any(caption: str, some: set[str], words: Callable) -> int:
    return int(bool(some & set(words(caption))))


def _occurrences(caption: str, some: set[str], words: Callable) -> int:
    return sum(word in some for word in words(caption))


def _within(caption: str, some: set[str], words: Callable) -> int:
    return int(any(word in caption.lower() for word in some))


def _within_as_written(caption: str, some: set[str], words: Callable) -> int:
    return int(any(word in caption for word in some))


def _every(caption: str, some: set[str], words: Callable) -> int:
    return int(some <= set(words(caption)))


def _first_word(caption: str, some: set[str], words: Callable) -> int:
    return int(words(caption)[0] in some)


def _all_its_words(caption: str, some: set[str], words: Callable) -> int:
    return int(set(words(caption)) <= some)


def _share(hits: list[bool], count: int) -> tuple[float, int]:
    return 100 * sum(hits) / len(hits), len(hits)


def by_cause(
    captions, hits, causes, words=_words, member=_any, choose=lambda own: own, none=lambda own: not own,
    number=_share, keep=lambda group: bool(group), name="none", empty=None,
) -> dict[str, Any]:  # fmt: skip
    """The recalls, with options to spoil them; every one is a mistake of the family below."""
    groups: dict[str, list[bool]] = {cause: [] for cause in causes} | ({name: []} if name else {})
    for caption, hit in zip(captions, hits.tolist(), strict=True):
        own = {c: times for c, some in causes.items() if (times := member(caption, some, words))}
        for cause in choose(list(own)):
            groups[cause] += [hit] * own[cause]
        if name and none(own):
            groups[name].append(hit)
    return {cause: number(group, len(captions)) if group else empty for cause, group in groups.items() if keep(group)}


FAMILY: dict[str, dict] = {
    'words are looked for within other words ("one" in "stone", "no" in "snow"): compare whole words': {
        "member": _within
    },
    'words are looked for within other words ("one" in "stone"), and capitals are not lowered: compare whole words, in '
    "lower case": {"member": _within_as_written},
    'capitals are not lowered: "Two" is no word of the cause, "two" is': {
        "words": lambda caption: re.findall(r"\w+", caption)
    },
    'the captions are split at blanks, which leaves "hat,": a word ends at anything but letters and digits': {
        "words": lambda caption: caption.lower().split()
    },
    'the captions are split at blanks, which leaves "hat,", and capitals are not lowered': {
        "words": lambda caption: caption.split()
    },
    'stops are stripped, but "two-storey" holds two words: a word ends at anything but letters and digits': {
        "words": lambda caption: [word.strip(".,;:!?()-") for word in caption.lower().split()]
    },
    "words are split at single blanks, split(' '): a tab or a new line ends a word, too": {
        "words": lambda caption: re.sub(r"[^\w\t\n]", " ", caption.lower()).split(" ")
    },
    "each caption is counted for one cause alone, the first: it belongs to all of its causes": {
        "choose": lambda own: own[:1]
    },
    "each caption is counted for one cause alone, the last: it belongs to all of its causes": {
        "choose": lambda own: own[-1:]
    },
    "captions with several causes are left out: they belong to each of them": {
        "choose": lambda own: own if len(own) == 1 else []
    },
    'a caption counts once for each of its words ("three ... three"): count it once for a cause': {
        "member": _occurrences
    },
    "a caption is asked to hold all words of a cause: one of them is enough": {"member": _every},
    "only the first word of a caption is looked at: look at all of them": {"member": _first_word},
    "all words of a caption must belong to the cause: one of them is enough": {"member": _all_its_words},
    'the group "none" is missing: captions without a word of any cause': {"name": ""},
    'the group "none" holds all captions: those without a word of any cause': {"none": lambda own: True},
    'the group "none" holds captions that some causes, not all, do not concern: those without a word of any cause': {
        "none": lambda own: len(own) < 3
    },
    'the group "none" holds captions with a cause: those without': {"none": bool},
    "these are fractions: give percent, multiply by 100": {
        "number": lambda group, n: (sum(group) / len(group), len(group))
    },
    "these are hits: divide by the number of captions in the group, times 100": {
        "number": lambda group, n: (sum(group), len(group))
    },
    "you divide by the number of all captions: divide by the group's own": {
        "number": lambda group, n: (100 * sum(group) / n, len(group))
    },
    "these are the misses: count the hits": {
        "number": lambda group, n: (100 - 100 * sum(group) / len(group), len(group))
    },
    "the number beside the recall is that of the hits: give the number of captions in the group": {
        "number": lambda group, n: (100 * sum(group) / len(group), sum(group))
    },
    "the number beside the recall is that of all captions: give the number of captions in the group": {
        "number": lambda group, n: (100 * sum(group) / len(group), n)
    },
    "the number beside the recall is the group's share of the captions: give how many there are": {
        "number": lambda group, n: (100 * sum(group) / len(group), len(group) / n)
    },
    "number and recall are exchanged: (percent, number of captions)": {
        "number": lambda group, n: (len(group), 100 * sum(group) / len(group))
    },
    "the recalls are rounded: keep the decimals": {
        "number": lambda group, n: (round(100 * sum(group) / len(group)), len(group))
    },
    "the recalls are rounded to one decimal: keep them all": {
        "number": lambda group, n: (round(100 * sum(group) / len(group), 1), len(group))
    },
    "the numbers of captions are missing: (percent, number of captions) for each cause": {
        "number": lambda group, n: 100 * sum(group) / len(group)
    },
    "a cause that no caption has gets a recall of 0: nobody was missed there, leave it out": {
        "keep": lambda group: True, "empty": (0.0, 0),
    },
    "a cause that no caption has gets NaN: leave it out": {
        "keep": lambda group: True, "empty": (float("nan"), 0),
    },
    "a cause that no caption has gets a recall of 100: leave it out": {
        "keep": lambda group: True, "empty": (100.0, 0),
    },
    "a cause that no caption has is there with None: leave it out": {"keep": lambda group: True},
    "groups of a single caption are left out: those without any caption are": {"keep": lambda group: len(group) > 1},
    "groups without a hit are left out: those without a caption are": {"keep": any},
}  # fmt: skip


def _divides_by_none(captions: list[str], hits: Tensor, causes: Causes) -> dict[str, tuple[float, int]]:
    found = by_cause(captions, hits, causes)
    for cause in [*causes, "none"]:
        _share([] if cause not in found else [True], 0)
    return found


MISTAKES: dict[str, Callable] = {
    "your function divides by 0 where no caption has a cause: leave such a group out": _divides_by_none,
}


def _explain(inputs: Inputs, result: Any, expected: dict) -> str | None:
    """What can be said of another kind of result, and of single groups."""
    if not isinstance(result, dict):
        return f"your function returned a {type(result).__name__}, expected a dict: {{cause: (percent, number)}}"
    missing, more = [c for c in expected if c not in result], [c for c in result if c not in expected]
    if missing or more:
        told = [f"{names} {'is' if len(some) == 1 else 'are'} {word}" for word, some in
                (("missing", missing), ("too many", more)) if (names := ", ".join(map(repr, some)))]  # fmt: skip
        return f"the groups are {', '.join(map(repr, result)) or 'none'}: {' and '.join(told)}"
    for cause, value in result.items():
        if not isinstance(value, tuple | list) or len(value) != 2:
            return f"{cause!r} has {value!r}: expected two numbers, (percent, number of captions)"
        if abs(float(value[1]) - expected[cause][1]) > 1e-6:
            return f"yours has {value[1]:g} captions in the group {cause!r}, there are {expected[cause][1]}"
    return "the groups have the right numbers of captions, not the right recalls: 100 * hits / captions, in each group"


EXERCISE = Exercise(
    "recall-by-cause",
    library=recall_by_cause,
    example=Case(
        {
            "captions": ["Two dogs", "A dog", "No dog, two cats"],
            "hits": torch.tensor([True, False, False]),
            "causes": {"counting": {"two"}, "negation": {"no"}},
        }
    ),
    cases=cause_cases,
    specification=cause_specification,
    mistakes=MISTAKES,
    family=(by_cause, FAMILY),
    explain=_explain,
)
