"""Answers to the exercises of lesson 04: right ones, other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

import copy
import math
from collections import deque

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from itr_lib import objectives
from itr_lib.momentum import FeatureQueue, momentum_update

# --- right: by the library -------------------------------------------------------------------------------------------


def weights_right(scores, mu, gamma, same_image):
    """The gradient of the rows' part, by autograd."""
    scores = scores.requires_grad_(True)
    exponents = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf)
    rows = F.pad(exponents, (1, 0)).logsumexp(dim=1) / mu
    return torch.autograd.grad(rows.sum(), scores)[0]


class RingByLibrary:
    def __init__(self, size, dim):
        self.queue = FeatureQueue(size, dim)

    def enqueue(self, keys, ids):
        self.queue.enqueue(keys, ids)

    def keys(self):
        return self.queue.keys

    def ids(self):
        return self.queue.ids


def queue_right(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    negative = image_ids[:, None] != queue_ids
    return objectives.unified_queue_loss(
        queries, positive_keys, queue_keys, mu=mu, gamma=gamma, negative_mask=negative, floor=floor
    )


# --- other ways to be right ------------------------------------------------------------------------------------------


def _smooth(scores, mu, gamma, no_negative):
    """1/mu log(1 + sum) by softplus of logsumexp: log(1 + e^x) with x the log of the sum."""
    return F.softplus((mu * (scores - gamma)).masked_fill(no_negative, -torch.inf).logsumexp(1)) / mu


def unified_by_softplus(scores, mu, gamma, same_image, floor):
    both = _smooth(scores, mu, gamma, same_image) + _smooth(scores.T, mu, gamma, same_image.T)
    return (both - torch.log(1 + torch.diag(scores).clamp(min=floor))).mean()


def unified_in_loops(scores, mu, gamma, same_image, floor):
    total = scores.new_zeros(())
    for i in range(len(scores)):
        for asked, own in ((scores[i], same_image[i]), (scores[:, i], same_image[:, i])):
            exponents = torch.cat([scores.new_zeros(1), mu * (asked[~own] - gamma)])
            total = total + torch.logsumexp(exponents, 0) / mu
        total = total - torch.log1p(scores[i, i].clamp(min=floor))
    return total / len(scores)


def unified_with_large_numbers(scores, mu, gamma, same_image, floor):
    exponents = torch.where(same_image, -1e9, mu * (scores - gamma))
    zeros = torch.zeros(len(scores), 1, dtype=scores.dtype, device=scores.device)
    rows = torch.logsumexp(torch.hstack([zeros, exponents]), 1)
    columns = torch.logsumexp(torch.hstack([zeros, exponents.T]), 1)
    return ((rows + columns) / mu - torch.log(1 + scores.diag().clamp(min=floor))).mean()


def weights_by_softmax(scores, mu, gamma, same_image):
    exponents = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf)
    return torch.cat([torch.zeros_like(exponents[:, :1]), exponents], 1).softmax(1)[:, 1:]


def weights_by_top(scores, mu, gamma, same_image):
    exponents = torch.where(same_image, -1e9, mu * (scores - gamma))
    top = exponents.amax(1, keepdim=True).clamp(min=0)
    grown = (exponents - top).exp()
    return grown / ((-top).exp() + grown.sum(1, keepdim=True))


class RingByPlaces:
    def __init__(self, size, dim):
        self.stored, self.owners, self.came = torch.zeros(size, dim), torch.full((size,), -1), 0

    def enqueue(self, keys, ids):
        with torch.no_grad():
            size = len(self.stored)
            for start in range(0, len(keys), size):
                some = slice(start, start + size)
                places = (self.came + torch.arange(len(keys[some]))) % size
                self.stored[places], self.owners[places] = keys[some], ids[some]
                self.came += len(places)

    def _order(self):
        size = len(self.stored)
        return torch.arange(max(0, self.came - size), self.came) % size

    def keys(self):
        return self.stored[self._order()]

    def ids(self):
        return self.owners[self._order()]


class RingByDeque:
    """No ring at all, and right: a check judges what comes out."""

    def __init__(self, size, dim):
        self.rows, self.dim = deque(maxlen=size), dim

    def enqueue(self, keys, ids):
        self.rows.extend(zip(keys.detach().clone(), ids.clone(), strict=True))

    def keys(self):
        return torch.stack([key for key, _ in self.rows]) if self.rows else torch.zeros(0, self.dim)

    def ids(self):
        return torch.stack([owner for _, owner in self.rows]) if self.rows else torch.zeros(0, dtype=torch.long)


class RingByConcatenation:
    def __init__(self, size, dim):
        self.size, self.k, self.i = size, torch.zeros(0, dim), torch.zeros(0, dtype=torch.long)

    def enqueue(self, keys, ids):
        self.k, self.i = torch.cat([self.k, keys.detach()])[-self.size :], torch.cat([self.i, ids])[-self.size :]

    def keys(self):
        return self.k

    def ids(self):
        return self.i


