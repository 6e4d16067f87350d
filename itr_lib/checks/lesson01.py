"""Checks of lesson 01: the specifications as plain loops, and the mistakes people make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itr_lib.checks.frame import Exercise, Inputs

# --- triplet-loop ----------------------------------------------------------------------------------------------------


def _scores(size: int, seed: int) -> Tensor:
    return torch.rand(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def triplet_cases() -> Iterator[Inputs]:
    """Several sizes and margins, a batch of one, a batch without a violation."""
    for seed, (size, margin) in enumerate([(5, 0.2), (3, 0.5), (8, 0.05), (2, 0.3), (1, 0.2)]):
        yield {"scores": _scores(size, seed), "margin": margin}
    yield {"scores": torch.eye(4, dtype=torch.float64), "margin": 0.2}


def triplet_specification(scores: Tensor, margin: float) -> Tensor:
    """Every negative of every query, in both directions."""
    total = scores.new_zeros(())
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                total = total + torch.relu(margin + scores[i, j] - scores[i, i])  # image i asks
                total = total + torch.relu(margin + scores[j, i] - scores[i, i])  # caption i asks
    return total


def _hinge(scores, margin, rows=True, columns=True, diagonal=False, relu=torch.relu, reduce=torch.sum, sign=1.0):
    positive = scores.diagonal()
    keep = torch.ones_like(scores) if diagonal else 1 - torch.eye(len(scores), dtype=scores.dtype, device=scores.device)
    by_row = relu(margin + sign * (scores - positive[:, None])) * keep
    by_column = relu(margin + sign * (scores - positive[None, :])) * keep
    return sum(reduce(cost) for cost, wanted in ((by_row, rows), (by_column, columns)) if wanted)


TRIPLET_MISTAKES = {
    "the rows are counted twice: both terms of query i subtract its own positive, scores[i, i]": (
        lambda scores, margin: 2 * _hinge(scores, margin, columns=False)
    ),
    "the columns are counted twice: both terms of query i subtract its own positive, scores[i, i]": (
        lambda scores, margin: 2 * _hinge(scores, margin, rows=False)
    ),
    "only images ask here (rows): captions ask too, add the columns": lambda scores, margin: _hinge(
        scores, margin, columns=False
    ),
    "only captions ask here (columns): images ask too, add the rows": lambda scores, margin: _hinge(
        scores, margin, rows=False
    ),
    "the positive counts as its own negative: leave out i == j, it adds the margin once a query": (
        lambda scores, margin: _hinge(scores, margin, diagonal=True)
    ),
    "negatives that are far enough away must cost 0, not less: cut each term off with max(0, ...)": (
        lambda scores, margin: _hinge(scores, margin, relu=lambda x: x)
    ),
    "the sign is turned round: a negative costs when margin + negative - positive is above 0": (
        lambda scores, margin: _hinge(scores, margin, sign=-1.0)
    ),
    "this is the mean over all pairs: the loss is a sum": lambda scores, margin: _hinge(
        scores, margin, reduce=torch.mean
    ),
    "this is the sum divided by the batch: the loss is a plain sum": lambda scores, margin: (
        _hinge(scores, margin) / len(scores)
    ),
    "the margin is missing: a negative must stay that far below its positive": lambda scores, margin: _hinge(
        scores, 0.0
    ),
}

# --- triplet-hardest -------------------------------------------------------------------------------------------------


def masked_cases() -> Iterator[Inputs]:
    """Batches with captions of one picture among them, without, and of one pair."""
    for seed, owners in enumerate([[0, 1, 2, 1, 3, 0], [0, 1, 2, 0, 3], [0, 0, 1], [0], [0, 0]]):
        owner = torch.tensor(owners)
        shift = seed % 2  # cosines may be negative, all of them
        yield {"scores": _scores(len(owners), 10 + seed) - shift, "same_image": owner[:, None] == owner[None, :]}


def hardest_cases() -> Iterator[Inputs]:
    """An easy batch, in which only a positive could cost something; then the masked ones, with a margin."""
    easy = torch.eye(3, dtype=torch.float64)
    yield {"scores": easy, "margin": 0.2, "same_image": easy.bool()}
    for margin, case in zip([0.2, 0.5, 0.1, 0.2, 0.2], masked_cases(), strict=True):
        yield {"scores": case["scores"], "margin": margin, "same_image": case["same_image"]}


def hardest_specification(scores: Tensor, margin: float, same_image: Tensor) -> Tensor:
    """The worst negative of each query, in both directions; captions of the same picture are none."""
    total = scores.new_zeros(())
    for i in range(len(scores)):
        captions = [scores[i, j] for j in range(len(scores)) if not same_image[i, j]]
        images = [scores[j, i] for j in range(len(scores)) if not same_image[j, i]]
        for negatives in (captions, images):
            if negatives:
                total = total + torch.relu(margin + torch.stack(negatives).max() - scores[i, i])
    return total


def _hardest(scores, margin, same_image, mask=None, rows=True, columns=True, pick="max", cut=True):
    """Variants of the loss for the mistakes below; ``mask``: what is no negative."""
    mask = same_image if mask is None else mask
    positive = scores.diagonal()
    total = scores.new_zeros(())
    for cost, dim, wanted in (
        (margin + scores - positive[:, None], 1, rows),
        (margin + scores - positive[None, :], 0, columns),
    ):
        cost = torch.relu(cost) if cut else cost
        filled = cost.masked_fill(mask, 0 if pick != "min" else 1e9)
        worst = {"max": filled.amax, "sum": filled.sum, "min": filled.amin}[pick](dim=dim)
        total = total + (worst.masked_fill(worst > 1e8, 0)).sum() * wanted
    return total


def _eye(scores: Tensor) -> Tensor:
    return torch.eye(len(scores), dtype=torch.bool, device=scores.device)


def _hardest_swapped(scores, margin, same_image):
    """The positive of the candidate instead of the query's."""
    positive = scores.diagonal()
    rows = torch.relu(margin + scores - positive[None, :]).masked_fill(same_image, 0)
    columns = torch.relu(margin + scores - positive[:, None]).masked_fill(same_image, 0)
    return rows.amax(dim=1).sum() + columns.amax(dim=0).sum()


