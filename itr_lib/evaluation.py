"""Scores to metrics: what the field reports, with the rules spelled out.

One rule for ties, everywhere in this module: a tie is decided against the model. A model that gives every pair
the same score has found nothing, and must not be paid for the order in which the data happen to lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln
from torch import Tensor

from itr_lib.validation import expect_count, expect_finite

Scores = Float[Tensor, "images captions"] | Float[np.ndarray, "images captions"]
CUTOFFS = (1, 5, 10)
ROWS_AT_ONCE = 256  # keeps the comparisons of a 5,000 x 25,000 matrix in some 25 MB


@dataclass(frozen=True)
class RetrievalMetrics:
    """Recall in percent, ranks counted from 1; i2t: an image asks for its captions, t2i: a caption for its image."""

    i2t_r1: float
    i2t_r5: float
    i2t_r10: float
    t2i_r1: float
    t2i_r5: float
    t2i_r10: float
    rsum: float
    i2t_medr: float
    i2t_meanr: float
    t2i_medr: float
    t2i_meanr: float

    def as_dict(self) -> dict[str, float]:
        """The metrics by name."""
        return asdict(self)


def retrieval_metrics(scores: Scores, image_of_caption: Int[np.ndarray, " captions"]) -> RetrievalMetrics:
    """R@1, R@5, R@10, rSum, median and mean rank in both directions.

    The rank of a query is the position of its best-ranked true match (any of an image's captions; the one image
    of a caption), after every false candidate that scores at least as much.

    Args:
        scores: (N, M), row = image, column = caption; array or tensor.
        image_of_caption: (M,) ints, the row of each caption's image; every image has at least one caption.

    Raises:
        ValueError: for a NaN among the scores, shapes that do not fit, or an image without captions.
    """
    scores, owner = _as_gallery(scores, image_of_caption)
    return _metrics(caption_ranks(scores, owner), image_ranks(scores, owner))


def _metrics(i2t: Int[np.ndarray, " images"], t2i: Int[np.ndarray, " captions"]) -> RetrievalMetrics:
    recalls = {f"i2t_r{k}": _percent(i2t <= k) for k in CUTOFFS} | {f"t2i_r{k}": _percent(t2i <= k) for k in CUTOFFS}
    return RetrievalMetrics(
        **recalls,
        rsum=sum(recalls.values()),
        i2t_medr=float(np.median(i2t)),
        i2t_meanr=float(i2t.mean()),
        t2i_medr=float(np.median(t2i)),
        t2i_meanr=float(t2i.mean()),
    )


def caption_ranks(scores: Scores, image_of_caption: Int[np.ndarray, " captions"]) -> Int[np.ndarray, " images"]:
    """Rank of each image's best true caption (image-to-text), ties against the model."""
    scores, owner = _as_gallery(scores, image_of_caption)
    ranks = [1 + ((rows >= best) & ~own).sum(dim=1) for rows, own, best in _image_queries(scores, owner)]
    return torch.cat(ranks).cpu().numpy()


def image_ranks(scores: Scores, image_of_caption: Int[np.ndarray, " captions"]) -> Int[np.ndarray, " captions"]:
    """Rank of each caption's image (text-to-image), ties against the model."""
    scores, owner = _as_gallery(scores, image_of_caption)
    truth = scores[owner, torch.arange(len(owner), device=scores.device)]
    # The true image counts itself once, which is the 1 that ranks start from.
    return sum((rows >= truth).sum(dim=0) for rows in scores.split(ROWS_AT_ONCE)).cpu().numpy()


