"""``poolings``, lesson 02.

TERAN's four poolings from one mrsw that is given, beside its loops with both sides exchanged; gradients too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.mrsw import cosines_of_the_lesson, library_mrsw, mrsw_specification, padded_cases, wrong_mrsw

NAMES = ("MrSw", "MrAVGw", "MwSr", "Symm")
SMALL = {
    "alignments": torch.tensor([[[[0.9, -0.2, 0.1], [0.3, 0.5, -0.4]]]], dtype=torch.float64),
    "region_mask": torch.ones(1, 2, dtype=torch.bool),
    "word_mask": torch.ones(1, 3, dtype=torch.bool),
    "mrsw": mrsw_specification,
}


def pool_cases() -> Iterator[Case]:
    """The padded cases in all four ways; in each of them pictures and captions keep something real."""
    for case in padded_cases():
        for how in NAMES:
            yield Case(case.inputs | {"how": how, "mrsw": mrsw_specification}, f'how is "{how}"')


def pool_specification(alignments: Tensor, region_mask: Tensor, word_mask: Tensor, how: str, mrsw: Callable) -> Tensor:
    """MrSw as it is; MwSr is the same with both sides exchanged."""
    by_word = mrsw_specification(alignments, region_mask, word_mask)
    if how == "MrSw":
        return by_word
    if how == "MrAVGw":
        return torch.stack([by_word[:, m] / sum(real) for m, real in enumerate(word_mask.tolist())], dim=1)
    by_region = mrsw_specification(alignments.permute(1, 0, 3, 2), word_mask, region_mask).T
    return by_region if how == "MwSr" else by_word + by_region


def _mwsr(alignments: Tensor, region_mask: Tensor, word_mask: Tensor, mrsw: Callable, mirror: str) -> Tensor:
    """The mirror, with all that a learner may mistake in it; crashes, as it should, where shapes do not fit."""
    turned, both = alignments.permute(1, 0, 3, 2), alignments.transpose(0, 1)
    return {
        "right": lambda: mrsw(turned, word_mask, region_mask).T,
        "not back": lambda: mrsw(turned, word_mask, region_mask),
        "MrSw": lambda: mrsw(alignments, region_mask, word_mask),
        "MrSw turned": lambda: mrsw(alignments, region_mask, word_mask).T,
        "masks alone": lambda: mrsw(alignments, word_mask, region_mask),
        "masks alone, back": lambda: mrsw(alignments, word_mask, region_mask).T,
        "last two": lambda: mrsw(alignments.mT, word_mask, region_mask),
        "last two, back": lambda: mrsw(alignments.mT, word_mask, region_mask).T,
        "first two": lambda: mrsw(both, word_mask, region_mask).T,
        "masks as they are": lambda: mrsw(alignments.mT, region_mask, word_mask),
        "masks as they are, turned": lambda: mrsw(turned, region_mask, word_mask).T,
        "no masks": lambda: mrsw(turned, torch.ones_like(word_mask), torch.ones_like(region_mask)).T,
        "worst": lambda: -mrsw(-turned, word_mask, region_mask).T,
        "reversed": lambda: mrsw(alignments.permute(3, 2, 1, 0), word_mask, region_mask).T,
    }[mirror]()


def _divisors(said: Tensor, shown: Tensor, width: int) -> dict[str, Tensor | int]:
    """What a sum may be divided by; ``said``, ``shown``: how many words and regions are real."""
    return {
        "words": said,
        "none": 1,
        "width": width,
        "regions": shown[:, None],
        "all words": said.sum(),
        "down": said[:, None],
        "mean": said.double().mean(),
        "one more": said + 1,
        "root": said.sqrt(),
        "pairs": said * shown[:, None],
        "captions": len(said),
        "": 1,
    }


def _pool(
    alignments: Tensor, region_mask: Tensor, word_mask: Tensor, how: str, mrsw: Callable, divisor="words",
    mirror="right", mirror_divisor="", symm="sum", sum_is="MrSw", names=("MrSw", "MrAVGw", "MwSr", "Symm"),
    own=None,
) -> Tensor:  # fmt: skip
    """The four with all that a learner may change in them; ``own``: options of an mrsw that is not used as given."""
    mrsw = partial(wrong_mrsw, **own) if own else mrsw_specification
    how = names[NAMES.index(how)]
    by_word, said, shown = mrsw(alignments, region_mask, word_mask), word_mask.sum(dim=1), region_mask.sum(dim=1)
    divisors = _divisors(said, shown, word_mask.shape[1])
    if how in ("MrSw", "MrAVGw"):
        return by_word / divisors[divisor] if how == "MrAVGw" or sum_is == "MrAVGw" else by_word
    by_region = _mwsr(alignments, region_mask, word_mask, mrsw, mirror) / divisors[mirror_divisor]
    if how == "MwSr":
        return by_region
    return {
        "sum": lambda: by_word + by_region,
        "mean": lambda: (by_word + by_region) / 2,
        "MrSw": lambda: by_word,
        "MwSr": lambda: by_region,
        "MrAVGw": lambda: by_word / divisors[divisor] + by_region,
        "both means": lambda: by_word / divisors[divisor] + by_region / shown[:, None],
        "larger": lambda: torch.maximum(by_word, by_region),
        "product": lambda: by_word * by_region,
        "difference": lambda: by_word - by_region,
        "twice": lambda: 2 * by_word,
        "twice MwSr": lambda: 2 * by_region,
    }[symm]()


def _exchanged() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Two of the four names taken for each other."""
    for one, other in combinations(NAMES, 2):
        yield f"{one} and {other} are exchanged", tuple({one: other, other: one}.get(name, name) for name in NAMES)