HARDEST_MISTAKES = {
    "the positive is that of the candidate: it belongs to the query, a column [:, None] where images ask (rows), "
    "a row [None, :] where captions do": _hardest_swapped,
    "the rows are counted twice: the second term goes down the columns": lambda scores, margin, same_image: (
        2 * _hardest(scores, margin, same_image, columns=False)
    ),
    "this is a mean over all 2B queries: the loss is a plain sum": lambda scores, margin, same_image: (
        hardest_specification(scores, margin, same_image) / (2 * len(scores))
    ),
    "captions of the same picture are pushed away as negatives: use same_image, not the diagonal alone": (
        lambda scores, margin, same_image: _hardest(scores, margin, same_image, mask=_eye(scores))
    ),
    "every negative is counted: keep only the worst one of each query (max, not sum)": (
        lambda scores, margin, same_image: _hardest(scores, margin, same_image, pick="sum")
    ),
    "only images ask here (rows): captions ask too, take the maximum of each column as well": (
        lambda scores, margin, same_image: _hardest(scores, margin, same_image, columns=False)
    ),
    "only captions ask here (columns): images ask too, take the maximum of each row as well": (
        lambda scores, margin, same_image: _hardest(scores, margin, same_image, rows=False)
    ),
    "the positive takes part in the maximum: mask the diagonal before you look for the worst": (
        lambda scores, margin, same_image: _hardest(scores, margin, same_image, mask=torch.zeros_like(same_image))
    ),
    "you took the easiest negative (min): the hardest is the one with the highest score": (
        lambda scores, margin, same_image: _hardest(scores, margin, same_image, pick="min")
    ),
    "this is divided by the batch: the loss is a plain sum over queries": (
        lambda scores, margin, same_image: hardest_specification(scores, margin, same_image) / len(scores)
    ),
    "a masked score became 0 before the maximum, so it can win where real scores are lower: fill with -inf, "
    "or mask after the hinge": lambda scores, margin, same_image: sum(
        torch.relu(margin + scores.masked_fill(same_image, 0).amax(dim=dim) - scores.diagonal()).sum() for dim in (0, 1)
    ),
}