@torch.no_grad()
def momentum_in_place(target, source, momentum):
    for mine, other in zip(target.parameters(), source.parameters(), strict=True):
        mine.mul_(momentum).add_(other, alpha=1 - momentum)
    for mine, other in zip(target.buffers(), source.buffers(), strict=True):
        mine.copy_(other)


def momentum_by_state(target, source, momentum):
    weights, leaders = dict(target.named_parameters()), source.state_dict()
    state = {
        name: momentum * value + (1 - momentum) * leaders[name] if name in weights else leaders[name]
        for name, value in target.state_dict().items()
    }
    target.load_state_dict(state)


def momentum_by_data(target, source, momentum):
    for mine, other in zip(target.parameters(), source.parameters(), strict=True):
        mine.data = momentum * mine.data + (1 - momentum) * other.data
    for mine, other in zip(target.buffers(), source.buffers(), strict=True):
        mine.data = other.data.clone()


def queue_in_loops(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    total = 0
    for query, key, image in zip(queries, positive_keys, image_ids, strict=True):
        exponents = mu * (queue_keys[queue_ids != image] @ query - gamma)
        total = total + torch.cat([exponents.new_zeros(1), exponents]).logsumexp(0) / mu
        total = total - torch.log1p((query @ key).clamp(min=floor))
    return total / len(queries)


def queue_by_softplus(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    exponents = torch.where(image_ids[:, None] == queue_ids[None], -1e9, mu * (queries @ queue_keys.T - gamma))
    nothing = torch.full_like(queries[:, :1], -1e9)
    negatives = F.softplus(torch.cat([nothing, exponents], 1).logsumexp(1)) / mu
    return (negatives - (queries @ positive_keys.T).diagonal().clamp(min=floor).log1p()).mean()


def choice_in_a_loop(momenta, recalls, kept, share):
    best = None
    for place in range(len(momenta)):
        if recalls[place] >= share * max(recalls) and (best is None or kept[place] > kept[best]):
            best = place
    return momenta[best].item()


def choice_by_sorting(momenta, recalls, kept, share):
    rows = torch.stack([kept, momenta, recalls], dim=1)[recalls >= share * recalls.max()]
    return sorted(rows.tolist())[-1][1]


def choice_in_numpy(momenta, recalls, kept, share):
    momenta, recalls, kept = (np.asarray(x) for x in (momenta, recalls, kept))
    good = recalls >= share * recalls.max()
    return momenta[good][kept[good].argmax()]


def own_by_deque(batches, size):
    queue, hits = deque(maxlen=size), []
    for batch in batches:
        if len(queue) == size:
            hits += [image in queue for image in batch.tolist()]
        queue.extend(batch.tolist())
    return 100 * sum(hits) / len(hits) if hits else 0


def own_by_ring(batches, size):
    ring, met, asked = RingByPlaces(size, 1), 0, 0
    for batch in batches:
        if len(ring.ids()) == size:
            met += int((batch[:, None] == ring.ids()).any(1).sum())
            asked += len(batch)
        ring.enqueue(torch.zeros(len(batch), 1), batch)
    return torch.tensor([100 * met / max(asked, 1)])


def own_in_numpy(batches, size):
    came, found = np.zeros(0, dtype=int), [np.zeros(0)]
    for batch in batches:
        if len(came) >= size:
            found.append(np.isin(batch, came[-size:]))
        came = np.append(came, batch)
    found = np.concatenate(found)
    return 100 * found.mean() if len(found) else 0.0


ALSO_RIGHT = [
    ("unified-weights", weights_right),
    ("ring-buffer", RingByLibrary),
    ("momentum-step", momentum_update),
    ("queue-loss", queue_right),
    ("unified-loss", unified_by_softplus),
    ("unified-loss", unified_in_loops),
    ("unified-loss", unified_with_large_numbers),
    ("unified-weights", weights_by_softmax),
    ("unified-weights", weights_by_top),
    ("ring-buffer", RingByPlaces),
    ("ring-buffer", RingByDeque),
    ("ring-buffer", RingByConcatenation),
    ("momentum-step", momentum_in_place),
    ("momentum-step", momentum_by_state),
    ("momentum-step", momentum_by_data),
    ("queue-loss", queue_in_loops),
    ("queue-loss", queue_by_softplus),
    ("choose-momentum", choice_in_a_loop),
    ("choose-momentum", choice_by_sorting),
    ("choose-momentum", choice_in_numpy),
    ("false-negatives", own_by_deque),
    ("false-negatives", own_by_ring),
    ("false-negatives", own_in_numpy),
]

# --- wrong -----------------------------------------------------------------------------------------------------------


def _unified(scores, mu, gamma, no_negative, floor):
    """As a learner writes it without a thought for overflow."""
    grown = torch.exp(mu * (scores - gamma)) * ~no_negative
    negatives = (torch.log(1 + grown.sum(1)) + torch.log(1 + grown.sum(0))) / mu
    return (negatives - torch.log(1 + scores.diag().clamp(min=floor))).mean()


def unified_naive(scores, mu, gamma, same_image, floor):
    return _unified(scores, mu, gamma, same_image, floor)


def unified_false_negatives(scores, mu, gamma, same_image, floor):
    return unified_in_loops(scores, mu, gamma, torch.eye(len(scores), dtype=torch.bool, device=scores.device), floor)


def unified_own_positive(scores, mu, gamma, same_image, floor):
    return unified_in_loops(scores, mu, gamma, same_image & ~torch.eye(len(scores)).bool().to(scores.device), floor)


def unified_zero_scores(scores, mu, gamma, same_image, floor):
    masked = scores * ~same_image
    everything = torch.zeros_like(same_image)
    both = _smooth(masked, mu, gamma, everything) + _smooth(masked.T, mu, gamma, everything)
    return (both - scores.diag().clamp(min=floor).log1p()).mean()


def unified_without_one(scores, mu, gamma, same_image, floor):
    exponents = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf)
    both = (exponents.logsumexp(1) + exponents.logsumexp(0)) / mu
    return (both - scores.diag().clamp(min=floor).log1p()).mean()


def unified_without_scale(scores, mu, gamma, same_image, floor):
    both = _smooth(scores, mu, gamma, same_image) + _smooth(scores.T, mu, gamma, same_image.T)
    return (mu * both - scores.diag().clamp(min=floor).log1p()).mean()


def unified_bare_positive(scores, mu, gamma, same_image, floor):
    both = _smooth(scores, mu, gamma, same_image) + _smooth(scores.T, mu, gamma, same_image.T)
    return (both - scores.diag().log1p()).mean()


def unified_rows_only(scores, mu, gamma, same_image, floor):
    return (_smooth(scores, mu, gamma, same_image) - scores.diag().clamp(min=floor).log1p()).mean()


def unified_sum(scores, mu, gamma, same_image, floor):
    return len(scores) * unified_in_loops(scores, mu, gamma, same_image, floor)


def unified_with_numbers(scores, mu, gamma, same_image, floor):
    return unified_in_loops(scores.detach(), mu, gamma, same_image, floor)


def unified_rows_returned(scores, mu, gamma, same_image, floor):
    return _smooth(scores, mu, gamma, same_image) - scores.diag().clamp(min=floor).log1p()


def unified_in_place(scores, mu, gamma, same_image, floor):
    scores.detach()[same_image] = -torch.inf
    return unified_in_loops(scores, mu, gamma, same_image, floor)


def weights_naive(scores, mu, gamma, same_image):
    grown = torch.exp(mu * (scores - gamma)) * ~same_image
    return grown / (1 + grown.sum(1, keepdim=True))


def weights_plain_softmax(scores, mu, gamma, same_image):
    return (mu * (scores - gamma)).masked_fill(same_image, -torch.inf).softmax(1)


def weights_masked_late(scores, mu, gamma, same_image):
    return weights_by_softmax(scores, mu, gamma, torch.zeros_like(same_image)) * ~same_image


def weights_of_columns(scores, mu, gamma, same_image):
    return weights_by_softmax(scores.T, mu, gamma, same_image).T


def weights_alone(scores, mu, gamma, same_image):
    return torch.sigmoid(mu * (scores - gamma)) * ~same_image


def weights_times_mu(scores, mu, gamma, same_image):
    return mu * weights_by_softmax(scores, mu, gamma, same_image)


def weights_with_the_one(scores, mu, gamma, same_image):
    exponents = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf)
    return F.pad(exponents, (1, 0)).softmax(1)


