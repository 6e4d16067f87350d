"""``corrected-recall``, lesson 06.

What R@1 would be if misses that fit were hits, with Wilson's interval, beside a search for its ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import sizes
from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs, double, is_array
from itr_lib.evaluation import corrected_recall

Z = 1.96


def _case(recall: float, hits: int, total: int, trap: str = "") -> Case:
    """Judgements in an order of their own."""
    fits = torch.arange(total) * 7 % max(total, 1) < hits if total % 7 else torch.arange(total) < hits
    return Case({"recall": recall, "fits": fits}, trap)


def corrected_cases() -> Iterator[Case]:
    """Few and many judgements, all and none of them fitting, a recall at both ends."""
    for recall, hits, total in [(21.5, 6, 20), (48.0, 11, 20), (15.4, 2, 33), (63.5, 40, 50), (33.0, 150, 400)]:
        yield _case(recall, hits, *sizes(total))
    yield _case(30.0, 0, 20, "no miss fits")
    yield _case(30.0, 20, 20, "every miss fits")
    yield _case(40.0, 1, 1, "one miss is judged, and fits")
    yield _case(40.0, 0, 1, "one miss is judged, and does not fit")
    yield _case(0.0, 3, 10, "R@1 is 0")
    yield _case(100.0, 3, 10, "R@1 is 100, so nothing is left to correct")


def corrected_specification(recall: float, fits: Tensor) -> Tensor:
    """The ends are those shares p that lie just z of their own standard errors from the share that was seen."""
    n, share = len(fits), sum(fits.tolist()) / len(fits)

    def too_far(p: float) -> bool:
        return abs(share - p) > Z * math.sqrt(p * (1 - p) / n)

    ends = []
    for bound in (0.0, 1.0):
        outside, inside = bound, share
        for _ in range(60 if too_far(bound) else 0):
            middle = (outside + inside) / 2
            outside, inside = (middle, inside) if too_far(middle) else (outside, middle)
        ends.append(outside)
    return torch.tensor([recall + (100 - recall) * p for p in (ends[0], share, ends[1])], dtype=torch.float64)


def _wilson(h: int, n: int, z: float = Z, squared: bool = True, quarter: float = 4.0) -> tuple[float, float]:
    z2 = z**2 if squared else z
    centre, spread = (h + z2 / 2) / (n + z2), h * (n - h) / n + z2 / quarter
    half = z / (n + z2) * math.sqrt(spread)
    return centre - half, centre + half


def _normal(h: int, n: int, over: Callable = lambda n: n, z: float = Z) -> tuple[float, float]:
    """Share ± z standard errors."""
    p = h / n
    half = z * math.sqrt(p * (1 - p) / over(n)) if over(n) else math.nan
    return p - half, p + half


def _cut(ends: tuple[float, float]) -> tuple[float, float]:
    return max(0.0, ends[0]), min(1.0, ends[1])


def _without_root(h: int, n: int) -> tuple[float, float]:
    z2 = Z**2
    centre, half = (h + z2 / 2) / (n + z2), Z / (n + z2) * (h * (n - h) / n + z2 / 4)
    return centre - half, centre + half


def _over_n(h: int, n: int) -> tuple[float, float]:
    """Wilson's numerators over n."""
    z2 = Z**2
    half = Z / n * math.sqrt(h * (n - h) / n + z2 / 4)
    return (h + z2 / 2) / n - half, (h + z2 / 2) / n + half


def _around_the_share(h: int, n: int) -> tuple[float, float]:
    low, high = _wilson(h, n)
    return h / n - (high - low) / 2, h / n + (high - low) / 2


def _no_quarter(h: int, n: int) -> tuple[float, float]:
    return _wilson(h, n, quarter=math.inf)


def _variance_of_share(h: int, n: int) -> tuple[float, float]:
    """p (1 - p) where h (n - h) / n belongs, which is n times as much."""
    z2 = Z**2
    half = Z / (n + z2) * math.sqrt(h / n * (1 - h / n) + z2 / 4)
    return (h + z2 / 2) / (n + z2) - half, (h + z2 / 2) / (n + z2) + half


def _centre(h: int, n: int) -> float:
    return (h + Z**2 / 2) / (n + Z**2)


def corrected(
    recall, fits, ends=_wilson, share=lambda h, n: h / n, scale=lambda recall, p: recall + (100 - recall) * p,
    count=lambda fits: int(fits.sum()), order=(0, 1, 2),
) -> Tensor:  # fmt: skip
    """The three numbers, with options to spoil them; every one is a mistake of the family below."""
    h, n = count(fits), len(fits)
    low, high = ends(h, n)
    three = [scale(recall, p) for p in (low, share(h, n), high)]
    return torch.tensor([three[i] for i in order], dtype=torch.float64)