# --- info-nce --------------------------------------------------------------------------------------------------------


def info_nce_cases() -> Iterator[Inputs]:
    """The masked batches at several temperatures; one so low that an unguarded exp overflows in float32."""
    for temperature, case in zip([0.1, 1.0, 0.5, 0.05, 0.2], masked_cases(), strict=True):
        yield {"scores": case["scores"], "temperature": temperature, "same_image": case["same_image"]}
    yield {"scores": _scores(4, 99), "temperature": 0.005, "same_image": torch.eye(4, dtype=torch.bool)}


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


def _nce(scores, temperature, same_image, mask=True, rows=True, columns=True, times=False, total=False, base=None):
    logits = scores * temperature if times else scores / temperature
    if mask:
        logits = logits.masked_fill(same_image & ~_eye(scores), -torch.inf)
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
    grown = torch.exp(scores / temperature).masked_fill(same_image & ~_eye(scores), 0)
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
        lambda scores, temperature, same_image: _filled(
            scores, temperature, same_image, same_image & ~_eye(scores), 0.0
        )
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

# --- unique-batches --------------------------------------------------------------------------------------------------


def batch_cases() -> Iterator[Inputs]:
    """One to five captions an image, batches that divide the images and that do not."""
    for seed, (counts, size) in enumerate([([5] * 12, 4), ([1, 5, 2, 3, 4, 5, 1], 3), ([2] * 5, 8), ([3] * 10, 7)]):
        owner = np.repeat(np.arange(len(counts)), counts)
        yield {"image_of_caption": owner, "batch_size": size, "rng": np.random.default_rng(seed)}


def batch_properties(inputs: Inputs, run: Callable[..., Any]) -> None:
    """Every caption once, no picture twice in a batch, batches filled, all chance from rng and nowhere else."""
    batches = _expect_batches(inputs, run())
    again = _expect_batches(inputs, run())
    if [b.tolist() for b in batches] != [b.tolist() for b in again]:
        raise AssertionError("the same rng gave two different epochs: take all chance from rng, none from np.random")
    other = _expect_batches(inputs, run(rng=np.random.default_rng(12345)))
    if {frozenset(b.tolist()) for b in batches} == {frozenset(b.tolist()) for b in other}:
        raise AssertionError(
            "another rng gave the same batches: shuffle with rng, before you cut the captions into batches"
        )


