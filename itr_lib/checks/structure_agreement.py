"""``structure-agreement``, lesson 05a.

How far two similarity matrices are apart, and whether they rank pairs alike, beside loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from itr_lib.checks._inputs import normal, sizes
from itr_lib.checks._mistakes import unit
from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs, same
from itr_lib.evaluation import structure_agreement


def library_agreement(V: Tensor, T: Tensor) -> Tensor:
    """The library's, which returns names."""
    told = structure_agreement(V, T)
    return torch.tensor([told["structure_gap"], told["structure_correlation"]], dtype=V.dtype, device=V.device)


def _cosines(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


EXAMPLE = Case(
    {
        "V": _cosines((1, 0.8, 0), (0.8, 1, 0.6), (0, 0.6, 1)),
        "T": _cosines((1, 0.6, -0.6), (0.6, 1, 0.28), (-0.6, 0.28, 1)),
    },
    worked=[0.5067, 0.9999],
)
SHAPES = [(5, 3, 0.6, ""), (7, 4, 2.0, ""), (4, 3, 0.2, ""), (9, 5, 5.0, "the two have little in common")]


def agreement_cases() -> Iterator[Case]:
    """Cosines that agree more or less; opposite ones; one side collapsed; both alike; three pairs."""
    for seed, (*shape, noise, trap) in enumerate(SHAPES):
        pairs, dim = sizes(*shape)
        pictures = normal(pairs, dim, seed=700 + seed)
        captions = unit(pictures + noise * normal(pairs, dim, seed=720 + seed))
        yield Case({"V": unit(pictures) @ unit(pictures).T, "T": captions @ captions.T}, trap)
    pictures = unit(normal(3, 4, seed=750))
    yield Case({"V": pictures @ pictures.T, "T": (pictures @ pictures.T) ** 3}, "there are three pairs")
    V = pictures @ pictures.T
    turned = 2 * torch.eye(3, dtype=torch.float64) - V
    yield Case({"V": V, "T": turned}, "what is alike on one side is not on the other")
    yield Case({"V": V, "T": torch.ones(3, 3, dtype=torch.float64)}, "one side has collapsed: no variance")
    yield Case({"V": torch.ones(4, 4, dtype=torch.float64), "T": torch.ones(4, 4, dtype=torch.float64)}, "all is alike")
    unlike = torch.eye(4, dtype=torch.float64)  # the mean of six times 0.7, or 0.4, is off in the last digit
    rounded = {name: alike + (1 - alike) * unlike for name, alike in (("V", 0.7), ("T", 0.4))}
    yield Case(rounded, "both sides have collapsed, and rounding leaves a tiny number of their lengths")


def agreement_specification(V: Tensor, T: Tensor) -> Tensor:
    """Of each pair its worst partner, and their mean; then Pearson's r over all pairs i < j."""
    v, t = V.tolist(), T.tolist()
    size = len(v)
    gap = sum(max(abs(t[i][j] - v[i][j]) for i in range(size)) for j in range(size)) / size
    pairs = [(v[i][j], t[i][j]) for i in range(size) for j in range(i + 1, size)]
    means = [sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
    together = sum((x - means[0]) * (y - means[1]) for x, y in pairs)
    spread = [sum((pair[k] - means[k]) ** 2 for pair in pairs) for k in (0, 1)]
    r = together / (spread[0] * spread[1]) ** 0.5 if min(spread) > 1e-12 else 0.0
    return torch.tensor([gap, r], dtype=V.dtype, device=V.device)


def _above(matrix: Tensor) -> Tensor:
    return matrix[torch.triu_indices(len(matrix), len(matrix), 1, device=matrix.device).unbind()]


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(), y - y.mean()
    length = x.norm() * y.norm()
    return (x * y).sum() / length if float(length) > 1e-9 else 0 * length


def _ranks(values: Tensor) -> Tensor:
    return values.argsort().argsort().to(values)


def _plain_cosine(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum() / (x.norm() * y.norm())


def _covariance(x: Tensor, y: Tensor) -> Tensor:
    return ((x - x.mean()) * (y - y.mean())).mean()


def _not_guarded(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum() / (x.norm() * y.norm())


def _zero_alone_guarded(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(), y - y.mean()
    length = x.norm() * y.norm()
    return (x * y).sum() / length if float(length) else 0 * length


def agreement_with(
    V, T, worst=lambda gap: gap.amax(0), mean=torch.mean, difference=lambda V, T: (T - V).abs(), of=_above,
    relation=_pearson, order=(0, 1),
) -> Tensor:  # fmt: skip
    """Both numbers, with options to spoil them."""
    both = mean(worst(difference(V, T))), relation(of(V), of(T))
    return torch.stack([both[place].to(V.dtype) for place in order])


def _about_one_mean(x: Tensor, y: Tensor, other: bool = False) -> Tensor:
    """Both measured from the mean of the first, or of the second."""
    middle = (y if other else x).mean()
    x, y = x - middle, y - middle
    length = x.norm() * y.norm()
    return (x * y).sum() / length if float(length) > 1e-9 else 0 * length


def _means_exchanged(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - y.mean(), y - x.mean()
    length = x.norm() * y.norm()
    return (x * y).sum() / length if float(length) > 1e-9 else 0 * length


def _by_rows(V: Tensor, T: Tensor) -> Tensor:
    return torch.stack([_pearson(v, t) for v, t in zip(V, T, strict=True)]).mean()


def _held_down(size: float) -> Callable:
    """A number added to the denominator."""

    def relation(x: Tensor, y: Tensor) -> Tensor:
        x, y = x - x.mean(), y - y.mean()
        return (x * y).sum() / (x.norm() * y.norm() + size)

    return relation


TOGGLES: dict[str, dict[str, object]] = {
    "0.3 is taken off each disagreement: there is no margin here": {
        "difference": lambda V, T: ((T - V).abs() - 0.3).relu()
    },
    "correlation is the mean of the rows' correlations: one r over all pairs i < j": {
        "of": lambda matrix: matrix,
        "relation": _by_rows,
    },
    "correlation measures both from the mean of V: T has a mean of its own": {"relation": _about_one_mean},
    "correlation measures both from the mean of T: V has a mean of its own": {
        "relation": lambda x, y: _about_one_mean(x, y, other=True)
    },
    "correlation subtracts each other's mean: V has its own mean, and T its own": {"relation": _means_exchanged},
    "0.1 is added to the denominator, and makes the correlation smaller: 1e-9 keeps from dividing by 0": {
        "relation": _held_down(0.1)
    },
    "0.01 is added to the denominator, and makes the correlation smaller: 1e-9 keeps from dividing by 0": {
        "relation": _held_down(0.01)
    },
    "0.001 is added to the denominator, and makes the correlation smaller: 1e-9 keeps from dividing by 0": {
        "relation": _held_down(0.001)
    },
    "gap is the mean over all i and j: of each j only the i counts on which V and T disagree most, max": {
        "worst": lambda gap: gap.flatten()
    },
    "gap is the mean over the pairs i < j: of each j only the i counts on which V and T disagree most, max": {
        "worst": _above
    },
    "gap is the largest disagreement of all: each j has its own, and their mean is asked for": {"mean": torch.amax},
    "gap is the sum over j: their mean is asked for": {"mean": torch.sum},
    "gap is the median over j: their mean is asked for": {"mean": torch.median},
    "gap is the smallest disagreement, and that is 0, with itself: take the largest, max": {
        "worst": lambda gap: gap.amin(0)
    },
    "gap compares only i < j: every i counts for every j": {"worst": lambda gap: gap.triu(1).amax(0)},
    "gap is squared: |T - V|": {"difference": lambda V, T: (T - V) ** 2},
    "the absolute value is missing in gap: |T - V|, not T - V": {"difference": lambda V, T: T - V},
    "the absolute value is missing in gap: |T - V|, not V - T": {"difference": lambda V, T: V - T},
    "the absolute values in gap are taken before the difference: |T - V|": {
        "difference": lambda V, T: (T.abs() - V.abs()).abs()
    },
    "correlation counts the diagonal, where both are 1: take the pairs i < j alone": {"of": torch.flatten},
    "correlation counts the diagonal, where both are 1: take i < j, triu(1), not i <= j": {
        "of": lambda matrix: matrix[torch.triu_indices(len(matrix), len(matrix), 0, device=matrix.device).unbind()]
    },
    "correlation counts zeros below the diagonal: take the numbers with i < j alone": {
        "of": lambda matrix: matrix.triu(1).flatten()
    },
    "correlation looks at the first row alone: all pairs i < j": {"of": lambda matrix: matrix[0, 1:]},
    "the means are not subtracted: that is a cosine; correlation measures from the mean": {"relation": _plain_cosine},
    "this is the covariance: divide by both standard deviations": {"relation": _covariance},
    "this is the rank correlation: Pearson's r takes the numbers themselves": {
        "relation": lambda x, y: _pearson(_ranks(x), _ranks(y))
    },
    "the correlation is squared: r itself": {"relation": lambda x, y: _pearson(x, y) ** 2},
    "the correlation has lost its sign: r itself": {"relation": lambda x, y: _pearson(x, y).abs()},
    "0 / 0: where one side has no variance, the correlation is 0": {"relation": _not_guarded},
    "rounding makes a length of 0 a tiny number, which == 0 does not see: compare with a small number such as 1e-6": {
        "relation": _zero_alone_guarded
    },
    "the two are exchanged: gap first, then correlation": {"order": (1, 0)},
    "this is the gap alone: return both, gap and correlation": {"order": (0,)},
    "this is the correlation alone: return both, gap and correlation": {"order": (1,)},
}


def _divided_by_the_pairs_less_one(V: Tensor, T: Tensor, above: bool = True) -> Tensor:
    """A covariance of the sample over standard deviations of the population, or the other way round."""
    gap, r = agreement_with(V, T)
    pairs = len(_above(V))
    return torch.stack([gap, r * pairs / (pairs - 1) if above else r * (pairs - 1) / pairs])


def one_part(inputs: Inputs, result: Any, expected: Tensor) -> str | None:
    """Which of the two numbers is right, where the other is not."""
    if not isinstance(result, Tensor) or result.shape != expected.shape:
        return None
    right = [same(mine, wanted) for mine, wanted in zip(result, expected, strict=True)]
    if right == [True, False]:
        return (
            "gap is right, the correlation is not: take the numbers with i < j, subtract from those of V and of T each "
            "side's own mean, and divide the sum of products by the product of the two lengths"
        )
    if right == [False, True]:
        return "the correlation is right, gap is not: of |T - V| the largest of each column, and the mean of these"
    return None


AGREEMENT_MISTAKES: dict[str, Callable] = {
    "correlation divides by n - 1 above and by n below: std() of torch divides by n - 1; take the same for both": (
        _divided_by_the_pairs_less_one
    ),
    "correlation divides by n above and by n - 1 below: std() of torch divides by n - 1; take the same for both": (
        lambda V, T: _divided_by_the_pairs_less_one(V, T, above=False)
    ),
}

EXERCISE = Exercise(
    "structure-agreement",
    library=library_agreement,
    example=EXAMPLE,
    cases=agreement_cases,
    specification=agreement_specification,
    mistakes=AGREEMENT_MISTAKES,
    family=(agreement_with, TOGGLES),
    explain=one_part,
)