def two_stage_metrics(
    global_scores: Scores,
    local_scores: Scores,
    image_of_caption: Int[np.ndarray, " captions"],
    shortlist: int,
    *,
    local_weight: float = 1.0,
) -> RetrievalMetrics:
    """Metrics of a search in two stages: a shortlist by the global score, then a closer look at that (TGDT, TIP 2023).

    Each query's first ``shortlist`` candidates by global score are ordered anew by ``global + local_weight * local``;
    the others follow in their global order. A true match that is not in the shortlist was missed: it keeps its global
    rank, which is at least ``shortlist + 1``. Of an image's captions the one that ends up first counts.

    Ties go against the model in both stages. Where several candidates are level at the shortlist's edge, the free
    places go to false ones, those first that will score highest, then to true ones, those first that will score
    lowest. So a rank is the worst that any order of equal candidates gives.

    Args:
        global_scores: (N, M), row = image, column = caption; array or tensor.
        local_scores: (N, M), likewise. What is not in a shortlist is not looked at, but must be a number.
        image_of_caption: (M,) ints, the row of each caption's image; every image has at least one caption.
        shortlist: how many candidates the second stage sees, 1 or more; with all of them, the metrics are those of
            ``global_scores + local_weight * local_scores``.
        local_weight: what the local score is multiplied by, in the second stage.

    Raises:
        ValueError: for a NaN in a matrix or in the weighted sum, shapes that do not fit, an image without captions, a
            shortlist that is no whole number of 1 or more, or a weight that is not finite.
    """
    first, owner = _as_gallery(global_scores, image_of_caption, "global_scores")
    second = _as_matrix("local_scores", local_scores).to(first.device)
    if second.shape != first.shape:
        raise ValueError(
            f"local_scores has shape {tuple(second.shape)}, expected {tuple(first.shape)} as global_scores"
        )
    expect_count("shortlist", shortlist)
    expect_finite("local_weight", local_weight)
    i2t = _two_stage_ranks(first, second, _captions_of_images(owner, len(first)), shortlist, local_weight)
    return _metrics(i2t, _two_stage_ranks(first.T, second.T, owner[:, None], shortlist, local_weight))


def _captions_of_images(owner: Int[Tensor, " captions"], images: int) -> Int[Tensor, "images most"]:
    """The columns of each image's captions, -1 where it has fewer than another."""
    counts = torch.bincount(owner, minlength=images)
    place = torch.arange(int(counts.max()), device=owner.device)
    columns = owner.argsort(stable=True)[((counts.cumsum(0) - counts)[:, None] + place).clamp(max=len(owner) - 1)]
    return columns.masked_fill(place >= counts[:, None], -1)


