"""Answers to the exercises of lesson 01: right ones, other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

# --- the triplet losses ----------------------------------------------------------------------------------------------


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


# --- triplet-loop, further -------------------------------------------------------------------------------------------


def triplet_loops(scores, margin, start=lambda i: 0, stop=0, first=None, margin_outside=False):
    """Loops as learners write them, with what they change in them."""
    total = torch.zeros((), dtype=scores.dtype)
    for i in range(len(scores) - stop):
        for j in range(start(i), len(scores) - stop):
            if i == j:
                continue
            for negative in (scores[i, j], scores[j, i]):
                if margin_outside:
                    total = total + margin + torch.relu(negative - scores[i, i])
                else:
                    total = total + torch.relu(margin + negative - scores[i, i])
        if first == "query":
            return total
    return total


def triplet_accumulator(scores, margin):
    """Right: an accumulator of shape (1,)."""
    total = torch.zeros(1)
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                total += torch.relu(margin + scores[i, j] - scores[i, i]).float()
                total += torch.relu(margin + scores[j, i] - scores[i, i]).float()
    return total


def triplet_with_python_numbers(scores, margin):
    total = 0
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                total = total + max(0, margin + float(scores[i, j] - scores[i, i]))
                total = total + max(0, margin + float(scores[j, i] - scores[i, i]))
    return total


def triplet_numpy(scores, margin):
    table = scores.numpy()
    own = np.diag(table)
    costs = np.maximum(0, margin + table - own[:, None]) + np.maximum(0, margin + table - own[None, :])
    return (costs * (1 - np.eye(len(table)))).sum()


def triplet_returned_early(scores, margin):
    total = 0
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                total = total + max(0, margin + scores[i, j] - scores[i, i])
                total = total + max(0, margin + scores[j, i] - scores[i, i])
                return total
    return total


def triplet_reset(scores, margin):
    for i in range(len(scores)):
        total = torch.zeros((), dtype=scores.dtype)
        for j in range(len(scores)):
            if i != j:
                total += torch.relu(margin + scores[i, j] - scores[i, i]) + torch.relu(
                    margin + scores[j, i] - scores[i, i]
                )
    return total


def triplet_spoils_scores(scores, margin):
    own = scores.diag().clone()
    scores -= own[:, None]
    return torch.relu(margin + scores)[~torch.eye(len(scores), dtype=torch.bool)].sum()


def triplet_joint_bracket(scores, margin):
    total = 0
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                total += max(0, 2 * margin + scores[i, j] + scores[j, i] - 2 * scores[i, i])
    return total


def triplet_cut_at_the_end(scores, margin):
    return triplet_uncut(scores, margin).clamp(min=0)


def triplet_upper_images_only(scores, margin):
    size = len(scores)
    return sum(torch.relu(margin + scores[i, j] - scores[i, i]) for i in range(size) for j in range(i + 1, size))


def triplet_margin_away(scores, margin):
    return triplet_no_margin(scores, margin) - margin * 0


def triplet_squared(scores, margin):
    rows, columns, off = _costs(scores, margin)
    return (rows.clamp(min=0)[off] ** 2).sum() + (columns.clamp(min=0)[off] ** 2).sum()


# --- triplet-hardest, further ----------------------------------------------------------------------------------------


def hardest_filled(scores, margin, same_image, fill=-math.inf, relu=True):
    filled = scores.masked_fill(same_image, fill)
    rows, columns = (margin + filled.max(d).values - scores.diag() for d in (1, 0))
    return rows.relu().sum() + columns.relu().sum() if relu else rows.sum() + columns.sum()


def hardest_in_loops(scores, margin, same_image):
    total = 0 * scores.sum()
    for i in range(len(scores)):
        for table, mask in ((scores, same_image), (scores.T, same_image.T)):
            worst = 0.0
            for j in range(len(scores)):
                if not mask[i, j]:
                    cost = margin + table[i, j] - scores[i, i]
                    if cost > worst:
                        worst = cost
            total = total + worst
    return total


def hardest_numpy(scores, margin, same_image):
    table, mask = scores.detach().numpy(), same_image.numpy()
    filled = np.where(mask, -np.inf, table)
    own = np.diag(table)
    return sum(np.maximum(0, margin + filled.max(axis) - own).sum() for axis in (0, 1))


def hardest_rows_masked_alone(scores, margin, same_image):
    own = scores.diag()
    rows = (margin + scores - own[:, None]).clamp(min=0).masked_fill(same_image, 0).amax(1)
    columns = (margin + scores - own[None]).clamp(min=0).fill_diagonal_(0).amax(0)
    return rows.sum() + columns.sum()


def hardest_columns_unmasked(scores, margin, same_image):
    own = scores.diag()
    rows = (margin + scores - own[:, None]).clamp(min=0).masked_fill(same_image, 0).amax(1)
    return rows.sum() + (margin + scores - own[None]).clamp(min=0).amax(0).sum()


def hardest_margin_outside(scores, margin, same_image):
    own = scores.diag()
    rows = margin + (scores - own[:, None]).clamp(min=0).masked_fill(same_image, 0).amax(1)
    columns = margin + (scores - own[None]).clamp(min=0).masked_fill(same_image, 0).amax(0)
    return rows.sum() + columns.sum()


def hardest_mask_turned(scores, margin, same_image):
    own = scores.diag()
    rows = (margin + scores - own[:, None]).clamp(min=0).masked_fill(~same_image, 0).amax(1)
    columns = (margin + scores - own[None]).clamp(min=0).masked_fill(~same_image, 0).amax(0)
    return rows.sum() + columns.sum()


def hardest_of_the_batch(scores, margin, same_image):
    own = scores.diag()
    rows = (margin + scores - own[:, None]).clamp(min=0).masked_fill(same_image, 0).max()
    columns = (margin + scores - own[None]).clamp(min=0).masked_fill(same_image, 0).max()
    return rows + columns


def hardest_worse_direction(scores, margin, same_image):
    own = scores.diag()
    rows = (margin + scores - own[:, None]).clamp(min=0).masked_fill(same_image, 0).amax(1)
    columns = (margin + scores - own[None]).clamp(min=0).masked_fill(same_image, 0).amax(0)
    return torch.maximum(rows, columns).sum()


def hardest_unfinished_max(scores, margin, same_image):
    cost = (margin + scores - scores.diag()[:, None]).clamp(min=0).masked_fill(same_image, 0)
    return cost.max(dim=1)


def hardest_one_a_query(scores, margin, same_image):
    own = scores.diag()
    rows = (margin + scores - own[:, None]).clamp(min=0).masked_fill(same_image, 0).amax(1)
    columns = (margin + scores - own[None]).clamp(min=0).masked_fill(same_image, 0).amax(0)
    return rows + columns


def hardest_easiest(scores, margin, same_image):
    filled = scores.masked_fill(same_image, math.inf)
    return sum((margin + filled.amin(d) - scores.diag()).relu().nan_to_num(posinf=0).sum() for d in (0, 1))


def hardest_in_place(scores, margin, same_image):
    with torch.no_grad():
        scores[same_image] = -1
    return hardest(scores, margin, same_image)


def hardest_mean_and_unmasked(scores, margin, same_image):
    """Two mistakes at once."""
    return hardest(scores, margin, same_image, diagonal_only=True) / len(scores)


# --- warm-up ---------------------------------------------------------------------------------------------------------


def warm(
    scores, margin, same_image, epoch, warmup_epochs, early=lambda e, w: e < w, all_over=None, hard_over=None,
    all_mask=True, hard_mask=True, hard=None, both=False,
):  # fmt: skip
    size, own = len(scores), scores.diagonal()
    eye = torch.eye(size, dtype=torch.bool)
    mask = same_image if (all_mask if early(epoch, warmup_epochs) else hard_mask) else eye
    rows = (margin + scores - own[:, None]).relu().masked_fill(mask, 0)
    columns = (margin + scores - own[None]).relu().masked_fill(mask, 0)
    everything, worst = rows.sum() + columns.sum(), rows.amax(1).sum() + columns.amax(0).sum()
    if both and early(epoch, warmup_epochs):
        return (everything + worst) / size
    if early(epoch, warmup_epochs):
        return everything / (all_over or size)
    return worst / (hard_over or size)


def warm_but(**options):
    return lambda scores, margin, same_image, epoch, warmup_epochs: warm(
        scores, margin, same_image, epoch, warmup_epochs, **options
    )


def warm_undivided(scores, margin, same_image, epoch, warmup_epochs):
    return warm(scores, margin, same_image, epoch, warmup_epochs) * len(scores)


def warm_mean_of_costs(scores, margin, same_image, epoch, warmup_epochs):
    own = scores.diagonal()
    rows = (margin + scores - own[:, None]).relu().masked_fill(same_image, 0)
    columns = (margin + scores - own[None]).relu().masked_fill(same_image, 0)
    if epoch < warmup_epochs:
        return rows.mean() + columns.mean()
    return rows.amax(1).mean() + columns.amax(0).mean()


def warm_mean_of_both(scores, margin, same_image, epoch, warmup_epochs):
    return warm(scores, margin, same_image, epoch, warmup_epochs) / 2


def warm_images_only(scores, margin, same_image, epoch, warmup_epochs):
    rows = (margin + scores - scores.diagonal()[:, None]).relu().masked_fill(same_image, 0)
    return (rows.sum() if epoch < warmup_epochs else rows.amax(1).sum()) / len(scores)


def warm_no_return(scores, margin, same_image, epoch, warmup_epochs):
    if epoch < warmup_epochs:
        return warm(scores, margin, same_image, epoch, warmup_epochs)


def warm_detached(scores, margin, same_image, epoch, warmup_epochs):
    return warm(scores.detach(), margin, same_image, epoch, warmup_epochs)


def warm_calls_the_others(scores, margin, same_image, epoch, warmup_epochs):
    """Right: made of the loss for later epochs, and of a masked sum."""
    if epoch >= warmup_epochs:
        return hardest(scores, margin, same_image) / len(scores)
    rows, columns, _ = _costs(scores, margin)
    return (rows.relu()[~same_image].sum() + columns.relu()[~same_image].sum()) / scores.shape[0]


# --- info-nce, further -----------------------------------------------------------------------------------------------


def nce_filled(scores, temperature, same_image, fill=-100.0):
    logits = (scores / temperature).masked_fill(same_image & ~torch.eye(len(scores), dtype=torch.bool), fill)
    target = torch.arange(len(scores))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def nce_by_hand(scores, temperature, same_image, add_back=True):
    """logsumexp by hand, with the maximum taken out."""
    logits = (scores / temperature).masked_fill(same_image & ~torch.eye(len(scores), dtype=torch.bool), -math.inf)
    total = 0
    for table in (logits, logits.T):
        top = table.max(dim=1, keepdim=True).values
        lse = (table - top).exp().sum(1).log() + (top[:, 0] if add_back else 0)
        total = total + (lse - table.diag()).mean()
    return total / 2


def nce_in_loops(scores, temperature, same_image):
    size, total = len(scores), 0
    for i in range(size):
        rows = torch.stack([scores[i, j] for j in range(size) if i == j or not same_image[i, j]]) / temperature
        columns = torch.stack([scores[j, i] for j in range(size) if i == j or not same_image[j, i]]) / temperature
        total = total + rows.logsumexp(0) + columns.logsumexp(0) - 2 * scores[i, i] / temperature
    return total / (2 * size)


def nce_columns_unmasked(scores, temperature, same_image):
    logits = scores / temperature
    masked = logits.masked_fill(same_image & ~torch.eye(len(scores), dtype=torch.bool), -math.inf)
    target = torch.arange(len(scores))
    return (F.cross_entropy(masked, target) + F.cross_entropy(logits.T, target)) / 2


def nce_with_epsilon(scores, temperature, same_image):
    logits = (scores / temperature).masked_fill(same_image & ~torch.eye(len(scores), dtype=torch.bool), -math.inf)
    return -((logits.softmax(1).diag() + 1e-8).log().mean() + (logits.softmax(0).diag() + 1e-8).log().mean()) / 2


def nce_without_positive(scores, temperature, same_image):
    logits = (scores / temperature).masked_fill(same_image, -math.inf)
    own = scores.diag() / temperature
    return (logits.logsumexp(1) - own + logits.logsumexp(0) - own).mean() / 2


def nce_log2(scores, temperature, same_image):
    return nce_in_loops(scores, temperature, same_image) / math.log(2)


def nce_log_likelihood(scores, temperature, same_image):
    return -nce_in_loops(scores, temperature, same_image)


def nce_softmax_first(scores, temperature, same_image):
    logits = (scores / temperature).masked_fill(same_image & ~torch.eye(len(scores), dtype=torch.bool), -math.inf)
    target = torch.arange(len(scores))
    return (F.cross_entropy(logits.softmax(1), target) + F.cross_entropy(logits.T.softmax(1), target)) / 2


def nce_no_temperature(scores, temperature, same_image):
    return nce_in_loops(scores, 1.0, same_image)


def nce_each_query(scores, temperature, same_image):
    logits = (scores / temperature).masked_fill(same_image & ~torch.eye(len(scores), dtype=torch.bool), -math.inf)
    return -(logits.log_softmax(1).diag() + logits.log_softmax(0).diag()) / 2


def nce_unmasked_sum(scores, temperature, same_image):
    """Two mistakes at once."""
    return nce_unmasked(scores, temperature, same_image) * len(scores)


# --- unique-batches, further -----------------------------------------------------------------------------------------


def batches_first_fit(image_of_caption, batch_size, rng):
    """Right: each caption goes to the first batch with room and without its picture."""
    batches, pictures = [], []
    for caption in rng.permutation(len(image_of_caption)):
        image = int(image_of_caption[caption])
        for batch, held in zip(batches, pictures, strict=True):
            if len(batch) < batch_size and image not in held:
                break
        else:
            batch, held = [], set()
            batches.append(batch)
            pictures.append(held)
        batch.append(int(caption))
        held.add(image)
    return batches


def batches_same_company(image_of_caption, batch_size, rng):
    """Images are shuffled once, and every round takes them in that order."""
    order = rng.permutation(image_of_caption.max() + 1)
    captions = {i: list(rng.permutation(np.flatnonzero(image_of_caption == i))) for i in order}
    batches = []
    while any(captions.values()):
        turn = [captions[i].pop() for i in order if captions[i]]
        batches += [np.array(turn[s : s + batch_size]) for s in range(0, len(turn), batch_size)]
    return batches


def batches_only_order_shuffled(image_of_caption, batch_size, rng):
    batches = batches_unshuffled(image_of_caption, batch_size, rng)
    return [batches[i] for i in rng.permutation(len(batches))]


def batches_any_of_fixed_images(image_of_caption, batch_size, rng):
    """Chance decides which caption an image gives, and no more."""
    rounds = [
        sorted(r, key=lambda c: image_of_caption[c])
        for r in _rounds(rng.permutation(len(image_of_caption)), image_of_caption)
    ]
    return [np.array(r[s : s + batch_size]) for r in rounds for s in range(0, len(r), batch_size)]


def batches_flat(image_of_caption, batch_size, rng):
    return rng.permutation(len(image_of_caption))


def batches_yielded(image_of_caption, batch_size, rng):
    yield from batches_right(image_of_caption, batch_size, rng)


def batches_as_floats(image_of_caption, batch_size, rng):
    return [batch.astype(float) for batch in batches_right(image_of_caption, batch_size, rng)]


def batches_as_masks(image_of_caption, batch_size, rng):
    return [
        np.isin(np.arange(len(image_of_caption)), batch) for batch in batches_right(image_of_caption, batch_size, rng)
    ]


def batches_from_one(image_of_caption, batch_size, rng):
    return [batch + 1 for batch in batches_right(image_of_caption, batch_size, rng)]


def batches_padded(image_of_caption, batch_size, rng):
    return [
        np.pad(batch, (0, batch_size - len(batch)), constant_values=-1)
        for batch in batches_right(image_of_caption, batch_size, rng)
    ]


def batches_with_pairs(image_of_caption, batch_size, rng):
    return [[(c, image_of_caption[c]) for c in batch] for batch in batches_right(image_of_caption, batch_size, rng)]


def batches_as_dict(image_of_caption, batch_size, rng):
    return dict(enumerate(batches_right(image_of_caption, batch_size, rng)))


def batches_filled_up(image_of_caption, batch_size, rng):
    rounds = _rounds(rng.permutation(len(image_of_caption)), image_of_caption)
    return [np.array((r + r)[s : s + batch_size]) for r in rounds for s in range(0, len(r), batch_size)]


# --- sorted-pool, further --------------------------------------------------------------------------------------------


def pool_filled(tokens, mask, weights, fill=-math.inf):
    ordered = tokens.masked_fill(~mask[..., None], fill).sort(dim=1, descending=True).values
    beyond = torch.arange(mask.shape[1])[None] >= mask.sum(1, keepdim=True)
    return (ordered.masked_fill(beyond[..., None], 0) * weights[..., None]).sum(1)


def pool_fill_left_in(fill):
    return lambda tokens, mask, weights: _sorted_sum(tokens.masked_fill(~mask[..., None], fill), weights)


def pool_in_loops(tokens, mask, weights):
    rows = []
    for row, real, theta in zip(tokens, mask, weights, strict=True):
        kept = row[real].sort(dim=0, descending=True).values
        rows.append((kept * theta[: len(kept), None]).sum(0))
    return torch.stack(rows)


def pool_with(change):
    return lambda tokens, mask, weights: pool_filled(tokens, mask, change(weights, mask))


def pool_features(tokens, mask, weights):
    ordered = tokens.masked_fill(~mask[..., None], 0).sort(dim=-1, descending=True).values
    return (ordered * weights[..., None]).sum(1)


def pool_argsort_of_first(tokens, mask, weights):
    order = tokens.masked_fill(~mask[..., None], -1e30)[..., 0].argsort(1, descending=True)
    ordered = torch.stack([row[o] for row, o in zip(tokens * mask[..., None], order, strict=True)])
    return torch.einsum("bk,bkd->bd", weights, ordered)


def pool_not_summed(tokens, mask, weights):
    ordered = tokens.masked_fill(~mask[..., None], -1e30).sort(1, descending=True).values
    return ordered.masked_fill(ordered < -1e29, 0) * weights[..., None]


def pool_in_place(tokens, mask, weights):
    with torch.no_grad():
        tokens[~mask] = 0
    return pool_filled(tokens, mask, weights)


def pool_sort_pair(tokens, mask, weights):
    return tokens.masked_fill(~mask[..., None], -1e30).sort(dim=1, descending=True)


# --- twin-choices, further -------------------------------------------------------------------------------------------


def twin_in_float32(scores):
    j = torch.arange(len(scores))
    gap = scores[j, j] - scores[j ^ 1, j]
    return 100 * ((gap > 0).float() + 0.5 * (gap == 0).float()).mean()


def twin_in_loops(scores):
    points = 0
    for j in range(len(scores)):
        twin = j + 1 if j % 2 == 0 else j - 1
        if scores[j, j] > scores[twin, j]:
            points += 1
        elif scores[j, j] == scores[twin, j]:
            points += 0.5
    return 100 * points / len(scores)


def twin_next(scores):
    j = torch.arange(len(scores))
    gap = scores[j, j] - scores[(j + 1) % len(scores), j]
    return 100 * float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())


def twin_both(scores):
    own, other = _columns(scores)
    return 100 * float(((own > other)[::2] & (own > other)[1::2]).double().mean())


def twin_count(scores):
    own, other = _columns(scores)
    return float(((own > other).double() + 0.5 * (own == other).double()).sum())


def twin_over_pairs(scores):
    return 2 * twin_in_loops(scores)


def twin_wrong_share(scores):
    return 100 - twin_in_loops(scores)


def twin_returned_early(scores):
    for j in range(len(scores)):
        own, other = scores[j, j], scores[j ^ 1, j]
        return 100 * (1.0 if own > other else 0.5 if own == other else 0.0)


def twin_rows_ties_lose(scores):
    """Two mistakes at once."""
    return twin_ties_lose(scores.T)


# --- training-loop ---------------------------------------------------------------------------------------------------


def loop(
    model, objective, batches_of, optimizer, schedule, epochs, validate,
    train="epoch", wipe="before", clip="norm", order="right", when="batch", keep="item", give="means",
    batches=lambda all_of_them: all_of_them, validated="epoch", of_epoch=lambda e: e, told_epoch=lambda e: e,
    count=lambda e: e, most=2.0,
):  # fmt: skip
    """The loop with what learners change in it."""
    means, every = [], []
    if train == "once":
        model.train()
    for epoch in range(count(epochs)):
        if train == "epoch":
            model.train()
        losses = []
        if wipe == "epoch":
            optimizer.zero_grad()
        for batch in batches(list(batches_of(of_epoch(epoch)))):
            loss = objective(model, batch, told_epoch(epoch))
            if wipe == "before":
                optimizer.zero_grad()
            if order == "step first" and every:
                optimizer.step()
            if order == "schedule first":
                schedule.step()
            if clip == "early":
                clip_grad_norm_(model.parameters(), most)
            loss.backward()
            if wipe == "after backward":
                optimizer.zero_grad()
            if clip == "norm":
                clip_grad_norm_(model.parameters(), most)
            if clip == "value":
                clip_grad_value_(model.parameters(), most)
            if order != "step first" and when != "epoch steps":
                optimizer.step()
            if wipe == "after step":
                optimizer.zero_grad()
            if order != "schedule first" and when == "batch":
                schedule.step()
            losses.append(loss.item() if keep == "item" else loss)
            every.append(loss.item())
            if validated == "batch":
                validate(epoch)
        if when == "epoch":
            schedule.step()
        if when == "epoch steps":
            optimizer.step()
            schedule.step()
        means.append(sum(losses) / len(losses))
        if validated == "epoch":
            validate(epoch)
    return {"means": means, "last": means[-1], "every": every, "sum": sum(every)}[give]


def loop_but(**options):
    return lambda **inputs: loop(**inputs, **options)


def loop_detached(model, objective, batches_of, optimizer, schedule, epochs, validate):
    for epoch in range(epochs):
        model.train()
        for batch in batches_of(epoch):
            loss = objective(model, batch, epoch).detach()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def loop_one_epoch(model, objective, batches_of, optimizer, schedule, epochs, validate):
    means = []
    for _ in range(epochs):
        means += loop(model, objective, batches_of, optimizer, schedule, 1, validate)
        return means


def loop_one_batch(model, objective, batches_of, optimizer, schedule, epochs, validate):
    for epoch in range(epochs):
        model.train()
        for batch in batches_of(epoch):
            loss = objective(model, batch, epoch)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            return [loss.item()]


def loop_same_batch(model, objective, batches_of, optimizer, schedule, epochs, validate):
    first = next(iter(batches_of(0)))

    def batches(epoch):
        return [first for _ in batches_of(epoch)] if epoch else [first] * 4

    return loop(model, objective, batches, optimizer, schedule, epochs, validate)


def loop_yields(model, objective, batches_of, optimizer, schedule, epochs, validate):
    yield from loop(model, objective, batches_of, optimizer, schedule, epochs, validate)


def loop_needs_a_length(model, objective, batches_of, optimizer, schedule, epochs, validate):
    steps = []

    def counted(epoch):
        batches = batches_of(epoch)
        steps.append(len(batches))
        return batches

    return loop(model, objective, counted, optimizer, schedule, epochs, validate)


def loop_forgets(model, objective, batches_of, optimizer, schedule, epochs, validate):
    loop(model, objective, batches_of, optimizer, schedule, epochs, validate)


def loop_last_losses(model, objective, batches_of, optimizer, schedule, epochs, validate):
    last = []

    def watched(model, batch, epoch):
        loss = objective(model, batch, epoch)
        last[epoch:] = [loss.item()]
        return loss

    loop(model, watched, batches_of, optimizer, schedule, epochs, validate)
    return last


def loop_sum_not_reset(model, objective, batches_of, optimizer, schedule, epochs, validate):
    means, total = [], 0.0
    for epoch in range(epochs):
        model.train()
        steps = 0
        for batch in batches_of(epoch):
            loss = objective(model, batch, epoch)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            total, steps = total + loss.item(), steps + 1
        means.append(total / steps)
        validate(epoch)
    return means


def loop_by_hand_too(model, objective, batches_of, optimizer, schedule, epochs, validate):
    """The optimizer steps, and the learner moves the weights once more."""
    means = loop(model, objective, batches_of, optimizer, schedule, epochs, validate)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    return means


def loop_copy(model, objective, batches_of, optimizer, schedule, epochs, validate):
    other = torch.nn.Linear(2, 1, dtype=torch.float64)
    return loop(other, objective, batches_of, optimizer, schedule, epochs, validate)


def loop_no_backward(model, objective, batches_of, optimizer, schedule, epochs, validate):
    means = []
    for epoch in range(epochs):
        model.train()
        losses = []
        for batch in batches_of(epoch):
            losses.append(objective(model, batch, epoch).item())
            optimizer.zero_grad()
            optimizer.step()
            schedule.step()
        means.append(sum(losses) / len(losses))
        validate(epoch)
    return means


# --- met in answers that nobody had foreseen --------------------------------------------------------------------------


def nce_positive_at_minus_10000(scores, temperature, same_image):
    """Masks the diagonal as well, filled with a large negative number."""
    z = (scores / temperature).masked_fill(same_image, -1e4)
    return -(z.log_softmax(1).diagonal().mean() + z.log_softmax(0).diagonal().mean()) / 2


def nce_mean_of_the_kept(scores, temperature, same_image):
    """Mean over all entries that are not masked, not only the diagonal."""
    eye = torch.eye(len(scores), dtype=torch.bool)
    z = (scores / temperature).masked_fill(same_image & ~eye, -1e9)
    keep = ~(same_image & ~eye)
    return -(z.log_softmax(1)[keep].mean() + z.log_softmax(0)[keep].mean()) / 2


def nce_cosines_again(scores, temperature, same_image):
    """Normalises scores by their largest first (cosines again)."""
    eye = torch.eye(len(scores), dtype=torch.bool)
    s = scores / scores.abs().max().clamp(min=1e-9)
    z = (s / temperature).masked_fill(same_image & ~eye, -torch.inf)
    return -(z.log_softmax(1).diagonal().mean() + z.log_softmax(0).diagonal().mean()) / 2


def nce_sigmoid(scores, temperature, same_image):
    """Binary cross-entropy per pair (sigmoid)."""
    z = scores / temperature
    return F.binary_cross_entropy_with_logits(z, same_image.to(z.dtype))


def pool_by_length(tokens, mask, weights):
    """Whole vectors are sorted by their length, instead of each dimension."""
    n = tokens.norm(dim=-1).masked_fill(~mask, -torch.inf)
    order = n.argsort(dim=1, descending=True)
    s = tokens.masked_fill(~mask[..., None], 0).gather(1, order[..., None].expand_as(tokens))
    return (s * weights[..., None]).sum(1)


def pool_mean_upwards(tokens, mask, weights):
    """Two mistakes: mean over the places instead of sum, ascending with padding 0."""
    s = tokens.masked_fill(~mask[..., None], 0).sort(dim=1).values
    return (s * weights[..., None]).mean(1)


def pool_first_weights_sorted(tokens, mask, weights):
    """Two mistakes: weights of set 0 for all sets, sorted by size themselves."""
    s = tokens.masked_fill(~mask[..., None], -torch.inf).sort(dim=1, descending=True).values
    s = s.masked_fill(s == -torch.inf, 0)
    w = weights[0].sort(descending=True).values
    return torch.einsum("bkd,k->bd", s, w)


def pool_soft_over_size(tokens, mask, weights):
    """Two mistakes: divides by the number of real values, and softmax of the weights over the places."""
    s = tokens.masked_fill(~mask[..., None], -torch.inf).sort(dim=1, descending=True).values
    s = s.masked_fill(s == -torch.inf, 0)
    return (s * weights.softmax(1)[..., None]).sum(1) / mask.sum(1)[:, None]


def pool_first_weight_alone(tokens, mask, weights):
    """Maximum only times the first weight."""
    s = tokens.masked_fill(~mask[..., None], -torch.inf).amax(1)
    return s * weights[:, :1]


def pool_order_by_size(tokens, mask, weights):
    """Absolute values decide the order."""
    key = tokens.abs().masked_fill(~mask[..., None], -1)
    order = key.argsort(dim=1, descending=True)
    s = tokens.masked_fill(~mask[..., None], 0).gather(1, order)
    return (s * weights[..., None]).sum(1)


def loop_batches_once(model, objective, batches_of, optimizer, schedule, epochs, validate):
    """Batches drawn once, before the loop: every epoch gets those of epoch 0."""
    batches = list(batches_of(0))
    out = []
    for epoch in range(epochs):
        model.train()
        losses = []
        for batch in batches:
            loss = objective(model, batch, epoch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        out.append(sum(losses) / len(losses))
        validate(epoch)
    return out


def loop_clips_each_parameter(model, objective, batches_of, optimizer, schedule, epochs, validate):
    """Clips each parameter for itself."""
    out = []
    for epoch in range(epochs):
        model.train()
        losses = []
        for batch in batches_of(epoch):
            loss = objective(model, batch, epoch)
            optimizer.zero_grad()
            loss.backward()
            for p in model.parameters():
                torch.nn.utils.clip_grad_norm_(p, 2.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        out.append(sum(losses) / len(losses))
        validate(epoch)
    return out


def loop_one_mean(model, objective, batches_of, optimizer, schedule, epochs, validate):
    """One mean over all epochs, as a number."""
    losses = []
    for epoch in range(epochs):
        model.train()
        for batch in batches_of(epoch):
            loss = objective(model, batch, epoch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        validate(epoch)
    return sum(losses) / len(losses)


def hardest_unhinged_at_minus_10000(scores, margin, same_image):
    """No hinge: an image that has won by more than the margin is paid back."""
    p = scores.diagonal()
    s = scores.masked_fill(same_image, -1e4)
    return (margin + s.amax(1) - p).sum() + (margin + s.amax(0) - p).sum()


def hardest_images_over_batch(scores, margin, same_image):
    """Two mistakes: captions do not ask, and divided by B."""
    p = scores.diagonal()
    a = (margin + scores - p[:, None]).clamp(min=0).masked_fill(same_image, 0)
    return a.amax(1).sum() / len(scores)


def hardest_joint_hinge(scores, margin, same_image):
    """Two mistakes: the hinge over the sum of both directions, matches filled with -1 (cosines assumed)."""
    p = scores.diagonal()
    s = scores.masked_fill(same_image, -1)
    return (2 * margin + s.amax(1) + s.amax(0) - 2 * p).clamp(min=0).sum()


def hardest_at_minus_10000(scores, margin, same_image):
    """Fills with -1e4."""
    p = scores.diagonal()
    s = scores.masked_fill(same_image, -1e4)
    return (margin + s.amax(1) - p).clamp(min=0).sum() + (margin + s.amax(0) - p).clamp(min=0).sum()


def hardest_semi(scores, margin, same_image):
    """The hardest of the harmless: negatives above the positive are left out (semi-hard)."""
    p = scores.diagonal()

    def ask(s, same):
        s = s.masked_fill(same | (s > p[:, None]), -torch.inf)
        return (margin + s.amax(1) - p).clamp(min=0).sum()

    return ask(scores, same_image) + ask(scores.T, same_image.T)


def triplet_mean_of_costs(scores, margin):
    """Mean over the negatives instead of a sum."""
    loss, n = 0, 0
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                loss = loss + (margin + scores[i, j] - scores[i, i]).clamp(min=0)
                loss = loss + (margin + scores[j, i] - scores[i, i]).clamp(min=0)
                n += 2
    return loss / n


def triplet_last_of_the_images(scores, margin):
    """Two mistakes: loss overwritten (= instead of +=) and only the last pair left, one direction."""
    loss = torch.zeros((), dtype=scores.dtype)
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                loss = (margin + scores[i, j] - scores[i, i]).clamp(min=0)
    return loss


def triplet_without_ties(scores, margin):
    """Skips negatives with the same score as the positive (compares scores instead of indices)."""
    loss = torch.zeros((), dtype=scores.dtype)
    for i in range(len(scores)):
        for j in range(len(scores)):
            if scores[i, j] != scores[i, i]:
                loss = loss + (margin + scores[i, j] - scores[i, i]).clamp(min=0)
            if scores[j, i] != scores[i, i]:
                loss = loss + (margin + scores[j, i] - scores[i, i]).clamp(min=0)
    return loss


def twin_near_ties(scores):
    """Near ties (0.05) count as ties."""
    j = torch.arange(len(scores))
    gap = scores[j, j] - scores[j ^ 1, j]
    tie = gap.abs() < 0.05
    return 100 * float(torch.where(tie, 0.5, (gap > 0).double()).mean())


def twin_copied_column(scores):
    """Two mistakes: the second caption has the first one's column, and ties miss."""
    n = 0
    for k in range(len(scores) // 2):
        a, b = 2 * k, 2 * k + 1
        n += bool(scores[a, a] > scores[b, a])
        n += bool(scores[b, b] > scores[b, a])
    return 100 * n / len(scores)


def twin_own_scores(scores):
    """Both captions of a pair compared with each other: own score vs the twin's own (diagonal against diagonal)."""
    d = scores.diagonal()
    gap = d - d[torch.arange(len(d)) ^ 1]
    return 100 * float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())