TOGGLES = {
    "MrAVGw is not divided: it is MrSw over the number of real words": {"divisor": "none"},
    "MrAVGw is divided by the padded width: count the real words, word_mask.sum(dim=1)": {"divisor": "width"},
    "MrAVGw is divided by the number of regions: w stands for words": {"divisor": "regions"},
    "MrAVGw is divided by the words of all captions together: each caption has its own number": {
        "divisor": "all words"
    },
    "MrAVGw is divided by the mean number of words: each caption has its own": {"divisor": "mean"},
    "in MrAVGw the numbers of words stand along the pictures: they belong to the columns, so no [:, None]": {
        "divisor": "down"
    },
    "MrAVGw is divided by one word too many": {"divisor": "one more"},
    "MrAVGw is divided by the root of the number of words: divide by the number": {"divisor": "root"},
    "MrAVGw is divided by words times regions: by the real words alone": {"divisor": "pairs"},
    "MrAVGw is divided by the number of captions: by the real words of each": {"divisor": "captions"},
    "MrSw is divided by the number of words: that is MrAVGw": {"sum_is": "MrAVGw"},
    "MwSr gives the same as MrSw: it takes the maximum over words and adds over regions": {"mirror": "MrSw"},
    "MwSr gives MrSw, transposed: the alignments are to be exchanged before mrsw is called": {"mirror": "MrSw turned"},
    "MwSr comes as (captions, pictures): give it back as (N, M), with .T": {"mirror": "not back"},
    "for MwSr you exchanged the masks, but not the alignments: permute(1, 0, 3, 2)": {"mirror": "masks alone"},
    "for MwSr you exchanged the masks and transposed the result, but not the alignments: permute(1, 0, 3, 2)": {
        "mirror": "masks alone, back"
    },
    "for MwSr you exchanged regions and words alone: captions now play the pictures, so exchange the first two axes, "
    "too, permute(1, 0, 3, 2), and transpose the result": {"mirror": "last two"},
    "for MwSr you exchanged regions and words alone: exchange pictures and captions, too, permute(1, 0, 3, 2)": {
        "mirror": "last two, back"
    },
    "for MwSr you exchanged pictures and captions alone: exchange regions and words, too, permute(1, 0, 3, 2)": {
        "mirror": "first two"
    },
    "for MwSr the masks are to be exchanged, too: word_mask comes first (and permute(1, 0, 3, 2) moves all axes)": {
        "mirror": "masks as they are"
    },
    "for MwSr the masks are to be exchanged, too: mrsw(..., word_mask, region_mask)": {
        "mirror": "masks as they are, turned"
    },
    "for MwSr padding takes part: give mrsw word_mask and region_mask": {"mirror": "no masks"},
    "MwSr takes each region's worst word (a sign is turned before mrsw): the best is asked for": {"mirror": "worst"},
    "for MwSr all four axes are turned round: permute(1, 0, 3, 2) exchanges them in pairs": {"mirror": "reversed"},
    "MwSr is divided by the number of regions: it is a sum": {"mirror_divisor": "regions"},
    "MwSr is divided by the number of words: it is a sum over regions": {"mirror_divisor": "words"},
    "how is not used, so every name gives MrSw": {"names": ("MrSw",) * 4},
    **{
        f"every name gives {name}: compare how with the names as they are spelt, capitals and all": {
            "names": (name,) * 4
        }
        for name in NAMES[1:]
    },
    **{
        f"{told}: Mr is the maximum over regions, Sw the sum over words, AVGw the mean": {"names": names}
        for told, names in _exchanged()
    },
    "Symm is the mean of MrSw and MwSr: add the two": {"symm": "mean"},
    "Symm is MrSw alone: add MwSr": {"symm": "MrSw"},
    "Symm is MwSr alone: add MrSw": {"symm": "MwSr"},
    "Symm adds MrAVGw and MwSr: both parts are sums": {"symm": "MrAVGw"},
    "Symm adds two means: both parts are sums": {"symm": "both means"},
    "Symm is the larger of MrSw and MwSr: add the two": {"symm": "larger"},
    "Symm is the product of MrSw and MwSr: add the two": {"symm": "product"},
    "Symm is the difference of MrSw and MwSr: add the two": {"symm": "difference"},
    "Symm adds MrSw twice: add MrSw and MwSr": {"symm": "twice"},
    "Symm adds MwSr twice: add MrSw and MwSr": {"symm": "twice MwSr"},
    "padding takes part, so no mask is used: call mrsw, which has the masks": {
        "own": {"regions": "none", "words": "none"}
    },
    "padding takes part in the maximum: call mrsw, which leaves it out": {"own": {"regions": "none"}},
    "what padding found is added up: call mrsw, which leaves it out": {"own": {"words": "none"}},
    "padding became 0 before the maximum, and wins where all else is negative: call mrsw, which has the masks": {
        "own": {"fill": 0.0}
    },
    "minus infinity is left where padding stands, and is added up: call mrsw, which has the masks": {
        "own": {"left": -torch.inf}
    },
    "you added first and took the maximum then: the names are read from the left, Mr is a maximum": {
        "own": {"order": "sum first"}
    },
}


