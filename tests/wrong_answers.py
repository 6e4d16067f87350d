"""Plausible wrong answers to every exercise, as a learner would write them, and what each must be told."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

# --- lesson 01 -------------------------------------------------------------------------------------------------------


def _costs(scores, margin):
    positive = scores.diag()
    off = ~torch.eye(len(scores), dtype=torch.bool)
    return (margin + scores - positive[:, None]), (margin + scores - positive), off


def triplet_images_only(scores, margin):
    rows, _, off = _costs(scores, margin)
    return rows.clamp(min=0)[off].sum()


def triplet_captions_only(scores, margin):
    _, columns, off = _costs(scores, margin)
    return columns.clamp(min=0)[off].sum()


def triplet_with_positive(scores, margin):
    rows, columns, _ = _costs(scores, margin)
    return rows.clamp(min=0).sum() + columns.clamp(min=0).sum()


def triplet_uncut(scores, margin):
    rows, columns, off = _costs(scores, margin)
    return rows[off].sum() + columns[off].sum()


def triplet_turned(scores, margin):
    positive = scores.diag()
    off = ~torch.eye(len(scores), dtype=torch.bool)
    rows, columns = margin - scores + positive[:, None], margin - scores + positive
    return rows.clamp(min=0)[off].sum() + columns.clamp(min=0)[off].sum()


def triplet_batch_mean(scores, margin):
    rows, columns, off = _costs(scores, margin)
    return (rows.clamp(min=0)[off].sum() + columns.clamp(min=0)[off].sum()) / scores.shape[0]


def triplet_no_margin(scores, margin):
    rows, columns, off = _costs(scores, 0)
    return rows.clamp(min=0)[off].sum() + columns.clamp(min=0)[off].sum()


def triplet_rows_twice(scores, margin):
    total = 0
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                total = total + max(0, margin + float(scores[i, j]) - float(scores[i, i]))
                total = total + max(0, margin + float(scores[j, i]) - float(scores[j, j]))
    return total


def hardest_swapped(scores, margin, same_image):
    rows = (margin + scores - scores.diag()).clamp(min=0).masked_fill(same_image, 0).max(1).values
    columns = (margin + scores - scores.diag()[:, None]).clamp(min=0).masked_fill(same_image, 0).max(0).values
    return rows.sum() + columns.sum()


def hardest_rows_twice(scores, margin, same_image):
    return 2 * hardest(scores, margin, same_image, columns=False)


def hardest(scores, margin, same_image, diagonal_only=False, rows=True, columns=True, mask=True):
    never = torch.eye(len(scores), dtype=torch.bool) if diagonal_only else same_image
    total = 0
    if rows:
        cost = (margin + scores - scores.diag()[:, None]).clamp(min=0)
        total = total + (cost.masked_fill(never, 0) if mask else cost).max(1).values.sum()
    if columns:
        cost = (margin + scores - scores.diag()).clamp(min=0)
        total = total + (cost.masked_fill(never, 0) if mask else cost).max(0).values.sum()
    return total


def hardest_false_negatives(scores, margin, same_image):
    return hardest(scores, margin, same_image, diagonal_only=True)


def hardest_images_only(scores, margin, same_image):
    return hardest(scores, margin, same_image, columns=False)


def hardest_captions_only(scores, margin, same_image):
    return hardest(scores, margin, same_image, rows=False)


def hardest_all(scores, margin, same_image):
    rows, columns, _ = _costs(scores, margin)
    return sum(cost.clamp(min=0).masked_fill(same_image, 0).sum() for cost in (rows, columns))


def hardest_with_positive(scores, margin, same_image):
    return hardest(scores, margin, same_image, mask=False)


def hardest_mean(scores, margin, same_image):
    return hardest(scores, margin, same_image) / len(scores)


def hardest_detached(scores, margin, same_image):
    return hardest(scores.detach(), margin, same_image)


def hardest_zero_filled(scores, margin, same_image):
    negatives = scores * ~same_image
    worst = negatives.max(1).values + negatives.max(0).values
    return sum((margin + negatives.max(d).values - scores.diag()).clamp(min=0).sum() for d in (0, 1)) + 0 * worst.sum()


def nce_clip_tutorial(scores, temperature, same_image):
    """The best-known wrong CLIP loss: targets from similarities, softmaxed, instead of the pairs."""
    logits = scores / temperature
    targets = F.softmax((scores + scores.T) / 2 * temperature, dim=-1)
    images = (-targets.T * logits.T.log_softmax(-1)).sum(1)
    captions = (-targets * logits.log_softmax(-1)).sum(1)
    return ((images + captions) / 2).mean()


def nce_unmasked(scores, temperature, same_image):
    target = torch.arange(len(scores))
    logits = scores / temperature
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def nce_rows_only(scores, temperature, same_image):
    logits = (scores / temperature).masked_fill(same_image & ~torch.eye(len(scores), dtype=torch.bool), -math.inf)
    return F.cross_entropy(logits, torch.arange(len(scores)))


def nce_columns_only(scores, temperature, same_image):
    return nce_rows_only(scores.T, temperature, same_image.T)


def nce_both(scores, temperature, same_image):
    return nce_rows_only(scores, temperature, same_image) + nce_columns_only(scores, temperature, same_image)


def nce_times_temperature(scores, temperature, same_image):
    return nce_both(scores, 1 / temperature, same_image) / 2


def nce_unguarded_exp(scores, temperature, same_image):
    grown = (scores / temperature).exp().masked_fill(same_image & ~torch.eye(len(scores), dtype=torch.bool), 0)
    return -(torch.log(grown.diag() / grown.sum(1)) + torch.log(grown.diag() / grown.sum(0))).mean() / 2


def nce_softmax_log(scores, temperature, same_image):
    logits = (scores / temperature).masked_fill(same_image & ~torch.eye(len(scores), dtype=torch.bool), -math.inf)
    return -(logits.softmax(1).log().diag().mean() + logits.softmax(0).log().diag().mean()) / 2


def nce_diagonal_masked(scores, temperature, same_image):
    logits = (scores / temperature).masked_fill(same_image, -math.inf)
    target = torch.arange(len(scores))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def nce_zero_filled(scores, temperature, same_image):
    logits = scores / temperature * ~(same_image & ~torch.eye(len(scores), dtype=torch.bool))
    target = torch.arange(len(scores))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def nce_summed(scores, temperature, same_image):
    return nce_both(scores, temperature, same_image) / 2 * len(scores)


def batches_of_captions(image_of_caption, batch_size, rng):
    return np.array_split(rng.permutation(len(image_of_caption)), -(-len(image_of_caption) // batch_size))


def batches_one_caption_an_image(image_of_caption, batch_size, rng):
    chosen = [rng.choice(np.flatnonzero(image_of_caption == i)) for i in rng.permutation(image_of_caption.max() + 1)]
    return [np.array(chosen[s : s + batch_size]) for s in range(0, len(chosen), batch_size)]


def batches_of_images(image_of_caption, batch_size, rng):
    images = rng.permutation(image_of_caption.max() + 1)
    return [images[s : s + batch_size] for s in range(0, len(images), batch_size)] * 2


def _rounds(order, image_of_caption):
    seen: dict[int, int] = {}
    rounds: dict[int, list[int]] = {}
    for caption in order:
        image = image_of_caption[caption]
        turn = seen[image] = seen.get(image, -1) + 1
        rounds.setdefault(turn, []).append(caption)
    return list(rounds.values())


def batches_unshuffled(image_of_caption, batch_size, rng):
    return [
        r[s : s + batch_size]
        for r in _rounds(range(len(image_of_caption)), image_of_caption)
        for s in range(0, len(r), batch_size)
    ]


def batches_last_dropped(image_of_caption, batch_size, rng):
    rounds = [rng.permutation(r) for r in _rounds(range(len(image_of_caption)), image_of_caption)]
    return [r[s : s + batch_size] for r in rounds for s in range(0, len(r) - batch_size + 1, batch_size)]


def batches_whole_rounds(image_of_caption, batch_size, rng):
    return [rng.permutation(r) for r in _rounds(range(len(image_of_caption)), image_of_caption)]


def batches_of_one(image_of_caption, batch_size, rng):
    return [[caption] for caption in rng.permutation(len(image_of_caption))]


def batches_right(image_of_caption, batch_size, rng):
    rounds = _rounds(rng.permutation(len(image_of_caption)), image_of_caption)
    return [np.array(r[s : s + batch_size]) for r in rounds for s in range(0, len(r), batch_size)]


def batches_own_generator(image_of_caption, batch_size, rng):
    return batches_right(image_of_caption, batch_size, np.random.default_rng(0))


def batches_global_generator(image_of_caption, batch_size, rng):
    return batches_right(image_of_caption, batch_size, np.random)


def batches_shuffled_inside(image_of_caption, batch_size, rng):
    return [rng.permutation(batch) for batch in batches_unshuffled(image_of_caption, batch_size, rng)]


def batches_reversed(image_of_caption, batch_size, rng):
    return [batch[::-1] for batch in batches_unshuffled(image_of_caption, batch_size, rng)][::-1]


def batches_of_two(image_of_caption, batch_size, rng):
    return batches_right(image_of_caption, 2, rng)


def batches_one_too_small(image_of_caption, batch_size, rng):
    return batches_right(image_of_caption, batch_size - 1, rng)


def batches_in_place(image_of_caption, batch_size, rng):
    batches = batches_right(image_of_caption.copy(), batch_size, rng)
    image_of_caption[:] = -1
    return batches


def batches_missing(image_of_caption, batch_size, rng):
    batches_whole_rounds(image_of_caption, batch_size, rng)


def _sorted_sum(filled, weights, descending=True):
    ordered = filled.sort(1, descending=descending).values
    return torch.einsum("bk,bkd->bd", weights, ordered)


def pool_zero_padding(tokens, mask, weights):
    return _sorted_sum(tokens * mask[..., None], weights)


def pool_padding_as_is(tokens, mask, weights):
    return _sorted_sum(tokens, weights)


def pool_nan(tokens, mask, weights):
    return _sorted_sum(tokens.masked_fill(~mask[..., None], -math.inf), weights)


def pool_upwards(tokens, mask, weights):
    ordered = tokens.masked_fill(~mask[..., None], math.inf).sort(1).values.nan_to_num(posinf=0)
    return torch.einsum("bk,bkd->bd", weights, ordered)


def pool_unsorted(tokens, mask, weights):
    return (tokens * mask[..., None] * weights[..., None]).sum(1)


def pool_mean(tokens, mask, weights):
    return (tokens * mask[..., None]).sum(1) / mask.sum(1)[:, None]


def pool_max(tokens, mask, weights):
    return tokens.masked_fill(~mask[..., None], -math.inf).max(1).values


def pool_upwards_after_inf(tokens, mask, weights):
    ordered = tokens.masked_fill(~mask[..., None], -math.inf).sort(1).values.nan_to_num(neginf=0)
    return torch.einsum("bk,bkd->bd", weights, ordered)


def pool_mask_turned(tokens, mask, weights):
    ordered = tokens.masked_fill(mask[..., None], -math.inf).sort(1, descending=True).values.nan_to_num(neginf=0)
    return torch.einsum("bk,bkd->bd", weights, ordered)


def pool_old_mask(tokens, mask, weights):
    ordered = tokens.masked_fill(~mask[..., None], -1e9).sort(1, descending=True).values
    return torch.einsum("bk,bkd->bd", weights, torch.where(mask[..., None], ordered, 0))


def pool_numpy(tokens, mask, weights):
    result = []
    for row, real, theta in zip(tokens.detach().numpy(), mask.numpy(), weights.numpy(), strict=True):
        ordered = -np.sort(-row[real], axis=0)
        result.append((theta[: len(ordered), None] * ordered).sum(0))
    return torch.from_numpy(np.stack(result))


def twin_rows(scores):
    pairs = scores.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).diagonal(dim1=0, dim2=2)
    own, other = pairs.diagonal(), torch.stack([pairs[0, 1], pairs[1, 0]], 1)
    return 100 * float(((own > other).double() + 0.5 * (own == other).double()).mean())


def _columns(scores):
    own, other = [], []
    for k in range(0, len(scores), 2):
        own += [scores[k, k], scores[k + 1, k + 1]]
        other += [scores[k + 1, k], scores[k, k + 1]]
    return torch.stack(own), torch.stack(other)


def twin_ties_lose(scores):
    own, other = _columns(scores)
    return 100 * float((own > other).double().mean())


def twin_ties_win(scores):
    own, other = _columns(scores)
    return 100 * float((own >= other).double().mean())


def twin_recall(scores):
    return 100 * float((scores.argmax(0) == torch.arange(len(scores))).double().mean())


def twin_fraction(scores):
    own, other = _columns(scores)
    return float(((own > other).double() + 0.5 * (own == other).double()).mean())


def twin_first_only(scores):
    own, other = (side[::2] for side in _columns(scores))
    return 100 * float(((own > other).double() + 0.5 * (own == other).double()).mean())


WRONG = {
    "triplet-loop": [
        (triplet_images_only, "only images ask"),
        (triplet_captions_only, "only captions ask"),
        (triplet_with_positive, "its own negative"),
        (triplet_uncut, "cut each term off"),
        (triplet_turned, "sign is turned"),
        (triplet_batch_mean, "divided by the batch"),
        (triplet_no_margin, "margin is missing"),
        (triplet_rows_twice, "rows are counted twice"),
    ],
    "triplet-hardest": [
        (hardest_false_negatives, "use same_image"),
        (hardest_images_only, "only images ask"),
        (hardest_captions_only, "only captions ask"),
        (hardest_all, "only the worst one"),
        (hardest_with_positive, "positive takes part"),
        (hardest_mean, "divided by the batch"),
        (hardest_detached, "an operation without a gradient"),
        (hardest_swapped, "that of the candidate"),
        (hardest_rows_twice, "rows are counted twice"),
        (
            lambda scores, margin, same_image: hardest(scores, margin, same_image).item(),
            "an operation without a gradient",
        ),
    ],
    "info-nce": [
        (nce_unmasked, "below the line"),
        (nce_rows_only, "only images ask"),
        (nce_columns_only, "only captions ask"),
        (nce_both, "directions are added"),
        (nce_times_temperature, "not multiplied"),
        (nce_unguarded_exp, "exp overflows"),
        (nce_softmax_log, "gradient by scores is NaN"),
        (nce_diagonal_masked, "positives are masked"),
        (nce_zero_filled, "e^0 = 1"),
        (nce_summed, "sum over queries"),
        (nce_clip_tutorial, "targets made from similarities"),
    ],
    "unique-batches": [
        (batches_of_captions, "two captions of one picture"),
        (batches_one_caption_an_image, "one caption an image for the whole epoch"),
        (batches_of_images, "are these images?"),
        (batches_unshuffled, "another rng gave the same batches"),
        (batches_last_dropped, "never come"),
        (batches_whole_rounds, "more than batch_size"),
        (batches_of_one, "no query has a negative"),
        (batches_missing, "returned None"),
        (batches_own_generator, "another rng gave the same batches"),
        (batches_global_generator, "same rng gave two different epochs"),
        (batches_shuffled_inside, "another rng gave the same batches"),
        (batches_reversed, "another rng gave the same batches"),
        (batches_of_two, "fill them"),
        (batches_one_too_small, "fill them"),
        (batches_in_place, "changes its input image_of_caption in place"),
    ],
    "sorted-pool": [
        (pool_zero_padding, "stands before the negative values"),
        (pool_padding_as_is, "as it came"),
        (pool_nan, "-inf times a weight of 0"),
        (pool_upwards, "sorted upwards"),
        (pool_unsorted, "nothing is sorted"),
        (pool_mean, "mean pooling"),
        (pool_max, "max pooling"),
        (pool_numpy, "gradient"),
        (pool_upwards_after_inf, "it stands first"),
        (pool_mask_turned, "give it ~mask"),
        (pool_old_mask, "no longer fits"),
    ],
    "twin-choices": [
        (twin_rows, "two captions for one picture"),
        (twin_ties_lose, "a tie counts one half: who"),
        (twin_ties_win, "not a whole"),
        (twin_recall, "R@1"),
        (twin_fraction, "fraction"),
        (twin_first_only, "only the first caption"),
    ],
}