def batches_rounds_of_picture_0(image_of_caption, batch_size, rng):
    """Picture numbers taken as 0 .. n-1 with equal counts (range over counts of picture 0)."""
    owners = np.asarray(image_of_caption)
    n = owners.max() + 1
    left = [list(rng.permutation(np.flatnonzero(owners == i))) for i in range(n)]
    out = []
    for _ in range(len(left[0])):
        r = [left[i].pop() for i in rng.permutation(n) if left[i]]
        out += [np.array(r[s : s + batch_size]) for s in range(0, len(r), batch_size)]
    return out


def warm_without_brackets(scores, margin, same_image, epoch, warmup_epochs):
    """The last step only: divides only the hardest phase by B (precedence)."""
    p = scores.diagonal()
    a = (margin + scores - p[:, None]).clamp(min=0).masked_fill(same_image, 0)
    b = (margin + scores - p[None, :]).clamp(min=0).masked_fill(same_image, 0)
    if epoch >= warmup_epochs:
        a, b = a.amax(1), b.amax(0)
    return a.sum() + b.sum() / len(scores)


def warm_all_go_on(scores, margin, same_image, epoch, warmup_epochs):
    """After the warm-up all negatives go on to count beside the hardest (sum of both)."""
    p = scores.diagonal()
    a = (margin + scores - p[:, None]).clamp(min=0).masked_fill(same_image, 0)
    b = (margin + scores - p[None, :]).clamp(min=0).masked_fill(same_image, 0)
    loss = (a.sum() + b.sum()) / len(scores)
    if epoch >= warmup_epochs:
        loss = loss + (a.amax(1).sum() + b.amax(0).sum()) / len(scores)
    return loss