class RingWithAssert(RingByPlaces):
    """As the released code: a pointer, and a queue that must be a multiple of the batch."""

    def enqueue(self, keys, ids):
        assert len(self.stored) % max(1, len(keys)) == 0
        super().enqueue(keys, ids)


class RingBySlices(RingByPlaces):
    def enqueue(self, keys, ids):
        place = self.came % len(self.stored)
        self.stored[place : place + len(keys)] = keys.detach()
        self.owners[place : place + len(keys)] = ids
        self.came += len(keys)


class RingUnfilled(RingByPlaces):
    def keys(self):
        return self.stored.clone()

    def ids(self):
        return self.owners.clone()


class RingFirstRows(RingByPlaces):
    def enqueue(self, keys, ids):
        super().enqueue(keys[: len(self.stored)], ids[: len(self.stored)])


class RingStorageOrder(RingByPlaces):
    def _order(self):
        return torch.arange(min(self.came, len(self.stored)))


class RingIdsElsewhere(RingByPlaces):
    def ids(self):
        return self.owners[: self.came].clone()


class RingOfIdsOnce(RingByPlaces):
    def enqueue(self, keys, ids):
        before = self.owners.clone()
        super().enqueue(keys, ids)
        if self.came > len(self.stored):
            self.owners = before


class RingOfViews(RingByPlaces):
    def keys(self):
        return self.stored[: self.came] if self.came <= len(self.stored) else super().keys()