FAMILY: dict[str, dict] = {
    "these are share ± 1.96 standard errors, the normal interval: it has no width where all or none fit, and leaves 0 "
    "to 1; take Wilson's": {"ends": _normal},
    "these are share ± 1.96 standard errors, cut at 0 and 1: that does not mend the normal interval, take Wilson's": {
        "ends": lambda h, n: _cut(_normal(h, n))
    },
    "these are share ± 1.96 standard errors over n - 1: take Wilson's interval": {
        "ends": lambda h, n: _normal(h, n, lambda n: n - 1)
    },
    "z is 1 here, which is 68 %: for 95 % it is 1.96": {"ends": lambda h, n: _wilson(h, n, 1.0)},
    "z is 1.645 here, which is 90 %: for 95 % it is 1.96": {"ends": lambda h, n: _wilson(h, n, 1.645)},
    "z is 2.576 here, which is 99 %: for 95 % it is 1.96": {"ends": lambda h, n: _wilson(h, n, 2.576)},
    "z is 2 here: take 1.96": {"ends": lambda h, n: _wilson(h, n, 2.0)},
    "z stands where z² belongs": {"ends": lambda h, n: _wilson(h, n, squared=False)},
    "z² / 4 under the root is missing: then nothing is left of the width where all or none fit": {"ends": _no_quarter},
    "under the root stands z² / 2: it is z² / 4": {"ends": lambda h, n: _wilson(h, n, quarter=2.0)},
    "under the root stands z²: it is z² / 4": {"ends": lambda h, n: _wilson(h, n, quarter=1.0)},
    "the square root is missing": {"ends": _without_root},
    "centre and half width are divided by n: divide by n + z²": {"ends": _over_n},
    "Wilson's half width is laid around the share itself: it belongs around the centre (h + z² / 2) / (n + z²)": {
        "ends": _around_the_share
    },
    "under the root stands p (1 - p): with h = n p it is h (n - h) / n, which is n times as much": {
        "ends": _variance_of_share
    },
    "the value in the middle is the centre of the interval: it is the share of those judged, h / n": {"share": _centre},
    "the share is taken of n - 1: divide the hits by n, the number of judgements": {
        "share": lambda h, n: h / (n - 1) if n > 1 else math.nan
    },
    "the share is laid on all queries: only the misses can gain, recall + (100 - recall) * share": {
        "scale": lambda recall, p: recall + 100 * p
    },
    "the share of all queries stands here: only the misses can gain, recall + (100 - recall) * share": {
        "scale": lambda recall, p: recall + recall * p
    },
    "this is what is gained alone: add the recall that is there already": {
        "scale": lambda recall, p: (100 - recall) * p
    },
    "these are the shares of the judged misses in percent: lay them on the misses, recall + (100 - recall) * share": {
        "scale": lambda recall, p: 100 * p
    },
    "these are the shares of the judged misses: lay them on the misses, recall + (100 - recall) * share": {
        "scale": lambda recall, p: p
    },
    "recall is in percent, and what is missing to 100 is 100 - recall, not 1 - recall": {
        "scale": lambda recall, p: recall + (1 - recall) * p
    },
    "the share is added to a number in percent: recall + (100 - recall) * share": {
        "scale": lambda recall, p: recall + p
    },
    "this is a fraction: give percent, 0 to 100": {"scale": lambda recall, p: (recall + (100 - recall) * p) / 100},
    "the misses that do not fit are counted: those that fit (True) are hits": {
        "count": lambda fits: int((~fits).sum())
    },
    "the order is another one: lowest, value, highest": {"order": (1, 0, 2)},
    "lowest and highest are exchanged": {"order": (2, 1, 0)},
    "the value comes last: lowest, value, highest": {"order": (0, 2, 1)},
}


def _mixed(recall: float, fits: Tensor) -> Tensor:
    """Of all queries: what was found before among those judged."""
    return corrected(recall, fits, scale=lambda recall, p: (recall + 100 * p) / 2)


def _value_alone(recall: float, fits: Tensor) -> Tensor:
    return corrected(recall, fits)[1]


def _ends_alone(recall: float, fits: Tensor) -> Tensor:
    return corrected(recall, fits)[[0, 2]]


def _half_width(recall: float, fits: Tensor) -> Tensor:
    low, value, high = corrected(recall, fits).tolist()
    return torch.tensor([value, (high - low) / 2], dtype=torch.float64)


MISTAKES: dict[str, Callable] = {
    "recall and share are averaged: the share is that of the misses alone, recall + (100 - recall) * share": _mixed,
    "this is the value alone: give lowest, value and highest": _value_alone,
    "these are the two ends alone: give lowest, value and highest": _ends_alone,
    "this is a value and half a width: give lowest, value and highest": _half_width,
}


def _explain(inputs: Inputs, result: object, expected: Tensor) -> str | None:
    """Which of the three numbers is right."""
    if not is_array(result) or double(result).shape != expected.shape:
        return None
    right = ((double(result) - expected).abs() < 1e-2).tolist()
    if right[1] and not right[0] and not right[2]:
        return "the value in the middle is right, both ends are not: go through Wilson's formula term by term"
    if right[0] and right[2] and not right[1]:
        return "both ends are right, the value in the middle is not: recall + (100 - recall) * h / n"
    if right[1]:
        return f"value and {'lowest' if right[0] else 'highest'} are right, the other end is not: centre ± half width"
    return None


def _by_hand(recall: float, fits: Tensor) -> str:
    h, n = int(fits.sum()), len(fits)
    low, high = _wilson(h, n)
    return (
        f"{h} of {n} fit, so the share is {h / n:.4g}, Wilson's interval {low:.4g} to {high:.4g}, and "
        f"{100 - recall:g} % are misses"
    )


EXERCISE = Exercise(
    "corrected-recall",
    library=lambda recall, fits: corrected_recall(recall, fits),
    example=Case({"recall": 20.0, "fits": torch.tensor([True, False, False, False])}, worked=[23.6469, 40, 75.9491]),
    cases=corrected_cases,
    specification=corrected_specification,
    mistakes=MISTAKES,
    family=(corrected, FAMILY),
    explain=_explain,
    steps=_by_hand,
)