def warm_masked_to_0(scores, margin, same_image, epoch, warmup_epochs):
    """Masks scores with 0 before the hinge: matches cost margin - positive."""
    p = scores.diagonal()
    s = scores.masked_fill(same_image, 0)
    a = (margin + s - p[:, None]).clamp(min=0)
    b = (margin + s - p[None, :]).clamp(min=0)
    if epoch >= warmup_epochs:
        a, b = a.amax(1), b.amax(0)
    return (a.sum() + b.sum()) / len(scores)


def warm_both_along_rows(scores, margin, same_image, epoch, warmup_epochs):
    """Hardest phase: both maxima along the rows."""
    p = scores.diagonal()
    a = (margin + scores - p[:, None]).clamp(min=0).masked_fill(same_image, 0)
    b = (margin + scores - p[None, :]).clamp(min=0).masked_fill(same_image, 0)
    if epoch >= warmup_epochs:
        a, b = a.amax(1), b.amax(1)
    return (a.sum() + b.sum()) / len(scores)


def warm_mean_of_violations(scores, margin, same_image, epoch, warmup_epochs):
    """Mean of the costs that are not 0 (semi-active mean)."""
    p = scores.diagonal()
    a = (margin + scores - p[:, None]).clamp(min=0).masked_fill(same_image, 0)
    b = (margin + scores - p[None, :]).clamp(min=0).masked_fill(same_image, 0)
    if epoch >= warmup_epochs:
        a, b = a.amax(1), b.amax(0)
    return (a.sum() + b.sum()) / ((a > 0).sum() + (b > 0).sum()).clamp(min=1)


