"""``unified-weights``, lesson 04.

The weights with which negatives push in the unified loss, beside exponentials row by row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks._inputs import generator
from itr_lib.checks._mistakes import eye
from itr_lib.checks._uto import filled, overflow_explained
from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.checks.unified_loss import SMALL, batch_of


def _given(ids: tuple[int, ...], mu: float, gamma: float, seed: int) -> Inputs:
    inputs = batch_of(ids, mu, gamma, 0.0, seed)
    del inputs["floor"]
    return inputs


def weights_cases() -> Iterator[Case]:
    """Captions that share an image, one pair, all negatives far below gamma, and exponents that overflow."""
    yield Case(_given((0, 1, 2, 3), 8.0, 0.2, seed=0))
    yield Case(_given((3, 3, 1, 1, 2, 5), 5.0, -0.1, seed=3), trap="two captions share a picture")
    yield Case(_given((2,), 90.0, 0.5, seed=4), trap="the batch has one pair")
    low = _given((0, 1, 2), 90.0, 0.5, seed=1)
    yield Case(low | {"scores": low["scores"] / 4 - 0.7}, trap="every negative is far below gamma")
    near_one = 1 - torch.randint(0, 8, (4, 4), generator=generator(9)).double() / 128
    large = {"scores": near_one, "mu": 128.0, "gamma": 0.0, "same_image": torch.eye(4, dtype=torch.bool)}
    yield Case(large, trap="mu (S - gamma) is above 88, and its exp overflows")


def weights_specification(scores: Tensor, mu: float, gamma: float, same_image: Tensor) -> Tensor:
    """Row by row: each exponential over 1 plus the sum of all, as differences to the largest exponent."""
    result = torch.zeros_like(scores)
    for i in range(len(scores)):
        exponents = {j: mu * (float(scores[i, j]) - gamma) for j in range(len(scores)) if not bool(same_image[i, j])}
        top = max([0.0, *exponents.values()])
        total = math.exp(-top) + sum(math.exp(x - top) for x in exponents.values())
        for j, x in exponents.items():
            result[i, j] = math.exp(x - top) / total
    return result


def uto_weights(scores: Tensor, mu: float, gamma: float, same_image: Tensor) -> Tensor:
    """The push on each negative of a row, as the notebook goes on with it."""
    exponents = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf)
    return F.pad(exponents, (1, 0)).softmax(dim=1)[:, 1:]


def spoiled(
    scores, mu, gamma, same_image, *, mask="", fill=-torch.inf, form="", one=1.0, guard="", over="rows",
    late=False, cut="", scale="",
):  # fmt: skip
    """The weights with one or two of their steps spoiled."""
    given = {
        "mask": mask,
        "fill": fill,
        "form": form,
        "one": one,
        "guard": guard,
        "late": late,
        "cut": cut,
        "scale": scale,
    }
    if over in ("columns", "both"):
        columns = spoiled(scores.T, mu, gamma, same_image.T, **given).T
        return columns if over == "columns" else columns + spoiled(scores, mu, gamma, same_image, **given)
    diagonal, nothing = eye(scores), torch.zeros_like(same_image)
    by_mask = {"": same_image, "eye": diagonal, "same but diagonal": same_image & ~diagonal, "none": nothing}
    by_mask |= {"turned": ~same_image, "upper": same_image | nothing.logical_not().tril()}
    unfilled = late is True or guard in ("naive times", "across")
    no_negative = nothing if unfilled else diagonal if late else by_mask[mask]
    exponents = filled(scores, mu, gamma, form, no_negative, fill)
    result = _shares(exponents, ~by_mask[mask], one, guard, over)
    result = result.masked_fill(by_mask[mask], 0) if late else result
    result = {"": result, "log": result.log(), "rest": 1 - result}[cut]
    return {
        "": result, "times mu": mu * result, "over mu": result / mu, "over B": result / len(scores), "minus": -result,
        "percent": 100 * result,
    }[scale]  # fmt: skip


def _shares(exponents: Tensor, left: Tensor, one: float, guard: str, over: str) -> Tensor:
    """e^x over 1 plus their sum."""
    grown, top = exponents.exp(), exponents.amax(1, keepdim=True).clamp(min=-1e30)
    grown = grown * left if guard in ("naive times", "across") else grown
    whole = torch.cat([exponents.new_zeros(1), exponents.flatten()]).softmax(0)[1:]
    beside = exponents.new_full((len(exponents), 1), math.log(one) if one else -torch.inf)
    safe = torch.cat([beside, exponents], dim=1).softmax(1)
    below = {"whole": grown.sum(), "rows": grown.sum(1, keepdim=True)}[over]
    return {
        "naive": grown / (one + below),
        "naive times": grown / (one + below),
        "across": grown / (one + grown.sum(1)),
        "across, safe": (exponents - torch.cat([beside, exponents], dim=1).logsumexp(1)).exp(),
        "without, nan": exponents.softmax(1).nan_to_num(),
        "down": torch.cat([beside.T, exponents]).softmax(0)[1:],
        "the 1 stays": (exponents - top).exp() / (one + (exponents - top).exp().sum(1, keepdim=True)),
        "alone": exponents.sigmoid(),
        "numerator": grown,
        "last": safe[:, :-1],
        "shifted": torch.cat([exponents, beside], dim=1).softmax(1)[:, 1:],
    }.get(guard, whole.view(exponents.shape) if over == "whole" else safe[:, 1:])


WEIGHTS_TOGGLES = {
    "exp overflows and infinity over infinity is NaN: put a 0 beside the exponents, then softmax": {"guard": "naive"},
    "exp overflows, and infinity times 0 or over infinity is NaN: put a 0 beside the exponents, then softmax": {
        "guard": "naive times"
    },
    "each number is divided by the sum of another row: keep the axis, sum(1, keepdim=True)": {"guard": "across"},
    "each number is divided by the sum of another row: keep the axis, logsumexp(1, keepdim=True)": {
        "guard": "across, safe"
    },
    "the 1 is missing below the line, and NaN became 0: these weights sum to 1, however far below gamma all negatives "
    "are; put a 0 beside the exponents": {"guard": "without, nan"},
    "the 1 is put behind the exponents and the first column cut off: put it in front, or cut off the last": {
        "guard": "shifted"
    },
    "the 1 became e: the number beside the exponents is 0, since e^0 = 1": {"one": math.e},
    "captions of the same image have no weight, but still count below the line: fill before you sum": {
        "late": "same image"
    },
    "this is what is left, 1 minus the weight": {"cut": "rest"},
    "the largest exponent was taken out of the sum, but not of the 1: the 1 becomes e^(-largest)": {
        "guard": "the 1 stays"
    },
    "the 1 is missing below the line: these weights sum to 1, however far below gamma all negatives are": {"one": 0.0},
    "the 1 is missing below the line, and -1e9 gives a row of positives weights: put a 0 beside the exponents": {
        "one": 0.0,
        "fill": -1e9,
    },
    "the 1 stands below the line twice: a 0 beside the exponents is the 1": {"one": 2.0},
    "each negative is weighed alone, against the 1: below the line stands the sum over all of the row": {
        "guard": "alone"
    },
    "these are the exponentials: divide them by 1 plus their sum along the row": {"guard": "numerator"},
    "nothing is left out: what same_image marks has weight 0, the diagonal included": {"mask": "none"},
    "the positive gets a weight: leave out the diagonal too (same_image is True there)": {"mask": "same but diagonal"},
    "captions of the same image get a weight: leave out every pair that same_image marks": {"mask": "eye"},
    "the mask is turned round: masked_fill fills where it is True, so give it same_image": {"mask": "turned"},
    "only negatives with j above i are counted: every j but i's own counts": {"mask": "upper"},
    "what is no negative became an exponent of 0, and e^0 = 1 has a weight: fill with -torch.inf": {"fill": 0.0},
    "what is no negative became a score of 0, and e^(-mu gamma) has a weight: fill the exponents with -torch.inf": {
        "fill": "score 0"
    },
    "what is no negative became a score of -1, and still has a weight: fill the exponents with -torch.inf": {
        "fill": "score -1"
    },
    "what is no negative became an exponent of -1, and has a weight: fill with -torch.inf": {"fill": -1.0},
    "what is no negative became an exponent of -10, and still has a weight: fill with -torch.inf": {"fill": -10.0},
    "what is no negative still counts below the line: fill before you sum": {"late": True},
    "these are the weights along the columns, where captions ask: each row sums over its own j": {"over": "columns"},
    "both directions added: only the rows are asked for": {"over": "both"},
    "one sum for the whole matrix: each row has its own (dim=1)": {"over": "whole"},
    "gamma is missing: it decides how the exponents compare with the 1": {"form": "no gamma"},
    "gamma is added: the exponent is mu (S - gamma)": {"form": "plus gamma"},
    "gamma stands outside mu: the exponent is mu (S - gamma)": {"form": "gamma outside"},
    "the scores are divided by mu: multiply them": {"form": "divided"},
    "the sign in the exponent is turned: it is mu (S - gamma)": {"form": "turned"},
    "mu is missing in the exponent: it is mu (S - gamma)": {"form": "no mu"},
    "mu times too much: 1/mu in the loss takes back the mu of the exponent": {"scale": "times mu"},
    "divided by mu: 1/mu in the loss only takes back the mu of the exponent": {"scale": "over mu"},
    "divided by B: the mean over the queries is left out here": {"scale": "over B"},
    "the sign is turned: how hard a negative is pushed is asked for, a number from 0 to 1": {"scale": "minus"},
    "these are percent: shares from 0 to 1 are asked for": {"scale": "percent"},
    "the wrong column is cut off: the first one is the 1 (gamma), so keep [:, 1:]": {"guard": "last"},
    "these are logarithms: softmax, not log_softmax": {"cut": "log"},
}


EXERCISE = Exercise(
    "unified-weights",
    library=uto_weights,
    example=Case({"scores": SMALL, "mu": 10.0, "gamma": 0.5, "same_image": torch.eye(3, dtype=torch.bool)}),
    cases=weights_cases,
    specification=weights_specification,
    family=(spoiled, WEIGHTS_TOGGLES),
    explain=overflow_explained,
)
