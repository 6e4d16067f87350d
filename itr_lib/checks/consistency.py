"""``consistency``, lesson 05.

The largest disagreement of two similarity matrices beyond a margin, beside loops; gradients too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import normal
from itr_lib.checks._mistakes import as_it_is, unit
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def consistency_cases() -> Iterator[Inputs]:
    """Cosines among pictures and among captions that agree more or less; a margin that nothing exceeds; one pair.

    Seeds are such that a partner on which i disagrees most beyond the margin disagrees most with i: then the gradient
    is symmetric, too, and a max over rows is as right as one over columns. Here and below the first case's seed is
    one for which every mistake gives a result of its own.
    """
    shapes = [(33, 5, 3, 0.6, 0.4), (2, 4, 4, 0.4, 0.05), (112, 6, 3, 1.0, 0.3), (5, 6, 3, 0.7, 0.6)]
    shapes += [(0, 3, 5, 0.1, 1.2), (0, 1, 4, 1.0, 0.2), (0, 2, 3, 2.0, 0.1)]
    for seed, batch, dim, noise, margin in shapes:
        images = normal(batch, dim, seed=seed)
        captions = unit(images + noise * normal(batch, dim, seed=1000 + seed))
        V, T = unit(images) @ unit(images).T, captions @ captions.T
        yield {"V": (V + V.T) / 2, "T": (T + T.T) / 2, "margin": margin}


def consistency_specification(V: Tensor, T: Tensor, margin: float) -> Tensor:
    """Pair by pair: the partner on which the two disagree most, and by how much beyond the margin."""
    total = 0 * V.sum()
    for j in range(len(V)):
        gaps = [T[i, j] - V[i, j] if T[i, j] > V[i, j] else V[i, j] - T[i, j] for i in range(len(V))]
        worst = max(gaps, key=lambda gap: float(gap.detach()))
        if float(worst.detach()) > margin:
            total = total + worst - margin
    return total


def _gap(V: Tensor, T: Tensor) -> Tensor:
    return (T - V).abs()


def _largest(gap: Tensor) -> Tensor:
    return gap.amax(0)


def _beyond(worst: Tensor, margin: float) -> Tensor:
    return (worst - margin).relu()


def consistency_by(gap=_gap, worst=_largest, cost=_beyond, total=torch.sum) -> Callable:
    """Variants of the loss."""
    return lambda V, T, margin: total(cost(worst(gap(V, T)), margin))


CONSISTENCY_MISTAKES = {
    "this is the mean over i: of each j only the i counts on which V and T disagree most, max": consistency_by(
        worst=lambda gap: gap.mean(0)
    ),
    "this is the sum over i: of each j only the i counts on which V and T disagree most, max": consistency_by(
        worst=lambda gap: gap.sum(0)
    ),
    "every disagreement beyond the margin counts: of each j only the largest, max over i": consistency_by(
        worst=as_it_is
    ),
    "one disagreement counts, the largest of all: each j has its own, max over i, and they are summed": consistency_by(
        worst=lambda gap: gap.amax()
    ),
    "only pairs with i before j are compared: every i counts for every j": consistency_by(
        worst=lambda gap: gap.triu(1).amax(0)
    ),
    "this is 0 whatever the matrices are: on the diagonal both are 1, and a min over i, or a max of each matrix "
    "before the difference, sees nothing else": consistency_by(worst=lambda gap: gap.amin(0)),
    "the absolute value is missing: this counts only where T is above V, |T - V| counts both": consistency_by(
        gap=lambda V, T: T - V
    ),
    "the absolute value is missing: this counts only where V is above T, |T - V| counts both": consistency_by(
        gap=lambda V, T: V - T
    ),
    "the difference is squared: |T - V|": consistency_by(gap=lambda V, T: (T - V) ** 2),
    "the absolute values are taken before the difference: |T - V|, not |T| - |V|": consistency_by(
        gap=lambda V, T: (T.abs() - V.abs()).abs()
    ),
    "the margin is missing: a disagreement up to it costs nothing": consistency_by(cost=lambda worst, margin: worst),
    "the margin is added: subtract it, a disagreement up to it costs nothing": consistency_by(
        cost=lambda worst, margin: (worst + margin).relu()
    ),
    "the hinge is turned round: the disagreement less the margin, not the margin less the disagreement": consistency_by(
        cost=lambda worst, margin: (margin - worst).relu()
    ),
    "what is below the margin counts as less than nothing: cut each j off at 0, [...]+ stands "
    "inside the sum": consistency_by(cost=lambda worst, margin: worst - margin),
    "the margin is subtracted once, from the sum: it stands inside the sum, once for each j": (
        lambda V, T, margin: (_gap(V, T).amax(0).sum() - margin).relu()
    ),
    "what is beyond the margin is squared: it counts as it is": consistency_by(
        cost=lambda worst, margin: (worst - margin).relu() ** 2
    ),
    "this is the mean over j: their sum is asked for": consistency_by(total=torch.mean),
    "this is the loss twice: both matrices are symmetric, so one direction says all": consistency_by(
        total=lambda costs: 2 * costs.sum()
    ),
}

EXERCISE = Exercise(
    "consistency", consistency_cases, consistency_specification, CONSISTENCY_MISTAKES, gradients=("V", "T")
)