def _expect_batches(inputs: Inputs, result: Any) -> list[np.ndarray]:
    owner, size = inputs["image_of_caption"], inputs["batch_size"]
    if result is None:
        raise AssertionError("your function returned None: is a return missing at its end?")
    batches = [np.asarray(batch) for batch in result]
    if not batches or any(batch.ndim != 1 or batch.dtype.kind not in "iu" for batch in batches):
        raise AssertionError("expected a list of batches, each a list of caption numbers")
    _expect_each_once(np.concatenate(batches), owner)
    for batch in batches:
        if len(batch) > size:
            raise AssertionError(f"a batch holds {len(batch)} captions, more than batch_size = {size}")
        if len(set(owner[batch])) < len(batch):
            raise AssertionError("a batch holds two captions of one picture: each is the other's false negative")
    if max(map(len, batches)) == 1:
        raise AssertionError("every batch holds a single caption: no query has a negative")
    rounds = np.bincount(np.bincount(owner))[::-1].cumsum()[::-1][1:]  # how many images have a 1st, 2nd, ... caption
    enough = sum(-(-int(images) // size) for images in rounds)
    if len(batches) > 1.2 * enough:
        raise AssertionError(
            f"{len(batches)} batches where {enough} would do, with batch_size = {size}: fill them, few captions are "
            "few negatives"
        )
    return batches


def _expect_each_once(drawn: np.ndarray, owner: np.ndarray) -> None:
    images = int(owner.max()) + 1
    if drawn.max() < images < len(owner):
        raise AssertionError(f"no number above {drawn.max()} comes: are these images? Batches hold caption numbers")
    if drawn.min() < 0 or drawn.max() >= len(owner):
        raise AssertionError(f"a batch names caption {drawn.max()}, and there are {len(owner)}")
    count = np.bincount(drawn, minlength=len(owner))
    if count.max() > 1:
        raise AssertionError(f"caption {int(count.argmax())} comes {count.max()} times in one epoch, expected once")
    if count.min() == 0:
        per_image = np.bincount(owner[drawn], minlength=images)
        if per_image.max() == 1 and np.bincount(owner).max() > 1:
            raise AssertionError("you drew one caption an image for the whole epoch: go on with the second, third, ...")
        raise AssertionError(f"{(count == 0).sum()} captions never come in this epoch (a last, smaller batch dropped?)")


# --- sorted-pool -----------------------------------------------------------------------------------------------------


def pool_cases() -> Iterator[Inputs]:
    """Sets of different sizes with negative numbers, padding anywhere, a set of one."""
    for seed, (batch, width, dim) in enumerate([(3, 5, 4), (1, 4, 3), (4, 7, 2), (2, 1, 3)]):
        g = torch.Generator().manual_seed(seed)
        tokens = torch.randn(batch, width, dim, generator=g, dtype=torch.float64) - 1.5
        mask = torch.rand(batch, width, generator=g) < 0.6
        mask[:, -1] = True
        weights = torch.rand(batch, width, generator=g, dtype=torch.float64)
        order = torch.arange(width)[None, :]
        weights = weights * (order < mask.sum(1, keepdim=True))
        yield {"tokens": tokens, "mask": mask, "weights": weights / weights.sum(1, keepdim=True)}


def pool_specification(tokens: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Sort each dimension's real values downwards, then add them up with the weights of their places."""
    rows = []
    for row, real, theta in zip(tokens, mask, weights, strict=True):
        columns = []
        for d in range(tokens.shape[2]):
            values = sorted((row[k, d] for k in range(len(row)) if real[k]), key=Tensor.item, reverse=True)
            columns.append(sum(theta[k] * value for k, value in enumerate(values)))
        rows.append(torch.stack(columns))
    return torch.stack(rows)


def _pool(tokens, mask, weights, fill=-1e30, descending=True, sort=True, whole=False):
    filled = tokens.masked_fill(~mask[..., None], fill)
    if whole:
        order = filled.sum(-1).argsort(dim=1, descending=True)
        ordered = filled.gather(1, order[..., None].expand_as(filled))
    else:
        ordered = filled.sort(dim=1, descending=descending).values if sort else filled
    ordered = ordered.masked_fill(ordered.abs() > 1e29, 0)
    return (ordered * weights[..., None]).sum(1)


def _pool_filled(tokens, mask, weights, descending=True, after=None, fill_where=None):
    filled = tokens.masked_fill(~mask[..., None] if fill_where is None else fill_where[..., None], -1e30)
    ordered = filled.sort(dim=1, descending=descending).values
    gone = ordered == -1e30 if after is None else ~after[..., None]
    return (ordered.masked_fill(gone, 0) * weights[..., None]).sum(1)


POOL_MISTAKES = {
    "padding was filled with -inf and then sorted upwards, so it stands first: sort with descending=True": (
        lambda tokens, mask, weights: _pool_filled(tokens, mask, weights, descending=False)
    ),
    "the mask is turned round: masked_fill fills where it is True, so give it ~mask": (
        lambda tokens, mask, weights: _pool_filled(tokens, mask, weights, fill_where=mask)
    ),
    "after the sort padding stands last, and your mask of the old places no longer fits": (
        lambda tokens, mask, weights: _pool_filled(tokens, mask, weights, after=mask)
    ),
    "you sorted along the features (dim=-1): each dimension is sorted over the set, dim=1": (
        lambda tokens, mask, weights: (
            tokens.masked_fill(~mask[..., None], 0).sort(dim=-1, descending=True).values * weights[..., None]
        ).sum(1)
    ),
    "padding took part in the sort as 0, and stands before the negative values: fill it with -inf first": (
        lambda tokens, mask, weights: _pool(tokens, mask, weights, fill=0.0)
    ),
    "padding took part as it came: fill it with -inf before the sort": lambda tokens, mask, weights: _pool(
        tokens, torch.ones_like(mask), weights
    ),
    "you sorted upwards: the first weight belongs to the largest value": lambda tokens, mask, weights: _pool(
        tokens, mask, weights, fill=1e30, descending=False
    ),
    "nothing is sorted here: weight k belongs to the k-th largest value, not to token k": (
        lambda tokens, mask, weights: _pool(tokens, mask, weights, sort=False)
    ),
    "you sorted whole tokens: each dimension is sorted for itself": lambda tokens, mask, weights: _pool(
        tokens, mask, weights, whole=True
    ),
    "this is mean pooling: use the weights": lambda tokens, mask, weights: (
        tokens.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)
    ),
    "this is max pooling: use the weights": lambda tokens, mask, weights: tokens.masked_fill(
        ~mask[..., None], -1e30
    ).amax(1),
    "-inf times a weight of 0 is NaN: after the sort set to 0 what is -inf (padding stands last now, your mask no "
    "longer fits)": lambda tokens, mask, weights: (
        tokens.masked_fill(~mask[..., None], -torch.inf).sort(dim=1, descending=True).values * weights[..., None]
    ).sum(1),
}

# --- twin-choices ----------------------------------------------------------------------------------------------------


def twin_cases() -> Iterator[Inputs]:
    """Pairs of twins, with ties, and a model that sees no difference at all."""
    for seed, pairs in enumerate([6, 1, 3]):
        scores = _scores(2 * pairs, 30 + seed)
        yield {"scores": scores}
        yield {"scores": (3 * scores).round()}
    yield {"scores": torch.full((4, 4), 0.7, dtype=torch.float64)}


def twin_specification(scores: Tensor) -> float:
    """For each caption: its own picture against the twin's; a tie counts one half."""
    values = scores.tolist()
    points = 0.0
    for caption in range(len(values)):
        twin = caption + 1 if caption % 2 == 0 else caption - 1
        own, other = values[caption][caption], values[twin][caption]
        points += 1.0 if own > other else 0.5 if own == other else 0.0
    return 100.0 * points / len(values)


def _twin(scores, axis="image", tie=0.5):
    row = torch.arange(len(scores), device=scores.device)
    other = scores[row ^ 1, row] if axis == "image" else scores[row, row ^ 1]
    gap = scores.diagonal() - other
    return 100 * float(((gap > 0).double() + tie * (gap == 0).double()).mean())


TWIN_MISTAKES = {
    "you compared two captions for one picture (a row): here the caption asks, so compare two pictures (a column)": (
        lambda scores: _twin(scores, axis="text")
    ),
    "a tie counts one half: who sees no difference can do no better than guess": lambda scores: _twin(scores, tie=0.0),
    "a tie counts one half, not a whole: a model that sees nothing would be perfect": lambda scores: _twin(
        scores, tie=1.0
    ),
    "you compared with all other pictures (that is R@1): only the twin competes": lambda scores: (
        100 * float((scores.diagonal() >= scores.amax(0)).double().mean())
    ),
    "this is a fraction: give percent, multiply by 100": lambda scores: _twin(scores) / 100,
    "the twin of picture 2k + 1 is 2k, not the next one: pairs are (0, 1), (2, 3), ...": lambda scores: (
        100 * float((0.5 + 0.5 * (scores.diagonal() - scores.roll(-1, 0).diagonal()).sign().double()).mean())
    ),
    "only the first caption of each pair is asked: both are": lambda scores: (
        100 * float((0.5 + 0.5 * (scores.diagonal()[::2] - scores.diagonal(-1)[::2]).sign().double()).mean())
    ),
}

EXERCISES = (
    Exercise("triplet-loop", triplet_cases, triplet_specification, TRIPLET_MISTAKES),
    Exercise("unique-batches", batch_cases, properties=batch_properties),
    Exercise("triplet-hardest", hardest_cases, hardest_specification, HARDEST_MISTAKES, gradients=("scores",)),
    Exercise("info-nce", info_nce_cases, info_nce_specification, INFO_NCE_MISTAKES, gradients=("scores",)),
    Exercise("sorted-pool", pool_cases, pool_specification, POOL_MISTAKES, gradients=("tokens",)),
    Exercise("twin-choices", twin_cases, twin_specification, TWIN_MISTAKES),
)