class RingOfInputs(RingByDeque):
    def enqueue(self, keys, ids):
        self.rows.extend(zip(keys.detach(), ids, strict=True))


class RingOfGraphs(RingByDeque):
    def enqueue(self, keys, ids):
        self.rows.extend(zip(keys.clone(), ids, strict=True))


class RingCut(RingByPlaces):
    def enqueue(self, keys, ids):
        place = self.came % len(self.stored)
        room = len(self.stored) - place
        self.stored[place : place + len(keys)] = keys[:room].detach()
        self.owners[place : place + len(keys)] = ids[:room]
        self.came += len(keys)


class RingWithoutEnd(RingByConcatenation):
    def enqueue(self, keys, ids):
        self.k, self.i = torch.cat([self.k, keys.detach()]), torch.cat([self.i, ids])


class RingOfProperties(RingByPlaces):
    keys = property(RingByPlaces.keys)


class RingOfLists(RingByDeque):
    def keys(self):
        return [key for key, _ in self.rows]


@torch.no_grad()
def momentum_swapped(target, source, momentum):
    for mine, other in zip(target.parameters(), source.parameters(), strict=True):
        mine.mul_(1 - momentum).add_(other, alpha=momentum)
    for mine, other in zip(target.buffers(), source.buffers(), strict=True):
        mine.copy_(other)


@torch.no_grad()
def momentum_parameters_only(target, source, momentum):
    for mine, other in zip(target.parameters(), source.parameters(), strict=True):
        mine.lerp_(other, 1 - momentum)


def momentum_state_averaged(target, source, momentum):
    leaders = source.state_dict()
    target.load_state_dict(
        {name: momentum * value + (1 - momentum) * leaders[name] for name, value in target.state_dict().items()}
    )


def momentum_on_a_copy(target, source, momentum):
    target = copy.deepcopy(target)
    momentum_update(target, source, momentum)
    return target


def momentum_names_only(target, source, momentum):
    for mine, other in zip(target.parameters(), source.parameters(), strict=True):
        mine = momentum * mine + (1 - momentum) * other


def momentum_new_parameters(target, source, momentum):
    momentum_update(target, source, momentum)
    for module in target.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(value.clone(), requires_grad=False))


def momentum_with_graph(target, source, momentum):
    for mine, other in zip(target.parameters(), source.parameters(), strict=True):
        mine.lerp_(other, 1 - momentum)
    for mine, other in zip(target.buffers(), source.buffers(), strict=True):
        mine.copy_(other)


def momentum_of_source(target, source, momentum):
    momentum_update(source, target, momentum)


def momentum_copy(target, source, momentum):
    target.load_state_dict(source.state_dict())


def momentum_shares(target, source, momentum):
    momentum_update(target, source, momentum)
    for mine, other in zip(target.buffers(), source.buffers(), strict=True):
        mine.data = other.data


@torch.no_grad()
def momentum_first_layer(target, source, momentum):
    momentum_update(target.layers[0], source.layers[0], momentum)


def _queue(queries, positive_keys, queue_keys, negative, mu, gamma, floor):
    exponents = (mu * (queries @ queue_keys.T - gamma)).masked_fill(~negative, -torch.inf)
    negatives = F.pad(exponents, (1, 0)).logsumexp(1) / mu
    return (negatives - (queries * positive_keys).sum(1).clamp(min=floor).log1p()).mean()


