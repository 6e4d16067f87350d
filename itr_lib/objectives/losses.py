"""Scores to a loss.

Throughout, ``scores`` is the B x B matrix of one batch of pairs: row i is image i, column j is caption j, and
the diagonal holds the positives. ``same_image`` marks further matches: entry (i, j) is True where caption j
belongs to the picture of row i too, so that it must never be pushed away as a negative. Inside, ``no_negative`` is
True at all that is never pushed away: those matches and the positives.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from itr_lib.similarity import cosine_scores
from itr_lib.similarity.precision import wide
from itr_lib.validation import (
    expect_choice,
    expect_dims,
    expect_float,
    expect_mask,
    expect_positive,
    expect_shape,
    expect_square_scores,
)


def triplet_loss(
    scores: Float[Tensor, "batch batch"],
    *,
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
    scores = wide(scores)
    positive = scores.diagonal()
    no_negative = _no_negative(scores, same_image)
    caption_cost = torch.relu(margin + scores - positive[:, None]).masked_fill(no_negative, 0)  # row: image asks
    image_cost = torch.relu(margin + scores - positive[None, :]).masked_fill(no_negative, 0)  # column: caption asks
    if negatives == "all":
        return caption_cost.sum() + image_cost.sum()
    return caption_cost.amax(dim=1).sum() + image_cost.amax(dim=0).sum()


def info_nce(
    scores: Float[Tensor, "batch batch"],
    *,
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
    scores = wide(scores)
    no_candidate = _no_negative(scores, same_image).fill_diagonal_(False)  # the positive stays below the line
    logits = (scores / temperature).masked_fill(no_candidate, -torch.inf)
    image_asks = logits.log_softmax(dim=1).diagonal()
    caption_asks = logits.log_softmax(dim=0).diagonal()
    return -(image_asks.mean() + caption_asks.mean()) / 2


def unified_loss(
    scores: Float[Tensor, "batch batch"],
    *,
    mu: float = 90.0,
    gamma: float = 0.5,
    same_image: Bool[Tensor, "batch batch"] | None = None,
    floor: float = 0.0,
) -> Float[Tensor, ""]:
    """The unified training objective (UTO) in the batch, both directions (USER, Zhang et al., IEEE TIP 2024).

    ``1/B sum_i [ 1/mu log(1 + sum_{j!=i} e^{mu (S_ij - gamma)}) + the same with S_ji - log(1 + [S_ii]+) ]``.
    A negative starts to count where its score comes near ``gamma``; ``mu`` says how sharply, and how much more the
    hardest of them counts than the next. USER adds this to its loss 20 times; that factor is not in here.

    Args:
        scores: (B, B) cosines, row = image, column = caption, diagonal = positives.
        mu: sharpness, more than 0.
        gamma: the score at which a negative begins to cost.
        same_image: (B, B) bool, True = also a match, never a negative.
        floor: positives below it count as it, and get no gradient: ``[S_ii]+`` is a floor of 0. A new model whose
            cosines all happen to be negative never starts with it (appendix 04a); with one near -1 it does.

    Raises:
        ValueError: when scores are not square, the mask does not fit, mu is not positive, or floor not above -1.
    """
    expect_square_scores(scores)
    scores = wide(scores)
    no_negative = _no_negative(scores, same_image)
    image_asks = _unified_negatives(scores, no_negative, mu, gamma)
    caption_asks = _unified_negatives(scores.T, no_negative.T, mu, gamma)
    return (image_asks + caption_asks - _unified_positive(scores.diagonal(), floor)).mean()


def unified_queue_loss(
    queries: Float[Tensor, "batch dim"],
    positive_keys: Float[Tensor, "batch dim"],
    queue_keys: Float[Tensor, "keys dim"],
    *,
    mu: float = 90.0,
    gamma: float = 0.5,
    negative_mask: Bool[Tensor, "batch keys"] | None = None,
    floor: float = 0.0,
) -> Float[Tensor, ""]:
    """UTO against a queue, in one direction (USER, Zhang et al., IEEE TIP 2024).

    ``1/B sum_i [ 1/mu log(1 + sum_k e^{mu (q_i . key_k - gamma)}) - log(1 + [q_i . key_i+]+) ]``. Vectors are taken
    as they are; give unit vectors.

    Args:
        queries: (B, D), what the trained encoder made of one modality.
        positive_keys: (B, D), what the key encoder made of the other modality of the same pairs.
        queue_keys: (K, D) earlier keys of the other modality; K may be 0.
        mu, gamma, floor: as in :func:`unified_loss`.
        negative_mask: (B, K) bool, False = not a negative, such as a caption of the same image; None: all are.

    Raises:
        ValueError: when shapes do not fit, mu is not positive, or floor not above -1.
    """
    expect_dims("queries", queries, "batch", "dim")
    expect_float("queries", queries)
    expect_shape("positive_keys", positive_keys, tuple(queries.shape), "as queries")
    expect_dims("queue_keys", queue_keys, "keys", "dim")
    expect_shape("queue_keys", queue_keys, (len(queue_keys), queries.shape[1]), "as wide as queries")
    expect_float("positive_keys", positive_keys)
    expect_float("queue_keys", queue_keys)
    if len(queries) == 0:
        raise ValueError("queries is empty: expected at least one")
    queries, positive_keys, queue_keys = wide(queries), wide(positive_keys), wide(queue_keys)
    if not queries.dtype == positive_keys.dtype == queue_keys.dtype:
        raise ValueError(
            f"queries hold {queries.dtype}, positive_keys {positive_keys.dtype}, queue_keys {queue_keys.dtype}:"
            " expected one type"
        )
    if negative_mask is not None:
        expect_mask("negative_mask", negative_mask, (len(queries), len(queue_keys)), "queries x keys", "a negative")
    no_negative = None if negative_mask is None else ~negative_mask
    negatives = _unified_negatives(queries @ queue_keys.T, no_negative, mu, gamma)
    return (negatives - _unified_positive((queries * positive_keys).sum(dim=1), floor)).mean()


def consistency_loss(
    image_scores: Float[Tensor, "batch batch"], text_scores: Float[Tensor, "batch batch"], *, margin: float = 0.3
) -> Float[Tensor, ""]:
    """Two pictures should be as alike as their captions: the intra-modal part of CMC (TGDT, Liu et al., TIP 2023).

    ``sum_j [ max_i |T_ij - V_ij| - margin ]+``. Of each pair j only the partner i counts on which the two modalities
    disagree most, and only by what is beyond ``margin``. The diagonal takes part: with unit vectors it is 1 in both.
    Pairs of one picture are no exception, so a batch should hold each picture once.

    Args:
        image_scores: (B, B), V: image i against image j.
        text_scores: (B, B), T: caption i against caption j, of the same pairs and the same kind of float.
        margin: disagreement that costs nothing, in units of the score.

    Raises:
        ValueError: when a matrix is not square, or the two do not fit each other.
    """
    expect_dims("image_scores", image_scores, "batch", "batch")
    size = len(image_scores)
    expect_shape("image_scores", image_scores, (size, size), "square: row and column are pairs of one batch")
    expect_shape("text_scores", text_scores, (size, size), "as image_scores")
    _expect_some_pairs("image_scores", image_scores, "text_scores", text_scores)
    gap = (wide(text_scores) - wide(image_scores)).abs()
    return torch.relu(gap.amax(dim=0) - margin).sum()


def cmc_loss(
    images: Float[Tensor, "batch dim"],
    captions: Float[Tensor, "batch dim"],
    *,
    margin: float = 0.2,
    intra_margin: float = 0.3,
) -> Float[Tensor, ""]:
    """Consistent multimodal contrastive loss of a batch of embeddings (CMC; TGDT, Liu et al., IEEE TIP 2023).

    Inter-modal: the hinge with hardest negatives on the cosines of images and captions, see :func:`triplet_loss`.
    Intra-modal: the cosines among the images must agree with those among the captions, see :func:`consistency_loss`.
    Both are sums over the batch, added with weight 1.

    Args:
        images: (B, D), of any length: cosines are taken here. A zero vector has the cosine 0 with everything.
        captions: (B, D), row i belongs to image i; of the same kind of float.
        margin: of the inter-modal hinge, in units of the cosine.
        intra_margin: what the two modalities may disagree, likewise.

    Raises:
        ValueError: when shapes or kinds of numbers do not fit, or the batch is empty.
    """
    expect_dims("images", images, "batch", "dim")
    expect_shape("captions", captions, tuple(images.shape), "as images")
    _expect_some_pairs("images", images, "captions", captions)
    images, captions = wide(images), wide(captions)
    inter = triplet_loss(cosine_scores(images, captions), margin=margin)
    within = cosine_scores(images, images), cosine_scores(captions, captions)
    return inter + consistency_loss(*within, margin=intra_margin)


def _no_negative(
    scores: Float[Tensor, "batch batch"], same_image: Bool[Tensor, "batch batch"] | None
) -> Bool[Tensor, "batch batch"]:
    """True where a pair is never a negative: the diagonal, and what ``same_image`` adds to it."""
    diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    if same_image is None:
        return diagonal
    expect_mask("same_image", same_image, tuple(scores.shape), "as scores", "also a match")
    return diagonal | same_image


def _expect_some_pairs(first_name: str, first: Tensor, second_name: str, second: Tensor) -> None:
    """Floats of one kind, of at least one pair."""
    for name, tensor in ((first_name, first), (second_name, second)):
        expect_float(name, tensor)
    if len(first) == 0:
        raise ValueError(f"{first_name} is empty: expected at least one pair")
    if first.dtype != second.dtype:
        raise ValueError(f"{second_name} holds {second.dtype}, expected {first.dtype} as {first_name}")


def _unified_negatives(
    scores: Float[Tensor, "queries candidates"],
    no_negative: Bool[Tensor, "queries candidates"] | None,
    mu: float,
    gamma: float,
) -> Float[Tensor, " queries"]:
    """``1/mu log(1 + sum e^{mu (S - gamma)})``: the 1 is one more exponent, 0, so that nothing overflows."""
    expect_positive("mu", mu)
    exponents = mu * (scores - gamma)
    if no_negative is not None:
        exponents = exponents.masked_fill(no_negative, -torch.inf)
    return F.pad(exponents, (1, 0)).logsumexp(dim=1) / mu


def _unified_positive(scores: Float[Tensor, " queries"], floor: float) -> Float[Tensor, " queries"]:
    expect_positive("1 + floor", 1 + floor)
    return (scores - floor).relu().add(floor).log1p()  # relu: no gradient at the floor itself