def warm_growing_margin(scores, margin, same_image, epoch, warmup_epochs):
    """Margin warms up instead: margin * epoch / warmup, always hardest."""
    m = margin * min(1.0, (epoch + 1) / (warmup_epochs + 1))
    p = scores.diagonal()
    a = (m + scores - p[:, None]).clamp(min=0).masked_fill(same_image, 0)
    b = (m + scores - p[None, :]).clamp(min=0).masked_fill(same_image, 0)
    return (a.amax(1).sum() + b.amax(0).sum()) / len(scores)


def warm_column_twice(scores, margin, same_image, epoch, warmup_epochs):
    """Positive as a column in both matrices."""
    p = scores.diagonal()
    a = (margin + scores - p[:, None]).clamp(min=0).masked_fill(same_image, 0)
    b = a
    if epoch >= warmup_epochs:
        a, b = a.amax(1), b.amax(0)
    return (a.sum() + b.sum()) / len(scores)


ALSO_RIGHT = [
    ("triplet-loop", triplet_loops),
    ("triplet-loop", triplet_with_python_numbers),
    ("triplet-loop", triplet_accumulator),
    ("triplet-loop", triplet_numpy),
    ("unique-batches", batches_right),
    ("unique-batches", batches_first_fit),
    ("unique-batches", lambda **inputs: [torch.from_numpy(batch) for batch in batches_right(**inputs)]),
    ("triplet-hardest", hardest_in_loops),
    ("triplet-hardest", hardest_filled),
    ("triplet-hardest", lambda **inputs: hardest_filled(**inputs, fill=-1e9)),
    ("triplet-hardest", lambda **inputs: hardest(**inputs).reshape(1)),
    ("training-loop", loop),
    ("training-loop", loop_but(wipe="after step")),
    ("training-loop", lambda **inputs: torch.tensor(loop(**inputs))),
    ("training-loop", lambda **inputs: np.array(loop(**inputs))),
    ("warm-up", warm),
    ("warm-up", warm_calls_the_others),
    ("info-nce", nce_in_loops),
    ("info-nce", nce_by_hand),
    ("info-nce", lambda **inputs: nce_filled(**inputs, fill=-1e9)),
    ("sorted-pool", pool_filled),
    ("sorted-pool", pool_in_loops),
    ("sorted-pool", lambda **inputs: pool_filled(**inputs, fill=-1e9)),
    ("twin-choices", twin_in_float32),
    ("twin-choices", twin_in_loops),
    ("twin-choices", lambda scores: np.float64(twin_in_loops(scores))),
]


