"""Scores to a loss.

Throughout, ``scores`` is the B x B matrix of one batch of pairs: row i is image i, column j is caption j, and
the diagonal holds the positives. ``same_image`` marks further matches: entry (i, j) is True where caption j
belongs to the picture of row i too, so that it must never be pushed away as a negative.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from itr_lib.validation import expect_choice, expect_mask, expect_positive, expect_square_scores


def matches(
    scores: Float[Tensor, "batch batch"], same_image: Bool[Tensor, "batch batch"] | None
) -> Bool[Tensor, "batch batch"]:
    """True where a pair is no negative: the diagonal, and what ``same_image`` adds to it."""
    diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    if same_image is None:
        return diagonal
    expect_mask("same_image", same_image, tuple(scores.shape), "as scores")
    return diagonal | same_image


def triplet_loss(
    scores: Float[Tensor, "batch batch"],
    margin: float = 0.2,
    negatives: str = "hardest",
    same_image: Bool[Tensor, "batch batch"] | None = None,
) -> Float[Tensor, ""]:
    """Hinge loss over in-batch negatives in both directions, summed over the queries.

    ``"all"``: every negative closer than ``margin`` to its positive costs the shortfall (Kiros et al. 2014).
    ``"hardest"``: only the worst negative of each query does (VSE++, Faghri et al., BMVC 2018, eq. 6).

    Args:
        scores: (B, B), row = image, column = caption, diagonal = positives.
        margin: by how much a positive must beat a negative, in units of the score.
        negatives: ``"hardest"`` or ``"all"``.
        same_image: (B, B) bool, True = also a match, never a negative.

    Returns:
        A scalar, 0 where no query has a negative.

    Raises:
        ValueError: when scores are not square, the mask does not fit, or ``negatives`` is another word.
    """
    expect_square_scores(scores)
    expect_choice("negatives", negatives, ("hardest", "all"))
    scores = _wide(scores)
    positive = scores.diagonal()
    no_negative = matches(scores, same_image)
    caption_cost = torch.relu(margin + scores - positive[:, None]).masked_fill(no_negative, 0)  # row: image asks
    image_cost = torch.relu(margin + scores - positive[None, :]).masked_fill(no_negative, 0)  # column: caption asks
    if negatives == "all":
        return caption_cost.sum() + image_cost.sum()
    return caption_cost.amax(dim=1).sum() + image_cost.amax(dim=0).sum()


def info_nce(
    scores: Float[Tensor, "batch batch"],
    temperature: float | Float[Tensor, ""] = 0.05,
    same_image: Bool[Tensor, "batch batch"] | None = None,
) -> Float[Tensor, ""]:
    """Symmetric cross-entropy: which caption belongs to this image, which image to this caption?

    The mean of the two directions, each the mean over its queries (van den Oord et al. 2018; CLIP, Radford et
    al. 2021, figure 3). The target is the diagonal, and other matches are left out of the sum below the line.

    Args:
        scores: (B, B), row = image, column = caption, diagonal = positives.
        temperature: what the scores are divided by; a number or a learnt scalar.
        same_image: (B, B) bool, True = also a match, never a negative.

    Raises:
        ValueError: when scores are not square, the mask does not fit, or the temperature is not positive.
    """
    expect_square_scores(scores)
    expect_positive("temperature", temperature)
    scores = _wide(scores)
    other_match = matches(scores, same_image).fill_diagonal_(False)
    logits = (scores / temperature).masked_fill(other_match, -torch.inf)
    image_asks = logits.log_softmax(dim=1).diagonal()
    caption_asks = logits.log_softmax(dim=0).diagonal()
    return -(image_asks.mean() + caption_asks.mean()) / 2


def _wide(scores: Float[Tensor, "batch batch"]) -> Float[Tensor, "batch batch"]:
    """16-bit scores as float32: a sum over a batch of some hundred pairs overflows in float16."""
    return scores.float() if scores.element_size() < 4 else scores