def _in_mwsr_alone(options: dict) -> Callable:
    """MwSr as it comes with these options; Symm, which was written for itself, is right."""
    return lambda how, **inputs: _pool(how=how, **inputs, **(options if how == "MwSr" else {}))


def library_poolings(
    alignments: Tensor, region_mask: Tensor, word_mask: Tensor, how: str, mrsw: Callable = library_mrsw
) -> Tensor:
    """By one function, called once or twice."""
    if how == "MwSr":
        return mrsw(alignments.permute(1, 0, 3, 2), word_mask, region_mask).T
    by_word = mrsw(alignments, region_mask, word_mask)
    if how == "MrAVGw":
        return by_word / word_mask.sum(dim=1)
    return by_word + library_poolings(alignments, region_mask, word_mask, "MwSr", mrsw) if how == "Symm" else by_word


def _steps(alignments: Tensor, region_mask: Tensor, word_mask: Tensor, how: str, mrsw: Callable) -> str:
    """How the score of picture 0 with caption 0 comes about."""
    real, parts = alignments[0, 0, region_mask[0]][:, word_mask[0]], []
    if how != "MwSr":
        parts.append(f"its {real.shape[1]} words find {float(real.amax(dim=0).sum()):.4g} in all")
    if how in ("MwSr", "Symm"):
        parts.append(f"its {real.shape[0]} regions find {float(real.amax(dim=1).sum()):.4g} in all")
    score = float(pool_specification(alignments, region_mask, word_mask, how, mrsw)[0, 0])
    return f"in [0, 0], {' and '.join(parts)}, so that {how} is {score:.4g}"


EXERCISE = Exercise(
    "poolings",
    library=library_poolings,
    example=Case(SMALL | {"how": "Symm"}, worked=torch.tensor([[2.9]])),
    cases=pool_cases,
    specification=pool_specification,
    steps=_steps,
    mistakes={
        f"{told} (Symm has it right)": _in_mwsr_alone(options)
        for told, options in TOGGLES.items()
        if options.keys() <= {"mirror", "mirror_divisor"}
    },
    family=(_pool, TOGGLES),
    gradients=("alignments",),
    rehearsal=Rehearsal(lambda: cosines_of_the_lesson() | {"how": "Symm", "mrsw": library_mrsw}, calls=2000),
)
