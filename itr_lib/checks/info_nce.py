"""``info-nce``, lesson 01.

Cross-entropy of both directions at a temperature, beside one logsumexp a query; gradients too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib import objectives
from itr_lib.checks._inputs import random_scores
from itr_lib.checks._mistakes import eye
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.triplet_hardest import masked, masked_cases, never, quarter_of_a_batch
from itr_lib.checks.triplet_loop import rounded


def info_nce_cases() -> Iterator[Case]:
    """The masked batches at several temperatures, and two so low that an unguarded exp overflows."""
    for temperature, case in zip([0.5, 0.1, 1.0, 0.5, 0.05, 0.2], masked_cases(), strict=True):
        yield Case({**case.inputs, "temperature": temperature}, case.trap)
    diagonal = torch.eye(4, dtype=torch.bool)
    yield Case(
        {"scores": random_scores(4, 99), "temperature": 0.003, "same_image": diagonal},
        "the temperature is as low as 0.003",
    )
    low = masked([0, 1, 2, 1, 3, 0], 98, 0.5, 1.8)
    yield Case(
        {**low, "temperature": 0.003},
        "the temperature is as low as 0.003, captions share a picture, and all scores are low",
    )


def info_nce_specification(scores: Tensor, temperature: float, same_image: Tensor) -> Tensor:
    """Cross-entropy of each query against its positive and its negatives; mean of both directions."""
    size = len(scores)
    total = scores.new_zeros(())
    for i in range(size):
        rows = [scores[i, j] for j in range(size) if j == i or not same_image[i, j]]
        columns = [scores[j, i] for j in range(size) if j == i or not same_image[j, i]]
        for candidates in (rows, columns):
            total = total + torch.logsumexp(torch.stack(candidates) / temperature, 0) - scores[i, i] / temperature
    return total / (2 * size)


def _nce(
    scores: Tensor, temperature: float, same_image: Tensor, mask="others", fill=-torch.inf, before=False, rows=1,
    columns=1, how="divided", by="safe", over="mean", sign=1, base=math.e, target="diagonal",
    shifted=False, cosines=False,
) -> Tensor:  # fmt: skip
    """The loss with all that a learner may change in it; ``before``: scores are filled, not logits."""
    factor = {
        "divided": 1 / temperature, "times": temperature, "none": 1.0, "twice": temperature**-2,
        "root": temperature**-0.5, "exp": math.exp(temperature), "exp less": math.exp(-temperature),
    }[how]  # fmt: skip
    scores = scores / scores.abs().max().clamp(min=1e-9) if cosines else scores
    parts = []
    for direction, (table, weight) in enumerate(((scores, rows), (scores.T, columns))):
        left_out = never(scores, same_image, mask, direction)
        logits = table.masked_fill(left_out, fill) * factor if before else (table * factor).masked_fill(left_out, fill)
        logits = logits - scores.amax(dim=1 + 0 * direction)[None, :] * factor if shifted and direction else logits
        log_share = _log_share(logits, by)
        if target == "diagonal":
            asked = log_share.diagonal()
            asked = asked.exp().mean().log() if over == "log of mean" else asked
        elif target in ("siblings", "kept", "all"):
            asked = {"siblings": log_share[same_image], "kept": log_share[~left_out], "all": log_share.mean(dim=1)}[
                target
            ]
        else:
            goal = _goal(scores, temperature, same_image, target)
            goal = goal if direction == 0 else goal.T
            asked = (goal * log_share.masked_fill(goal == 0, 0)).sum(dim=1)
        parts.append(weight * -sign * (asked.sum() if over in ("sum", "pairs") else asked.mean()) / math.log(base))
    total = sum(parts) / (1 if over == "added" else 2)
    return total / len(scores) ** 2 if over == "pairs" else total


def _log_share(logits: Tensor, by: str) -> Tensor:
    """Logs of the softmax over each row, or what comes of it by hand."""
    top, own = logits.amax(dim=1, keepdim=True), eye(logits)
    return {
        "safe": lambda: logits.log_softmax(dim=1),
        "exp": lambda: torch.log(logits.exp() / logits.exp().sum(dim=1, keepdim=True)),
        "eps": lambda: torch.log(logits.softmax(dim=1) + 1e-8),
        "eps 12": lambda: torch.log(logits.softmax(dim=1) + 1e-12),
        "share": lambda: logits.softmax(dim=1),
        "lost": lambda: logits - (logits - top).exp().sum(dim=1, keepdim=True).log(),
        "soft twice": lambda: logits.softmax(dim=1).log_softmax(dim=1),
        "others": lambda: logits - logits.masked_fill(own, -torch.inf).logsumexp(dim=1, keepdim=True),
        "none": lambda: logits,
        "one": lambda: logits - logits.logsumexp(dim=(0, 1)),
        "joint": lambda: logits - torch.cat([logits, logits.T], dim=1).logsumexp(dim=1, keepdim=True),
        "mean": lambda: logits - logits.logsumexp(dim=1, keepdim=True) + math.log(len(logits)),
    }[by]()  # fmt: skip


def _goal(scores: Tensor, temperature: float, same_image: Tensor, target: str) -> Tensor:
    if target == "similar":
        return ((scores + scores.T) / 2 * temperature).softmax(dim=-1)
    share = same_image.to(scores.dtype)
    return share / share.sum(dim=1, keepdim=True) if target == "spread" else share


def _steps(scores: Tensor, temperature: float, same_image: Tensor) -> str:
    """What each query of a case pays."""
    logits = (scores / temperature).masked_fill(same_image & ~eye(scores), -torch.inf)
    images, captions = (rounded(-logits.log_softmax(dim).diagonal()) for dim in (1, 0))
    return f"the images that ask cost {images}, the captions {captions}"


OVERFLOW = "at a low temperature exp overflows, or a share becomes 0 before its log: log_softmax and logsumexp are safe"
TOGGLES = {
    "the positives are masked, too: same_image is True on the diagonal, which must stay": {"mask": "same"},
    **{
        f"the positives are masked, too, with {fill}: same_image is True on the diagonal, which must stay": {
            "mask": "same", "fill": float(fill),
        }
        for fill in (-100, -1000, -10000)
    },
    OVERFLOW: {"by": "exp"},
    "a small number inside the log changes the loss at low temperatures: log_softmax needs none": {"by": "eps"},
    "a tiny number inside the log changes the loss at low temperatures: log_softmax needs none": {"by": "eps 12"},
    "the maximum that you subtracted before exp is not added back after the log": {"by": "lost"},
    "the softmax is taken twice: F.cross_entropy and log_softmax want logits, not probabilities": {"by": "soft twice"},
    "the log is missing: these are probabilities, the loss is minus their logs": {"by": "share"},
    "the positive is missing below the line: the sum goes over all captions, its own included": {"by": "others"},
    "nothing is normalised: subtract the logsumexp of the row from the positive's logit": {"by": "none"},
    "one softmax over the whole matrix: each query has its own": {"by": "one"},
    "the mean of the exponentials stands below the line: it is their sum": {"by": "mean"},
    "what is masked became a logit of 0, and e^0 = 1 still counts: fill with -torch.inf": {"fill": 0.0},
    "what is masked became a logit of -1, which still counts: fill with -torch.inf": {"fill": -1.0},
    "what is masked became a logit of -100: at a temperature of 0.003 real ones are lower; fill with -torch.inf": {
        "fill": -100.0,
    },
    "a masked score became -1 before the division, which still counts: fill with -torch.inf": {
        "fill": -1.0, "before": True,
    },
    "captions of the same picture stand below the line as negatives: leave them out of the sum": {"mask": "none"},
    "the columns are not masked: leave same_image out below the line when captions ask, too": {"mask": "other rows"},
    "the rows are not masked: leave same_image out below the line when images ask, too": {"mask": "other columns"},
    "the mask is turned round: what is left out are the other captions of the same picture": {"mask": "turned"},
    "only images ask here (softmax over each row): add the columns and take the mean": {"rows": 2, "columns": 0},
    "only captions ask here (softmax over each column): add the rows and take the mean": {"rows": 0, "columns": 2},
    "one direction is missing: add the other before you halve": {"columns": 0},
    "the rows are missing: add them before you halve": {"rows": 0},
    "scores are divided by the temperature, not multiplied": {"how": "times"},
    "the temperature is missing": {"how": "none"},
    "you divided by the temperature twice": {"how": "twice"},
    "you divided by the root of the temperature": {"how": "root"},
    "the two directions are added: take their mean": {"over": "added"},
    "this is a sum over queries: take the mean": {"over": "sum"},
    "this is divided by B x B: there are B queries a direction": {"over": "pairs"},
    "the sign is turned round: a loss is minus the log-probability": {"sign": -1},
    "this is the log of a mean probability: take the mean of the logs": {"over": "log of mean"},
    "the mean goes over all log-probabilities that are not masked: only the diagonal is asked for": {"target": "kept"},
    "the scores are divided by the largest of them first: they are cosines already, leave them": {"cosines": True},
    "the mean goes over all log-probabilities: only the diagonal is asked for": {"target": "all"},
    "the scores are multiplied by e to the temperature: divide by the temperature itself": {"how": "exp"},
    "the scores are divided by e to the temperature: divide by the temperature itself": {"how": "exp less"},
    "rows and columns share one sum below the line: each direction has its own": {"by": "joint"},
    "only the images' half is halved: the loss is the mean of both directions": {"columns": 2},
    "only the captions' half is halved: the loss is the mean of both directions": {"rows": 2},
    "the maximum of each row was subtracted for the columns, too, which changes them: log_softmax does it right": {
        "shifted": True,
    },
    "all captions of the picture are targets, and are masked: only the diagonal is a target": {"target": "every"},
    "this is log2: the natural logarithm is meant": {"base": 2},
    "this is log10: the natural logarithm is meant": {"base": 10},
    "these are targets made from similarities, the mistake of a much-copied CLIP tutorial: the pairs are known, "
    "the target is the diagonal": {"target": "similar", "mask": "none"},
    "the target is spread over all captions of the picture: only the diagonal is, the others are left out": {
        "target": "spread", "mask": "none",
    },
    "the mean goes over all pairs that same_image marks, as if all were targets: only the diagonal is, and the other "
    "captions of the picture are left out below the line": {"target": "siblings", "mask": "none"},
    "all captions of the picture are targets: only the diagonal is, the others are left out": {
        "target": "every", "mask": "none",
    },
}  # fmt: skip


def _pairwise(scores: Tensor, temperature: float, same_image: Tensor) -> Tensor:
    logits = scores / temperature
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, same_image.to(logits.dtype))


EXERCISE = Exercise(
    "info-nce",
    library=lambda scores, temperature, same_image: objectives.info_nce(
        scores, temperature=temperature, same_image=same_image
    ),
    example=Case(
        {"scores": torch.zeros(8, 8, dtype=torch.float64), "temperature": 1.0, "same_image": torch.eye(8).bool()},
        worked=2.0794,
    ),
    cases=info_nce_cases,
    specification=info_nce_specification,
    steps=_steps,
    mistakes={
        "this is a yes or no for each pair (a sigmoid): a softmax lets the candidates of each query compete": _pairwise,
    },
    family=(_nce, TOGGLES),
    gradients=("scores",),
    rehearsal=Rehearsal(lambda: {**quarter_of_a_batch(), "temperature": 0.05}, calls=4 * 160),
)
