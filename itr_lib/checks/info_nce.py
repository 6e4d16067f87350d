"""``info-nce``, lesson 01.

Cross-entropy of both directions at a temperature, beside one logsumexp a query; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import random_scores
from itr_lib.checks._mistakes import eye
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.checks.triplet_hardest import masked_cases


def info_nce_cases() -> Iterator[Inputs]:
    """The masked batches at several temperatures; one so low that an unguarded exp overflows in float32."""
    for temperature, case in zip([0.1, 1.0, 0.5, 0.05, 0.2], masked_cases(), strict=True):
        yield {"scores": case["scores"], "temperature": temperature, "same_image": case["same_image"]}
    yield {"scores": random_scores(4, 99), "temperature": 0.005, "same_image": torch.eye(4, dtype=torch.bool)}


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


def _nce(scores, temperature, same_image, mask=True, rows=True, columns=True, times=False, total=False):
    logits = scores * temperature if times else scores / temperature
    if mask:
        logits = logits.masked_fill(same_image & ~eye(scores), -torch.inf)
    parts = [-logits.log_softmax(dim).diagonal() for dim, wanted in ((1, rows), (0, columns)) if wanted]
    loss = sum(part.sum() if total else part.mean() for part in parts)
    return loss / len(parts)


def _soft_targets(scores, temperature, same_image):
    logits = scores / temperature
    target = same_image.to(scores.dtype)
    target = target / target.sum(1, keepdim=True)
    return -((target * logits.log_softmax(1)).sum(1).mean() + (target.T * logits.log_softmax(0)).sum(0).mean()) / 2


def _targets_from_scores(scores, temperature, same_image):
    logits = scores / temperature
    target = ((scores + scores.T) / 2 * temperature).softmax(dim=-1)
    return -((target * logits.log_softmax(1)).sum(1).mean() + (target.T * logits.T.log_softmax(1)).sum(1).mean()) / 2


def _unguarded(scores, temperature, same_image):
    grown = torch.exp(scores / temperature).masked_fill(same_image & ~eye(scores), 0)
    share = torch.log(grown.diagonal() / grown.sum(1)) + torch.log(grown.diagonal() / grown.sum(0))
    return -share.mean() / 2


def _filled(scores, temperature, same_image, mask, value):
    logits = (scores / temperature).masked_fill(mask, value)
    return -(logits.log_softmax(1).diagonal().mean() + logits.log_softmax(0).diagonal().mean()) / 2


INFO_NCE_MISTAKES = {
    "the positives are masked, too: same_image is True on the diagonal, which must stay": (
        lambda scores, temperature, same_image: _filled(scores, temperature, same_image, same_image, -torch.inf)
    ),
    "exp overflows (or its sum becomes 0) at a low temperature: log_softmax and logsumexp are safe": _unguarded,
    "what is masked became a logit of 0, and e^0 = 1 still counts: fill with -torch.inf": (
        lambda scores, temperature, same_image: _filled(scores, temperature, same_image, same_image & ~eye(scores), 0.0)
    ),
    "captions of the same picture stand below the line as negatives: leave them out of the sum": (
        lambda scores, temperature, same_image: _nce(scores, temperature, same_image, mask=False)
    ),
    "only images ask here (softmax over each row): add the columns and take the mean": (
        lambda scores, temperature, same_image: _nce(scores, temperature, same_image, columns=False)
    ),
    "only captions ask here (softmax over each column): add the rows and take the mean": (
        lambda scores, temperature, same_image: _nce(scores, temperature, same_image, rows=False)
    ),
    "scores are divided by the temperature, not multiplied": lambda scores, temperature, same_image: _nce(
        scores, temperature, same_image, times=True
    ),
    "the two directions are added: take their mean": lambda scores, temperature, same_image: (
        2 * _nce(scores, temperature, same_image)
    ),
    "this is a sum over queries: take the mean": lambda scores, temperature, same_image: _nce(
        scores, temperature, same_image, total=True
    ),
    "the temperature is missing": lambda scores, temperature, same_image: _nce(scores, 1.0, same_image),
    "the sign is turned round: a loss is minus the log-probability": lambda scores, temperature, same_image: (
        -_nce(scores, temperature, same_image)
    ),
    "these are targets made from similarities, the mistake of a much-copied CLIP tutorial: the pairs are known, "
    "the target is the diagonal": _targets_from_scores,
    "the target is spread over all captions of the picture: only the diagonal is, the others are left out": (
        _soft_targets
    ),
}

EXERCISE = Exercise("info-nce", info_nce_cases, info_nce_specification, INFO_NCE_MISTAKES, gradients=("scores",))