def queue_without_mask(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    everything = torch.ones_like(image_ids[:, None] == queue_ids)
    return _queue(queries, positive_keys, queue_keys, everything, mu, gamma, floor)


def queue_masks_the_batch(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    keep = ~torch.isin(queue_ids, image_ids)
    return queue_in_loops(queries, positive_keys, queue_keys[keep], image_ids, queue_ids[keep], mu, gamma, floor)


def queue_mask_turned(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    return _queue(queries, positive_keys, queue_keys, image_ids[:, None] == queue_ids, mu, gamma, floor)


def queue_naive(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    grown = torch.exp(mu * (queries @ queue_keys.T - gamma)) * (image_ids[:, None] != queue_ids)
    positive = (queries * positive_keys).sum(1).clamp(min=floor)
    return (torch.log(1 + grown.sum(1)) / mu - torch.log(1 + positive)).mean()


def queue_mask_multiplies(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    exponents = mu * (queries @ queue_keys.T - gamma) * (image_ids[:, None] != queue_ids)
    negatives = F.pad(exponents, (1, 0)).logsumexp(1) / mu
    return (negatives - (queries * positive_keys).sum(1).clamp(min=floor).log1p()).mean()


def queue_all_positives(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    exponents = (mu * (queries @ queue_keys.T - gamma)).masked_fill(image_ids[:, None] == queue_ids, -torch.inf)
    negatives = F.pad(exponents, (1, 0)).logsumexp(1) / mu
    return negatives.mean() - (queries @ positive_keys.T).clamp(min=floor).log1p().mean()


def queue_bare_positive(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    exponents = (mu * (queries @ queue_keys.T - gamma)).masked_fill(image_ids[:, None] == queue_ids, -torch.inf)
    negatives = F.pad(exponents, (1, 0)).logsumexp(1) / mu
    return (negatives - (queries * positive_keys).sum(1).log1p()).mean()


def queue_summed(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    return len(queries) * queue_in_loops(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor)


def queue_detached(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    return queue_in_loops(queries.detach(), positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor)


def unified_rows_masked_only(scores, mu, gamma, same_image, floor):
    diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    both = _smooth(scores, mu, gamma, same_image) + _smooth(scores.T, mu, gamma, diagonal)
    return (both - scores.diag().clamp(min=floor).log1p()).mean()


def unified_top_lost(scores, mu, gamma, same_image, floor):
    def cost(exponents):
        top = exponents.amax(1, keepdim=True).clamp(min=-1e9)
        return torch.log(1 + (exponents - top).exp().sum(1)) / mu

    exponents = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf)
    return (cost(exponents) + cost(exponents.T) - scores.diag().clamp(min=floor).log1p()).mean()


def unified_clamped_at_zero(scores, mu, gamma, same_image, floor):
    return unified_in_loops(scores, mu, gamma, same_image, 0.0)


def unified_two_mistakes(scores, mu, gamma, same_image, floor):
    return len(scores) * unified_rows_only(scores, mu, gamma, same_image, floor)


def unified_returns_early(scores, mu, gamma, same_image, floor):
    total = 0
    for i in range(len(scores)):
        for asked, own in ((scores[i], same_image[i]), (scores[:, i], same_image[:, i])):
            exponents = torch.cat([scores.new_zeros(1), mu * (asked[~own] - gamma)])
            total = total + torch.logsumexp(exponents, 0) / mu
        return total - torch.log1p(scores[i, i].clamp(min=floor))


def unified_upper(scores, mu, gamma, same_image, floor):
    keep = torch.triu(torch.ones_like(scores), 1).bool() & ~same_image
    both = _smooth(scores, mu, gamma, ~keep) + _smooth(scores.T, mu, gamma, ~keep)
    return (both - scores.diag().clamp(min=floor).log1p()).mean()


def weights_top_not_for_one(scores, mu, gamma, same_image):
    exponents = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf)
    grown = (exponents - exponents.amax(1, keepdim=True).clamp(min=-1e9)).exp()
    return grown / (1 + grown.sum(1, keepdim=True))


def weights_last_column_cut(scores, mu, gamma, same_image):
    exponents = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf)
    return F.pad(exponents, (1, 0)).softmax(1)[:, :-1]


class RingOldestLate(RingByPlaces):
    def _order(self):
        size = len(self.stored)
        return torch.arange(max(0, self.came - size) + (self.came > size), self.came + (self.came > size)) % size


class RingOldestMissing(RingByPlaces):
    def _order(self):
        size = len(self.stored)
        return torch.arange(max(0, self.came - size + 1), self.came) % size


class RingNewestFirst(RingByPlaces):
    def _order(self):
        return super()._order().flip(0)


def momentum_added_twice(target, source, momentum):
    momentum_update(target, source, momentum)
    momentum_update(target, source, momentum)


@torch.no_grad()
def momentum_two_mistakes(target, source, momentum):
    for mine, other in zip(target.parameters(), source.parameters(), strict=True):
        mine.lerp_(other, momentum)


def choice_of_places(momenta, recalls, kept, share):
    return int(kept.masked_fill(recalls < share * recalls.max(), -torch.inf).argmax())


def choice_mixed_places(momenta, recalls, kept, share):
    return float(momenta[kept[recalls >= share * recalls.max()].argmax()])


def choice_by_recall(momenta, recalls, kept, share):
    return float(momenta[recalls.argmax()])


def choice_by_kept(momenta, recalls, kept, share):
    return float(momenta[kept.argmax()])


def choice_of_highest(momenta, recalls, kept, share):
    return float(momenta[recalls >= share * recalls.max()].max())


def choice_above(momenta, recalls, kept, share):
    return float(momenta[kept.masked_fill(recalls <= share * recalls.max(), -torch.inf).argmax()])


def choice_by_first(momenta, recalls, kept, share):
    return float(momenta[kept.masked_fill(recalls < share * recalls[0], -torch.inf).argmax()])


def choice_absolute(momenta, recalls, kept, share):
    return float(momenta[kept.masked_fill(recalls < share, -torch.inf).argmax()])


def choice_sorts_in_place(momenta, recalls, kept, share):
    recalls /= recalls.max()
    return float(momenta[kept.masked_fill(recalls < share, -torch.inf).argmax()])


def _own(batches, size, first=False, strict=True, last=0):
    came, found = [], []
    for batch in batches:
        images = batch.tolist()
        if first:
            came += images
        if len(came) > size or (len(came) == size and not strict):
            found.append([image in came[-(size + last) :] for image in images])
        if not first:
            came += images
    return found


def own_counts_itself(batches, size):
    rows = _own(batches, size, first=True)
    return 100 * sum(map(sum, rows)) / max(1, sum(map(len, rows)))


def own_not_full(batches, size):
    came, found = [], []
    for batch in batches:
        found += [image in came[-size:] for image in batch.tolist()]
        came += batch.tolist()
    return 100 * sum(found) / len(found)


def own_late(batches, size):
    rows = _own(batches, size, strict=True)
    return 100 * sum(map(sum, rows)) / max(1, sum(map(len, rows)))


def own_one_more(batches, size):
    rows = _own(batches, size, last=1)
    return 100 * sum(map(sum, rows)) / max(1, sum(map(len, rows)))


def own_fraction(batches, size):
    rows = _own(batches, size)
    return sum(map(sum, rows)) / max(1, sum(map(len, rows)))


def own_mean_of_batches(batches, size):
    shares = [100 * sum(row) / len(row) for row in _own(batches, size)]
    return sum(shares) / max(1, len(shares))


def own_ever(batches, size):
    came, found = set(), []
    seen = 0
    for batch in batches:
        if seen >= size:
            found += [image in came for image in batch.tolist()]
        came |= set(batch.tolist())
        seen += len(batch)
    return 100 * sum(found) / max(1, len(found))


def own_pops(batches, size):
    came, found = [], []
    while batches:
        batch = batches.pop(0).tolist()
        if len(came) >= size:
            found += [image in came[-size:] for image in batch]
        came += batch
    return 100 * sum(found) / max(1, len(found))


def own_first_keys(batches, size):
    came, found = [], []
    for batch in batches:
        if len(came) >= size:
            found += [image in came[:size] for image in batch.tolist()]
        came += batch.tolist()
    return 100 * sum(found) / max(1, len(found))


def queue_mask_of_first_keys(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    exponents, costs = mu * (queries @ queue_keys.T - gamma), []
    for row, image in zip(exponents, image_ids, strict=True):
        kept = row[: int((queue_ids != image).sum())]
        costs.append(F.pad(kept, (1, 0)).logsumexp(0) / mu)
    return (torch.stack(costs) - (queries * positive_keys).sum(1).clamp(min=floor).log1p()).mean()


def queue_top_lost(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    exponents = mu * (queries @ queue_keys.T - gamma)
    exponents = F.pad(exponents.masked_fill(image_ids[:, None] == queue_ids, -torch.inf), (1, 0))
    top = exponents.amax(1, keepdim=True)
    negatives = (exponents - top).exp().sum(1).log() / mu
    return (negatives - (queries * positive_keys).sum(1).clamp(min=floor).log1p()).mean()


def queue_two_mistakes(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    everything = torch.ones_like(image_ids[:, None] == queue_ids)
    return len(queries) * _queue(queries, positive_keys, queue_keys, everything, mu, gamma, floor)


def unified_plus_and_floor_0(scores, mu, gamma, same_image, floor):
    x = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf)
    rows = F.pad(x, (1, 0)).logsumexp(dim=1) / mu
    cols = F.pad(x.T, (1, 0)).logsumexp(dim=1) / mu
    return (rows + cols + scores.diagonal().clamp(min=0).log1p()).mean()


def unified_without_1_filled(scores, mu, gamma, same_image, floor):
    x = (mu * (scores - gamma)).masked_fill(same_image, -1e9)
    rows = x.logsumexp(1) / mu
    cols = x.logsumexp(0) / mu
    return (rows + cols - scores.diagonal().clamp(min=floor).log1p()).mean()


def unified_floor_after_log(scores, mu, gamma, same_image, floor):
    x = (mu * (scores - gamma)).masked_fill(same_image, -1e9)
    negatives = F.pad(x, (1, 0)).logsumexp(1) + F.pad(x.T, (1, 0)).logsumexp(1)
    return (negatives / mu - scores.diagonal().log1p().clamp(min=floor)).mean()


def unified_1_in_columns(scores, mu, gamma, same_image, floor):
    x = (mu * (scores - gamma)).masked_fill(same_image, -1e9)
    p = F.pad(x, (0, 0, 1, 0))
    return (p.logsumexp(0) / mu - scores.diagonal().clamp(min=floor).log1p()).mean() + (x.logsumexp(1) / mu).mean()


def momentum_returned(target, source, momentum):
    with torch.no_grad():
        for k, q in zip(target.parameters(), source.parameters(), strict=True):
            k.copy_(momentum * k + (1 - momentum) * q)
        for k, q in zip(target.buffers(), source.buffers(), strict=True):
            k.copy_(q)
    return target


def choice_by_product(momenta, recalls, kept, share):
    ok = recalls >= share * recalls.max()
    return float(momenta[(kept * ok).argmax()])


def choice_exchanged(momenta, recalls, kept, share):
    ok = kept >= share * kept.max()
    return float(momenta[ok][recalls[ok].argmax()])


def queue_mean_of_keys(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    x = mu * (queries @ queue_keys.T - gamma)
    x = x.masked_fill(image_ids[:, None] == queue_ids[None], -torch.inf)
    neg = (F.pad(x, (1, 0)).logsumexp(1) - math.log(max(1, len(queue_keys)))) / mu
    pos = (queries * positive_keys).sum(1).clamp(min=floor).log1p()
    return (neg - pos).mean()


def queue_over_queries(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    x = mu * (queries @ queue_keys.T - gamma)
    x = x.masked_fill(image_ids[:, None] == queue_ids[None], -torch.inf)
    neg = F.pad(x.T, (1, 0)).logsumexp(1) / mu
    pos = (queries * positive_keys).sum(1).clamp(min=floor).log1p()
    return neg.mean() - pos.mean()


def queue_mask_by_keys(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    x = mu * (queries @ queue_keys.T - gamma)
    x = x.masked_fill(queue_ids[:, None] == image_ids, -torch.inf)
    return (F.pad(x, (1, 0)).logsumexp(1) / mu - (queries * positive_keys).sum(1).clamp(min=floor).log1p()).mean()


def own_isin_turned(batches, size):
    came, found = torch.zeros(0, dtype=torch.long), []
    for b in batches:
        if len(came) == size:
            found.append(torch.isin(came, b))
        came = torch.cat([came, b])[-size:]
    return 100 * float(torch.cat(found).float().mean()) if found else 0.0


def own_pairs_counted(batches, size):
    came, hits, n = torch.zeros(0, dtype=torch.long), 0, 0
    for b in batches:
        if len(came) == size:
            hits += int((b[:, None] == came).sum())
            n += len(b)
        came = torch.cat([came, b])[-size:]
    return 100 * hits / n if n else 0.0


def own_of_all_rounded(batches, size):
    came, hits, n = [], 0, 0
    for b in batches:
        if len(came) == size:
            hits += sum(x in came for x in b.tolist())
        n += len(b)
        came = (came + b.tolist())[-size:]
    return round(100 * hits / n)


def own_in_size_batches(batches, size):
    found = []
    for t in range(size, len(batches)):
        came = torch.cat(batches[t - size : t])
        found.append(torch.isin(batches[t], came))
    return 100 * float(torch.cat(found).float().mean()) if found else 0.0


class RingNeverEmpty(RingByDeque):
    def keys(self):
        return torch.stack([key for key, _ in self.rows])


class RingWithoutWrap:
    def __init__(self, size, dim):
        self.size = size
        self.stored = torch.zeros(size, dim)
        self.owners = torch.full((size,), -1)
        self.came = 0

    def enqueue(self, keys, ids):
        for n in range(len(keys)):
            place = min(self.came, self.size - 1)
            self.stored[place] = keys[n].detach()
            self.owners[place] = ids[n]
            self.came += 1

    def oldest_first(self):
        return torch.arange(min(self.came, self.size))

    def keys(self):
        return self.stored[self.oldest_first()]

    def ids(self):
        return self.owners[self.oldest_first()]


WRONG = {
    "unified-loss": [
        (unified_naive, "exp overflows when mu (S - gamma) is large"),
        (unified_false_negatives, "captions of the same image count as negatives"),
        (unified_own_positive, "among its own negatives"),
        (unified_zero_scores, "became a score of 0"),
        (unified_without_one, "the 1 inside the logarithm is missing"),
        (unified_without_scale, "1/mu is missing"),
        (unified_bare_positive, "cuts it off"),
        (unified_rows_only, "add the direction in which captions do"),
        (unified_sum, "divide by B"),
        (unified_with_numbers, "gradient by scores"),
        (unified_rows_masked_only, "the columns do not: mask both directions"),
        (unified_top_lost, "not added back"),
        (unified_clamped_at_zero, "the floor is an argument"),
        (unified_two_mistakes, "two things: "),
        (unified_returns_early, "a return inside the loop"),
        (unified_upper, "j above i"),
        (unified_rows_returned, "expected a number"),
        (unified_in_place, "changes its input scores in place"),
        (unified_plus_and_floor_0, "the positive is added"),
        (unified_without_1_filled, "the 1 inside the logarithm is missing"),
        (unified_floor_after_log, "the floor is applied after the logarithm"),
        (unified_1_in_columns, "the 1 stands in the columns' logarithm"),
    ],
    "unified-weights": [
        (weights_naive, "infinity times 0 or over infinity"),
        (weights_plain_softmax, "the 1 is missing below the line"),
        (weights_masked_late, "still counts below the line"),
        (weights_of_columns, "along the columns"),
        (weights_alone, "each negative is weighed alone"),
        (weights_times_mu, "mu times too much"),
        (weights_top_not_for_one, "but not of the 1"),
        (weights_last_column_cut, "the wrong column is cut off"),
        (weights_with_the_one, "has shape (3, 4), expected (3, 3)"),
    ],
    "ring-buffer": [
        (RingWithAssert, "Any number of keys must do"),
        (RingBySlices, "places wrap round: (came + torch.arange(n)) % size"),
        (RingUnfilled, "never filled are returned"),
        (RingFirstRows, "the last ones are the newest"),
        (RingStorageOrder, "the order of the storage"),
        (RingIdsElsewhere, "the ids come in the order of the storage"),
        (RingOfIdsOnce, "not in step with the keys"),
        (RingOldestLate, "the order begins one too late"),
        (RingOldestMissing, "the oldest key is missing"),
        (RingNewestFirst, "newest first"),
        (RingOfViews, "a slice is a view of the storage"),
        (RingOfInputs, "store a copy"),
        (RingOfGraphs, "carry a gradient"),
        (RingCut, "they go on at place 0"),
        (RingWithoutEnd, "more keys than its size"),
        (RingOfProperties, "no method keys()"),
        (RingOfLists, "returned list, expected a tensor"),
        (RingNeverEmpty, "Any number of keys must do, 0 too"),
        (RingWithoutWrap, "once the storage is full every key goes to its last place"),
    ],
    "momentum-step": [
        (momentum_swapped, "m and 1 - m are exchanged"),
        (momentum_parameters_only, "buffers (running means and the like) were not copied"),
        (momentum_state_averaged, "the buffers are averaged"),
        (momentum_added_twice, "the step is made twice"),
        (momentum_two_mistakes, "two things: m and 1 - m are exchanged"),
        (momentum_on_a_copy, "target did not change"),
        (momentum_names_only, "target did not change"),
        (momentum_new_parameters, "other tensors now"),
        (momentum_with_graph, "carry a gradient"),
        (momentum_of_source, "source was changed"),
        (momentum_copy, "momentum is not used"),
        (momentum_shares, "share memory"),
        (momentum_first_layer, "these did not move: layers.1.weight"),
        (momentum_returned, "leave out the return"),
    ],
    "queue-loss": [
        (queue_without_mask, "the query's own image count as negatives"),
        (queue_masks_the_batch, "left out for all queries"),
        (queue_mask_turned, "the mask is turned round"),
        (queue_naive, "exp overflows"),
        (queue_mask_multiplies, "became an exponent of 0"),
        (queue_all_positives, "every query has every positive key"),
        (queue_bare_positive, "cuts it off"),
        (queue_mask_of_first_keys, "the mask was cut to the first ones"),
        (queue_top_lost, "not added back"),
        (queue_two_mistakes, "two things: "),
        (queue_summed, "divide by B"),
        (queue_detached, "gradient by queries"),
        (queue_mean_of_keys, "the mean over all keys"),
        (queue_over_queries, "the sum runs over the queries"),
        (queue_mask_by_keys, "the mask has a row a key"),
    ],
    "choose-momentum": [
        (choice_of_places, "a place in the list"),
        (choice_mixed_places, "index the same list"),
        (choice_by_recall, "the highest recall"),
        (choice_by_kept, "nothing is left out"),
        (choice_of_highest, "the highest momentum is taken"),
        (choice_above, "at least share"),
        (choice_by_first, "a share of the first recall"),
        (choice_absolute, "compared with share itself"),
        (choice_sorts_in_place, "changes its input recalls in place"),
        (choice_by_product, "what is left out became 0"),
        (choice_exchanged, "recalls and kept are exchanged"),
    ],
    "false-negatives": [
        (own_counts_itself, "the batch itself is in the queue"),
        (own_not_full, "before the queue is full"),
        (own_late, ">=, not >"),
        (own_one_more, "stays one too long"),
        (own_fraction, "give percent"),
        (own_mean_of_batches, "take all queries together"),
        (own_ever, "nothing ever leaves this queue"),
        (own_first_keys, "the first captions that came"),
        (own_pops, "changes its input batches in place"),
        (own_isin_turned, "isin the other way round"),
        (own_pairs_counted, "keys are counted, not queries"),
        (own_of_all_rounded, "the percentage is rounded"),
        (own_in_size_batches, "taken to hold size batches"),
    ],
}