def _two_stage_ranks(
    first: Float[Tensor, "queries candidates"],
    second: Float[Tensor, "queries candidates"],
    own: Int[Tensor, "queries most"],
    shortlist: int,
    weight: float,
) -> Int[np.ndarray, " queries"]:
    """Rank of each query's best true match, in blocks; ``own``: the columns of its true matches, -1 = none."""
    places = min(shortlist, first.shape[1])
    ranks = []
    for start in range(0, len(first), ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        # As in an index, integers are counted up in the widest float.
        rows, local = (s[block] if s.is_floating_point() else s[block].double() for s in (first, second))
        final = rows + weight * local
        if final.isnan().any():
            raise ValueError("global_scores + local_weight * local_scores is NaN: infinite numbers cancel out")
        ranks.append(_rank_in_stages(rows, final, own[block], places))
    return torch.cat(ranks).cpu().numpy()


def _rank_in_stages(
    first: Float[Tensor, "queries candidates"],
    final: Float[Tensor, "queries candidates"],
    own: Int[Tensor, "queries most"],
    places: int,
) -> Int[Tensor, " queries"]:
    """Counts instead of sorting: false candidates are all of them less the query's own, which are few."""
    real, own = own >= 0, own.clamp(min=0)
    own_first = first.gather(1, own).masked_fill(~real, -torch.inf)
    own_final = final.gather(1, own).masked_fill(~real, -torch.inf)
    edge = first.topk(places, dim=1, sorted=False).values.amin(dim=1, keepdim=True)  # the score of the last place
    above, level = first > edge, first == edge
    own_above, own_level = real & (own_first > edge), real & (own_first == edge)
    free = places - _count(above)  # places for those level with the edge: at least one
    admitted = (free - _count(level) + _count(own_level)).clamp(min=0)  # true ones among these
    worst_first = own_final.masked_fill(~own_level, torch.inf).sort(dim=1).values
    admits = torch.arange(own.shape[1], device=own.device) < torch.minimum(admitted, _count(own_level))
    inside = torch.cat([own_final.masked_fill(~own_above, -torch.inf), worst_first.masked_fill(~admits, -torch.inf)], 1)
    best = inside.amax(dim=1, keepdim=True)
    wins, own_wins = final >= best, own_final >= best
    ahead = _count(wins & above) - _count(own_wins & own_above)
    ahead_level = _count(wins & level) - _count(own_wins & own_level)
    found = own_above.any(dim=1, keepdim=True) | admits.any(dim=1, keepdim=True)
    best_first = own_first.amax(dim=1, keepdim=True)
    missed = _count(first >= best_first) - _count(real & (own_first >= best_first))
    return 1 + torch.where(found, ahead + torch.minimum(free, ahead_level), missed).squeeze(1)


def _count(some: Bool[Tensor, "queries candidates"]) -> Int[Tensor, "queries 1"]:
    return some.sum(dim=1, keepdim=True)


def expected_recall(scores: Scores, image_of_caption: Int[np.ndarray, " captions"]) -> dict[str, float]:
    """R@K and rSum in percent when ties are broken by lot, as an exact expectation.

    This is no way to grade a model, it is for reference lines: constant scores give chance, and the scores
    ``truth / truth.sum(axis=0)`` of a reader who knows which caption is true of which picture give the ceiling.
    A query with ``a`` false candidates above its best true match, ``t`` false and ``p`` true ones level with it,
    is found within K with probability ``1 - C(t, K - a) / C(t + p, K - a)``.
    """
    scores, owner = _as_gallery(scores, image_of_caption)
    i2t = [
        ((rows > best).sum(dim=1), ((rows == best) & ~own).sum(dim=1), ((rows == best) & own).sum(dim=1))
        for rows, own, best in _image_queries(scores, owner)
    ]
    truth = scores[owner, torch.arange(len(owner), device=scores.device)]
    above = sum((rows > truth).sum(dim=0) for rows in scores.split(ROWS_AT_ONCE))
    level = sum((rows == truth).sum(dim=0) for rows in scores.split(ROWS_AT_ONCE)) - 1
    t2i = (above, level, torch.ones_like(above))
    counts = {"i2t": [torch.cat(column) for column in zip(*i2t, strict=True)], "t2i": t2i}
    recalls = {
        f"{direction}_r{k}": 100 * float(_chance_within(k, *(c.cpu().numpy() for c in columns)).mean())
        for direction, columns in counts.items()
        for k in CUTOFFS
    }
    return recalls | {"rsum": sum(recalls.values())}


def ceiling_scores(truth: Bool[np.ndarray, "images captions"]) -> Float[np.ndarray, "images captions"]:
    """Scores of a perfect reader: a caption that is true of n pictures names each of them with weight 1 / n."""
    return truth / np.maximum(truth.sum(axis=0, keepdims=True), 1)


def ndcg(scores: Scores, relevance: Scores, k: int = 25) -> float:
    """Normalised discounted cumulative gain at k, mean over the queries, linear gain (Järvelin & Kekäläinen 2002).

    ``DCG = sum_r relevance(r) / log2(r + 1)`` over ranks r = 1..k, divided by the DCG of the best order. Among
    equal scores the least relevant candidate stands first. A query with no relevant candidate scores 0.

    Args:
        scores: (Q, C), row = query, column = candidate.
        relevance: (Q, C) graded relevance, 0 or more.
        k: how far down the list to look; more than C means all of it.

    Raises:
        ValueError: for shapes that differ, negative or NaN relevance, NaN scores, or k < 1.
    """
    scores, relevance = _as_matrix("scores", scores), _as_matrix("relevance", relevance)
    if scores.shape != relevance.shape:
        raise ValueError(f"relevance has shape {tuple(relevance.shape)}, expected {tuple(scores.shape)} as scores")
    if (relevance < 0).any() or relevance.isinf().any():
        raise ValueError("relevance holds a negative or infinite number, expected grades of 0 or more")
    expect_count("k", k)
    blocks = zip(scores.split(ROWS_AT_ONCE), relevance.split(ROWS_AT_ONCE), strict=True)
    return float(torch.cat([_ndcg_rows(rows, grades.to(rows.device).double(), k) for rows, grades in blocks]).mean())


def _ndcg_rows(
    scores: Float[Tensor, "queries candidates"], relevance: Float[Tensor, "queries candidates"], k: int
) -> Float[Tensor, " queries"]:
    worst_first = relevance.argsort(dim=1, stable=True)
    order = scores.gather(1, worst_first).argsort(dim=1, descending=True, stable=True)[:, :k]
    gained = relevance.gather(1, worst_first.gather(1, order))
    best = relevance.topk(min(k, relevance.shape[1]), dim=1).values
    discount = 1 / torch.arange(2, best.shape[1] + 2, device=best.device, dtype=best.dtype).log2()
    ideal = best @ discount
    return gained @ discount / torch.where(ideal > 0, ideal, 1)


def pair_accuracy(scores: Scores) -> dict[str, float]:
    """Forced choices on twins: rows 2k, 2k+1 and columns 2k, 2k+1 are a pair, each its own match; percent.

    ``image``: for each caption, is its own picture preferred to the twin (chance 50)? ``text``: for each
    picture, its own caption (chance 50)? ``group``: all four choices of a pair right (chance 1/6 for scores drawn
    at random; Winoground, Thrush et al., CVPR 2022). In ``image`` and ``text`` a tie counts one half, since a
    model that sees no difference can do no better than guess; in ``group`` it counts as wrong.

    Raises:
        ValueError: unless scores are square with an even number of rows.
    """
    scores = _as_matrix("scores", scores)
    if scores.shape[0] != scores.shape[1] or scores.shape[0] % 2:
        raise ValueError(f"scores has shape {tuple(scores.shape)}, expected (2P, 2P) for P pairs")
    own = scores.diagonal()
    row = torch.arange(len(scores), device=scores.device)
    text_gap, image_gap = own - scores[row, row ^ 1], own - scores[row ^ 1, row]
    all_right = ((text_gap > 0) & (image_gap > 0)).view(-1, 2).all(dim=1)
    return {
        "image": 50 * float((1 + image_gap.sign().double()).mean()),
        "text": 50 * float((1 + text_gap.sign().double()).mean()),
        "group": _percent(all_right.cpu().numpy()),
    }


def structure_agreement(
    image_scores: Float[Tensor, "pairs pairs"], text_scores: Float[Tensor, "pairs pairs"]
) -> dict[str, float]:
    """Do pictures and their captions agree on what is alike?

    Args:
        image_scores: (B, B), V: image i against image j.
        text_scores: (B, B), T: caption i against caption j, of the same pairs.

    Returns:
        ``structure_gap``: the mean over j of ``max_i |T_ij - V_ij|``, what the intra-modal part of the CMC loss limits
        (TGDT, Liu et al., TIP 2023); a collapsed model has none. ``structure_correlation``: Pearson's r of T and V over
        all pairs i < j, 0 where one of them has no variance.

    Raises:
        ValueError: for a NaN, matrices that are not square or do not fit each other, or fewer than three pairs.
    """
    images, texts = _as_matrix("image_scores", image_scores).double(), _as_matrix("text_scores", text_scores).double()
    size = len(images)
    if images.shape != (size, size) or texts.shape != (size, size) or size < 3:
        raise ValueError(
            f"image_scores and text_scores have shapes {tuple(images.shape)} and {tuple(texts.shape)}: expected two"
            " square matrices of one size, at least 3 x 3"
        )
    above = torch.triu_indices(size, size, offset=1, device=images.device).unbind()
    pairs = torch.stack([images[above], texts[above]])
    varied = bool((pairs != pairs[:, :1]).any(dim=1).all())
    return {
        "structure_gap": float((texts - images).abs().amax(dim=0).mean()),
        "structure_correlation": float(torch.corrcoef(pairs)[0, 1]) if varied else 0.0,
    }


def _percent(hits: Bool[np.ndarray, " queries"]) -> float:
    return 100 * float(np.mean(hits))


def _as_matrix(name: str, values: Scores) -> Tensor:
    matrix = _as_tensor(name, values)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name} has shape {tuple(matrix.shape)}, expected a matrix with at least one row and column")
    if matrix.is_floating_point() and matrix.isnan().any():
        raise ValueError(f"{name} holds NaN at {tuple(matrix.isnan().nonzero()[0].tolist())}")
    return matrix