def batches_of_five(image_of_caption, batch_size, rng):
    """Five captions a picture, side by side."""
    images = len(image_of_caption) // 5
    rounds = [5 * rng.permutation(images) + turn for turn in range(5)]
    return [r[start : start + batch_size] for r in rounds for start in range(0, images, batch_size)]


def nce_siblings_as_targets(scores, temperature, same_image):
    logits = scores / temperature
    return -(logits.log_softmax(1)[same_image].mean() + logits.log_softmax(0)[same_image].mean()) / 2


def pool_filled_then_zero(fill):
    def pool(tokens, mask, weights):
        ordered = tokens.masked_fill(~mask[..., None], fill).sort(1, descending=True).values
        return (ordered.masked_fill(ordered == fill, 0) * weights[..., None]).sum(1)

    return pool


WRONG = {  # slug -> [(answer, what it must be told)]
    "triplet-loop": [
        (triplet_without_ties, "just what the positive does"),
        (triplet_last_of_the_images, "only images ask"),
        (triplet_mean_of_costs, "the mean over all costs"),
        (triplet_images_only, "only images ask"),
        (triplet_captions_only, "only captions ask"),
        (triplet_with_positive, "its own negative"),
        (triplet_uncut, "cut each term off"),
        (triplet_turned, "sign is turned"),
        (triplet_batch_mean, "divided by the batch"),
        (triplet_no_margin, "margin is missing"),
        (triplet_rows_twice, "rows are counted twice"),
        (lambda scores, margin: triplet_loops(scores, margin, start=lambda i: i + 1), "only j > i is visited"),
        (triplet_upper_images_only, "only j > i is visited"),
        (lambda scores, margin: triplet_loops(scores, margin, stop=1), "the last pair never comes"),
        (lambda scores, margin: triplet_loops(scores, margin, first="query"), "inside the loop over i"),
        (lambda scores, margin: triplet_loops(scores, margin, margin_outside=True), "margin stands outside"),
        (triplet_returned_early, "does a return stand inside the loops"),
        (triplet_reset, "start it once, before the loops"),
        (triplet_spoils_scores, "changes its input scores"),
        (triplet_joint_bracket, "stand in one bracket"),
        (triplet_cut_at_the_end, "cut off once"),
        (triplet_squared, "squared"),
        (lambda scores, margin: triplet_loops(scores, -margin), "margin is subtracted"),
        (lambda scores, margin: triplet_loops(scores, margin) / 2, "averaged"),
        (lambda scores, margin: hardest(scores, margin, torch.eye(len(scores)).bool()), "only the worst negative"),
        (lambda scores, margin: None, "returned None"),
    ],
    "triplet-hardest": [
        (hardest_semi, "semi-hard"),
        (hardest_at_minus_10000, "became -10000"),
        (hardest_joint_hinge, "cut off together"),
        (hardest_images_over_batch, "only images ask"),
        (hardest_unhinged_at_minus_10000, "must cost 0, not less"),
        (hardest_false_negatives, "use same_image"),
        (hardest_images_only, "only images ask"),
        (hardest_captions_only, "only captions ask"),
        (hardest_all, "only the worst one"),
        (hardest_with_positive, "positive takes part"),
        (hardest_mean, "divided by the batch"),
        (hardest_detached, "it has no gradient by scores"),
        (hardest_swapped, "positives and axis do not fit"),
        (hardest_rows_twice, "rows are counted twice"),
        (
            lambda scores, margin, same_image: hardest(scores, margin, same_image).item(),
            "it has no gradient by scores",
        ),
        (lambda **inputs: hardest_filled(**inputs, fill=0), "became 0 before the maximum"),
        (hardest_zero_filled, "became 0 before the maximum"),
        (lambda **inputs: hardest_filled(**inputs, fill=-1), "became -1"),
        (lambda **inputs: hardest_filled(**inputs, fill=-100), "became -100"),
        (hardest_rows_masked_alone, "for the rows only"),
        (hardest_columns_unmasked, "columns are not masked"),
        (hardest_margin_outside, "it stands outside the bracket"),
        (hardest_mask_turned, "turned round"),
        (hardest_of_the_batch, "one worst negative for the whole batch"),
        (hardest_worse_direction, "only the worse direction"),
        (hardest_unfinished_max, "take .values"),
        (hardest_one_a_query, "expected a number"),
        (hardest_easiest, "easiest negative"),
        (hardest_in_place, "changes its input scores"),
        (hardest_numpy, "numpy"),
        (hardest_mean_and_unmasked, "two things"),
    ],
    "info-nce": [
        (nce_sigmoid, "a sigmoid"),
        (nce_cosines_again, "divided by the largest"),
        (nce_mean_of_the_kept, "that are not masked"),
        (nce_siblings_as_targets, "all pairs that same_image marks"),
        (nce_positive_at_minus_10000, "positives are masked, too, with -10000"),
        (nce_unmasked, "below the line"),
        (nce_rows_only, "only images ask"),
        (nce_columns_only, "only captions ask"),
        (nce_both, "directions are added"),
        (nce_times_temperature, "not multiplied"),
        (nce_unguarded_exp, "exp overflows"),
        (nce_softmax_log, "a share becomes 0 before its log"),
        (nce_diagonal_masked, "positives are masked"),
        (nce_zero_filled, "e^0 = 1"),
        (nce_summed, "sum over queries"),
        (nce_clip_tutorial, "targets made from similarities"),
        (nce_filled, "became a logit of -100"),
        (lambda **inputs: nce_filled(**inputs, fill=-1.0), "logit of -1"),
        (lambda **inputs: nce_by_hand(**inputs, add_back=False), "not added back"),
        (nce_columns_unmasked, "the columns are not masked"),
        (nce_with_epsilon, "inside the log"),
        (nce_without_positive, "its own included"),
        (nce_log2, "log2"),
        (nce_log_likelihood, "sign is turned round"),
        (nce_softmax_first, "softmax is taken twice"),
        (nce_no_temperature, "temperature is missing"),
        (nce_each_query, "expected a number"),
        (nce_unmasked_sum, "two things"),
        (lambda **inputs: nce_in_loops(**inputs).detach(), "gradient"),
    ],
    "unique-batches": [
        (batches_rounds_of_picture_0, "the rounds end when one picture"),
        (batches_of_five, "fewer than five captions"),
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
        (batches_one_too_small, "no query has a negative"),
        (
            lambda image_of_caption, batch_size, rng: batches_right(image_of_caption, max(2, batch_size - 1), rng),
            "fill them",
        ),
        (batches_in_place, "changes its input image_of_caption in place"),
        (batches_same_company, "share a batch again and again"),
        (batches_only_order_shuffled, "another rng gave the same batches"),
        (batches_any_of_fixed_images, "share a batch again and again"),
        (batches_flat, "cut it into batches"),
        (batches_yielded, "collect the batches in a list"),
        (batches_as_floats, "make them int"),
        (batches_as_masks, "your batches are masks"),
        (batches_from_one, "counted from 0"),
        (batches_padded, "needs no padding"),
        (batches_with_pairs, "lists or pairs"),
        (batches_as_dict, "returned a dict"),
        (batches_filled_up, "expected once"),
    ],
    "sorted-pool": [
        (pool_order_by_size, "absolute values decide"),
        (pool_first_weight_alone, "times the first weight"),
        (pool_soft_over_size, "two things"),
        (pool_first_weights_sorted, "the weights of the first, sorted"),
        (pool_mean_upwards, "with padding as 0"),
        (pool_by_length, "whole tokens by their length"),
        (pool_zero_padding, "stands before the negative values"),
        (pool_padding_as_is, "as it came"),
        (pool_nan, "-inf times a weight of 0"),
        (pool_upwards, "sorted upwards"),
        (pool_unsorted, "nothing is sorted"),
        (pool_mean, "mean pooling"),
        (pool_max, "max pooling"),
        (pool_numpy, "gradient"),
        (pool_upwards_after_inf, "-inf stands first"),
        (pool_mask_turned, "give it ~mask"),
        (pool_old_mask, "no longer fits"),
        (pool_fill_left_in(1.0), "as 1, before"),
        (pool_fill_left_in(-1.0), "as -1, before"),
        (pool_fill_left_in(-100.0), "as -100"),
        (lambda **inputs: pool_filled(**inputs, fill=-1e4), "as -10000, and"),
        (pool_filled_then_zero(-1e4), "a low number for the sort, then 0"),
        (lambda **inputs: pool_filled(**inputs, fill=-100.0), "as -100"),
        (pool_with(lambda weights, mask: weights / weights.sum(1, keepdim=True)), "made to sum to 1"),
        (pool_with(lambda weights, mask: weights.softmax(1)), "through a softmax"),
        (pool_with(lambda weights, mask: weights / mask.sum(1, keepdim=True)), "divided by the size"),
        (pool_with(lambda weights, mask: weights / mask.shape[1]), "padded width"),
        (pool_features, "along the features"),
        (pool_argsort_of_first, "order of the first"),
        (pool_not_summed, "has shape"),
        (pool_in_place, "changes its input tokens"),
        (pool_sort_pair, "take .values"),
    ],
    "twin-choices": [
        (twin_own_scores, "with their own pictures are compared"),
        (twin_copied_column, "first one's column, and ties count nothing"),
        (twin_near_ties, "differ by less than 0.05"),
        (twin_rows, "two captions for one picture"),
        (twin_ties_lose, "a tie counts one half: who"),
        (twin_ties_win, "not a whole"),
        (twin_recall, "R@1"),
        (twin_fraction, "fraction"),
        (twin_first_only, "only the first caption"),
        (twin_next, "not the next one"),
        (twin_both, "both captions are right"),
        (twin_count, "this is a count"),
        (twin_over_pairs, "number of pairs"),
        (twin_wrong_share, "share of wrong choices"),
        (twin_returned_early, "inside the loop"),
        (twin_rows_ties_lose, "two things"),
        (lambda scores: None, "returned None"),
    ],
    "warm-up": [
        (warm_column_twice, "column in both directions"),
        (warm_growing_margin, "the margin grows"),
        (warm_mean_of_violations, "mean over the costs above 0"),
        (warm_both_along_rows, "both maxima go along the rows"),
        (warm_masked_to_0, "became 0 before the hinge"),
        (warm_all_go_on, "go on to count"),
        (warm_without_brackets, "for want of brackets"),
        (warm_but(early=lambda e, w: e <= w), "one epoch too long"),
        (warm_but(early=lambda e, w: e + 1 < w), "one epoch too early"),
        (warm_but(early=lambda e, w: e >= w), "exchanged"),
        (warm_but(early=lambda e, w: e == 0), "only epoch 0 is warm"),
        (warm_but(early=lambda e, w: True), "in every epoch"),
        (warm_but(early=lambda e, w: False), "in every epoch"),
        (warm_but(both=True), "adds the hardest"),
        (warm_but(all_mask=False, hard_mask=False), "in both phases"),
        (warm_but(all_mask=False), "during the warm-up: use same_image"),
        (warm_but(hard_mask=False), "after the warm-up: use same_image"),
        (warm_but(all_over=1), "sum over all negatives is not divided"),
        (warm_but(hard_over=1), "sum over the hardest is not divided"),
        (warm_undivided, "not divided"),
        (warm_mean_of_costs, "B x B"),
        (warm_mean_of_both, "divided by 2B"),
        (warm_images_only, "only images ask"),
        (warm_no_return, "returned None"),
        (warm_detached, "gradient"),
        (lambda **inputs: warm_images_only(**inputs) * len(inputs["scores"]), "two things"),
    ],
    "training-loop": [
        (loop_one_mean, "a single number"),
        (loop_clips_each_parameter, "every parameter, is cut for itself"),
        (loop_batches_once, "called once, before the loop"),
        (loop_but(wipe=""), "gradients of earlier batches"),
        (loop_but(wipe="epoch"), "gradients of earlier batches"),
        (loop_but(wipe="after backward"), "wiped out between backward and step"),
        (loop_but(order="step first"), "optimizer.step() is called"),
        (loop_but(order="schedule first"), "one batch too early"),
        (loop_but(when="epoch"), "schedule.step() is called once"),
        (loop_but(when="epoch steps"), "optimizer.step() is called once"),
        (loop_but(when="never"), "schedule.step() is never called"),
        (loop_but(clip=""), "not clipped"),
        (loop_but(clip="early"), "not clipped"),
        (loop_but(clip="value"), "clip the norm"),
        (loop_but(most=1.0), "norm of 1, expected 2"),
        (loop_but(keep="graph"), "kept with their graphs"),
        (loop_but(train=""), "comes in eval mode"),
        (loop_but(train="once"), "at the beginning of every epoch"),
        (loop_but(batches=lambda b: b[:-1] if len(b) > 1 else b), "the last batch of an epoch is left out"),
        (loop_but(batches=lambda b: b[1:] or b), "first batch of an epoch is left out"),
        (loop_but(batches=lambda b: b[:1]), "only the first batch"),
        (loop_but(of_epoch=lambda e: 0), "batches of epoch 0"),
        (loop_but(of_epoch=lambda e: e + 1), "counted from 0"),
        (loop_but(told_epoch=lambda e: e + 1), "counted from 0"),
        (loop_but(told_epoch=lambda e: 0), "third argument is the epoch"),
        (loop_but(count=lambda e: e + 1), "an epoch too many"),
        (loop_but(validated=""), "validate(epoch) is never called"),
        (loop_but(validated="batch"), "after every batch"),
        (loop_but(give="last"), "a single number"),
        (loop_but(give="every"), "one loss a batch"),
        (loop_detached, "does not require grad"),
        (loop_one_epoch, "only one epoch is trained"),
        (loop_one_batch, "inside the loop over batches"),
        (loop_same_batch, "the same batch"),
        (loop_yields, "collect the losses in a list"),
        (loop_needs_a_length, "stopped with TypeError"),
        (loop_forgets, "returned None"),
        (loop_last_losses, "last batch"),
        (loop_sum_not_reset, "not set back to 0"),
        (loop_by_hand_too, "does something beside optimizer.step()"),
        (loop_copy, "train a copy"),
        (loop_no_backward, "backward() is never called"),
    ],
}