def _as_tensor(name: str, values: Scores) -> Tensor:
    """Tensors as they are, arrays of any layout; without a copy where torch can share the memory."""
    if isinstance(values, Tensor):
        return values.detach().to(torch.int8) if values.dtype == torch.bool else values.detach()
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} is a {type(values).__name__} of {array.dtype}, expected an array or tensor of numbers"
        )
    kind = {"b": np.dtype(np.int8), "u": np.dtype(np.int64)}.get(array.dtype.kind, array.dtype.newbyteorder("="))
    array = np.ascontiguousarray(array, dtype=kind)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _as_gallery(
    scores: Scores, image_of_caption: Int[np.ndarray, " captions"], name: str = "scores"
) -> tuple[Tensor, Tensor]:
    scores = _as_matrix(name, scores)
    owner = _as_tensor("image_of_caption", image_of_caption).to(scores.device)
    if owner.ndim != 1 or len(owner) != scores.shape[1] or owner.is_floating_point() or owner.dtype == torch.bool:
        raise ValueError(
            f"image_of_caption has shape {tuple(owner.shape)} and type {owner.dtype}, "
            f"expected {scores.shape[1]} ints, one a column of {name}"
        )
    if owner.min() < 0 or owner.max() >= len(scores):
        raise ValueError(f"image_of_caption names a row outside 0..{len(scores) - 1}, the rows of {name}")
    counts = torch.bincount(owner.long(), minlength=len(scores))
    if (counts == 0).any():
        raise ValueError(
            f"image_of_caption gives image {int(counts.argmin())} no caption, expected at least one an image"
        )
    return scores, owner.long()


def _image_queries(scores: Tensor, owner: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Blocks of (scores, which captions are the image's own, score of its best own caption)."""
    for start in range(0, len(scores), ROWS_AT_ONCE):
        rows = scores[start : start + ROWS_AT_ONCE]
        own = owner == torch.arange(start, start + len(rows), device=scores.device)[:, None]
        lowest = -torch.inf if rows.is_floating_point() else torch.iinfo(rows.dtype).min
        yield rows, own, rows.masked_fill(~own, lowest).amax(dim=1, keepdim=True)


def _chance_within(k: int, above: np.ndarray, level: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Probability that one of ``true`` of the ``level + true`` candidates tied after ``above`` falls within k."""
    places = np.clip(k - above, 0, level + true)
    certain = places > level
    safe = np.where(certain, 0, places)
    log_missed = (
        gammaln(level + 1) - gammaln(level - safe + 1) - gammaln(level + true + 1) + gammaln(level + true - safe + 1)
    )
    return np.where(certain, 1.0, 1 - np.exp(log_missed))
