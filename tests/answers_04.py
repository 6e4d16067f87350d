"""Answers to the exercises of lesson 04: right ones, other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

import copy
from collections import deque

import torch
import torch.nn.functional as F
from torch import nn

from itr_lib import objectives
from itr_lib.models.user import enhance
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


def queue_right(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    negative = image_ids[:, None] != queue_ids
    return objectives.unified_queue_loss(queries, positive_keys, queue_keys, mu=mu, gamma=gamma, negative_mask=negative)


RIGHT = {
    "unified-loss": lambda scores, mu, gamma, same_image: objectives.unified_loss(
        scores, mu=mu, gamma=gamma, same_image=same_image
    ),
    "unified-weights": weights_right,
    "ring-buffer": RingByLibrary,
    "momentum-step": momentum_update,
    "queue-loss": queue_right,
    "enhance": enhance,
}

# --- other ways to be right ------------------------------------------------------------------------------------------


def _smooth(scores, mu, gamma, no_negative):
    """1/mu log(1 + sum) by softplus of logsumexp: log(1 + e^x) with x the log of the sum."""
    return F.softplus((mu * (scores - gamma)).masked_fill(no_negative, -torch.inf).logsumexp(1)) / mu


def unified_by_softplus(scores, mu, gamma, same_image):
    both = _smooth(scores, mu, gamma, same_image) + _smooth(scores.T, mu, gamma, same_image.T)
    return (both - torch.log(1 + torch.diag(scores).clamp(min=0))).mean()


def unified_in_loops(scores, mu, gamma, same_image):
    total = scores.new_zeros(())
    for i in range(len(scores)):
        for asked, own in ((scores[i], same_image[i]), (scores[:, i], same_image[:, i])):
            exponents = torch.cat([scores.new_zeros(1), mu * (asked[~own] - gamma)])
            total = total + torch.logsumexp(exponents, 0) / mu
        total = total - torch.log1p(F.relu(scores[i, i]))
    return total / len(scores)


def unified_with_large_numbers(scores, mu, gamma, same_image):
    exponents = torch.where(same_image, -1e9, mu * (scores - gamma))
    zeros = torch.zeros(len(scores), 1, dtype=scores.dtype, device=scores.device)
    rows = torch.logsumexp(torch.hstack([zeros, exponents]), 1)
    columns = torch.logsumexp(torch.hstack([zeros, exponents.T]), 1)
    return ((rows + columns) / mu - torch.log(1 + scores.diag().relu())).mean()


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


def queue_in_loops(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    total = 0
    for query, key, image in zip(queries, positive_keys, image_ids, strict=True):
        exponents = mu * (queue_keys[queue_ids != image] @ query - gamma)
        total = total + torch.cat([exponents.new_zeros(1), exponents]).logsumexp(0) / mu
        total = total - torch.log1p((query @ key).clamp(min=0))
    return total / len(queries)


def queue_by_softplus(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    exponents = torch.where(image_ids[:, None] == queue_ids[None], -1e9, mu * (queries @ queue_keys.T - gamma))
    nothing = torch.full_like(queries[:, :1], -1e9)
    negatives = F.softplus(torch.cat([nothing, exponents], 1).logsumexp(1)) / mu
    return (negatives - (queries @ positive_keys.T).diagonal().relu().log1p()).mean()


def enhance_in_loops(regions, mask, guide, sharpness):
    pictures = []
    for x, real, g in zip(regions, mask, guide, strict=True):
        b = torch.zeros_like(x[:, 0])
        b[real] = F.normalize(F.softmax(sharpness * (x[real] @ g), dim=0), dim=0)
        pictures.append(x + torch.outer(b, g))
    return torch.stack(pictures)


def enhance_by_matrices(regions, mask, guide, sharpness):
    products = (regions @ guide[..., None]).squeeze(-1) * sharpness
    b = torch.where(mask, products, -1e9).softmax(-1) * mask
    return regions + (b / b.norm(dim=-1, keepdim=True))[..., None] @ guide[:, None]


ALSO_RIGHT = [
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
    ("enhance", enhance_in_loops),
    ("enhance", enhance_by_matrices),
]

# --- wrong -----------------------------------------------------------------------------------------------------------


def _unified(scores, mu, gamma, no_negative, grown=None):
    """As a learner writes it without a thought for overflow."""
    grown = torch.exp(mu * (scores - gamma)) if grown is None else grown
    grown = grown * ~no_negative
    negatives = (torch.log(1 + grown.sum(1)) + torch.log(1 + grown.sum(0))) / mu
    return (negatives - torch.log(1 + scores.diag().relu())).mean()


def unified_naive(scores, mu, gamma, same_image):
    return _unified(scores, mu, gamma, same_image)


def unified_false_negatives(scores, mu, gamma, same_image):
    return unified_in_loops(scores, mu, gamma, torch.eye(len(scores), dtype=torch.bool, device=scores.device))


def unified_own_positive(scores, mu, gamma, same_image):
    return unified_in_loops(scores, mu, gamma, same_image & ~torch.eye(len(scores)).bool().to(scores.device))


def unified_zero_scores(scores, mu, gamma, same_image):
    masked = scores * ~same_image
    everything = torch.zeros_like(same_image)
    both = _smooth(masked, mu, gamma, everything) + _smooth(masked.T, mu, gamma, everything)
    return (both - scores.diag().relu().log1p()).mean()


def unified_without_one(scores, mu, gamma, same_image):
    exponents = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf)
    both = (exponents.logsumexp(1) + exponents.logsumexp(0)) / mu
    return (both - scores.diag().relu().log1p()).mean()


def unified_without_scale(scores, mu, gamma, same_image):
    both = _smooth(scores, mu, gamma, same_image) + _smooth(scores.T, mu, gamma, same_image.T)
    return (mu * both - scores.diag().relu().log1p()).mean()


def unified_bare_positive(scores, mu, gamma, same_image):
    both = _smooth(scores, mu, gamma, same_image) + _smooth(scores.T, mu, gamma, same_image.T)
    return (both - scores.diag().log1p()).mean()


def unified_rows_only(scores, mu, gamma, same_image):
    return (_smooth(scores, mu, gamma, same_image) - scores.diag().relu().log1p()).mean()


def unified_sum(scores, mu, gamma, same_image):
    return len(scores) * unified_in_loops(scores, mu, gamma, same_image)


def unified_with_numbers(scores, mu, gamma, same_image):
    return unified_in_loops(scores.detach(), mu, gamma, same_image)


def unified_rows_returned(scores, mu, gamma, same_image):
    return _smooth(scores, mu, gamma, same_image) - scores.diag().relu().log1p()


def unified_in_place(scores, mu, gamma, same_image):
    scores.detach()[same_image] = -torch.inf
    return unified_in_loops(scores, mu, gamma, same_image)


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


def _queue(queries, positive_keys, queue_keys, negative, mu, gamma):
    exponents = (mu * (queries @ queue_keys.T - gamma)).masked_fill(~negative, -torch.inf)
    negatives = F.pad(exponents, (1, 0)).logsumexp(1) / mu
    return (negatives - (queries * positive_keys).sum(1).relu().log1p()).mean()


def queue_without_mask(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    everything = torch.ones_like(image_ids[:, None] == queue_ids)
    return _queue(queries, positive_keys, queue_keys, everything, mu, gamma)


def queue_masks_the_batch(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    keep = ~torch.isin(queue_ids, image_ids)
    return queue_in_loops(queries, positive_keys, queue_keys[keep], image_ids, queue_ids[keep], mu, gamma)


def queue_mask_turned(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    return _queue(queries, positive_keys, queue_keys, image_ids[:, None] == queue_ids, mu, gamma)


def queue_naive(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    grown = torch.exp(mu * (queries @ queue_keys.T - gamma)) * (image_ids[:, None] != queue_ids)
    positive = (queries * positive_keys).sum(1).relu()
    return (torch.log(1 + grown.sum(1)) / mu - torch.log(1 + positive)).mean()


def queue_mask_multiplies(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    exponents = mu * (queries @ queue_keys.T - gamma) * (image_ids[:, None] != queue_ids)
    negatives = F.pad(exponents, (1, 0)).logsumexp(1) / mu
    return (negatives - (queries * positive_keys).sum(1).relu().log1p()).mean()


def queue_all_positives(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    exponents = (mu * (queries @ queue_keys.T - gamma)).masked_fill(image_ids[:, None] == queue_ids, -torch.inf)
    negatives = F.pad(exponents, (1, 0)).logsumexp(1) / mu
    return negatives.mean() - (queries @ positive_keys.T).relu().log1p().mean()


def queue_bare_positive(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    exponents = (mu * (queries @ queue_keys.T - gamma)).masked_fill(image_ids[:, None] == queue_ids, -torch.inf)
    negatives = F.pad(exponents, (1, 0)).logsumexp(1) / mu
    return (negatives - (queries * positive_keys).sum(1).log1p()).mean()


def queue_summed(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    return len(queries) * queue_in_loops(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma)


def queue_detached(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    return queue_in_loops(queries.detach(), positive_keys, queue_keys, image_ids, queue_ids, mu, gamma)


def _shares(regions, mask, guide, sharpness):
    products = sharpness * torch.einsum("nrf,nf->nr", regions, guide)
    return products.masked_fill(~mask, -torch.inf).softmax(1)


def enhance_softmax_only(regions, mask, guide, sharpness):
    return regions + _shares(regions, mask, guide, sharpness)[..., None] * guide[:, None]


def enhance_ignores_padding(regions, mask, guide, sharpness):
    return enhance_by_matrices(regions, torch.ones_like(mask), guide, sharpness)


def enhance_zero_logits(regions, mask, guide, sharpness):
    b = F.normalize((sharpness * (regions @ guide[..., None])[..., 0] * mask).softmax(1), dim=1)
    return regions + b[..., None] * guide[:, None]


def enhance_without_region(regions, mask, guide, sharpness):
    return F.normalize(_shares(regions, mask, guide, sharpness), dim=1)[..., None] * guide[:, None]


def enhance_weighs_regions(regions, mask, guide, sharpness):
    return regions * (1 + F.normalize(_shares(regions, mask, guide, sharpness), dim=1)[..., None])


def enhance_in_full(regions, mask, guide, sharpness):
    return torch.where(mask[..., None], regions + guide[:, None], regions)


def enhance_without_sharpness(regions, mask, guide, sharpness):
    return enhance_in_loops(regions, mask, guide, 1.0)


def enhance_zeroes_padding(regions, mask, guide, sharpness):
    return enhance_in_loops(regions, mask, guide, sharpness).masked_fill(~mask[..., None], 0)


def enhance_unit_result(regions, mask, guide, sharpness):
    return F.normalize(enhance_in_loops(regions, mask, guide, sharpness), dim=2)


def enhance_detached(regions, mask, guide, sharpness):
    return enhance_in_loops(regions, mask, guide.detach(), sharpness)


def enhance_masks_late(regions, mask, guide, sharpness):
    b = F.normalize((sharpness * (regions @ guide[..., None])[..., 0]).softmax(1), dim=1) * mask
    return regions + b[..., None] * guide[:, None]


WRONG = {
    "unified-loss": [
        (unified_naive, "exp overflows when mu (S - gamma) is large"),
        (unified_false_negatives, "captions of the same image count as negatives"),
        (unified_own_positive, "among its own negatives"),
        (unified_zero_scores, "became a score of 0"),
        (unified_without_one, "the 1 inside the logarithm is missing"),
        (unified_without_scale, "1/mu is missing"),
        (unified_bare_positive, "cuts it off at 0"),
        (unified_rows_only, "add the direction in which captions do"),
        (unified_sum, "divide by B"),
        (unified_with_numbers, "gradient by scores"),
        (unified_rows_returned, "expected a number"),
        (unified_in_place, "changes its input scores in place"),
    ],
    "unified-weights": [
        (weights_naive, "infinity times 0, or over infinity"),
        (weights_plain_softmax, "the 1 is missing below the line"),
        (weights_masked_late, "still counts below the line"),
        (weights_of_columns, "along the columns"),
        (weights_alone, "each negative is weighed alone"),
        (weights_times_mu, "mu times too much"),
        (weights_with_the_one, "has shape (5, 6), expected (5, 5)"),
    ],
    "ring-buffer": [
        (RingWithAssert, "Any number of keys must do"),
        (RingBySlices, "places wrap round: (came + torch.arange(n)) % size"),
        (RingUnfilled, "never filled are returned"),
        (RingFirstRows, "the last ones are the newest"),
        (RingStorageOrder, "the order of the storage"),
        (RingIdsElsewhere, "not in step with the keys"),
        (RingOfIdsOnce, "not in step with the keys"),
        (RingOfViews, "a slice is a view of the storage"),
        (RingOfInputs, "store a copy"),
        (RingOfGraphs, "carry a gradient"),
        (RingCut, "they go on at place 0"),
        (RingWithoutEnd, "more keys than its size"),
        (RingOfProperties, "no method keys()"),
        (RingOfLists, "returned list, expected a tensor"),
    ],
    "momentum-step": [
        (momentum_swapped, "m and 1 - m are exchanged"),
        (momentum_parameters_only, "buffers (running means and the like) were not copied"),
        (momentum_state_averaged, "the buffers are averaged"),
        (momentum_on_a_copy, "target did not change"),
        (momentum_names_only, "target did not change"),
        (momentum_new_parameters, "other tensors now"),
        (momentum_with_graph, "carry a gradient"),
        (momentum_of_source, "source was changed"),
        (momentum_copy, "momentum is not used"),
        (momentum_shares, "share memory"),
        (momentum_first_layer, "not what the formula says: layers.1.weight"),
    ],
    "queue-loss": [
        (queue_without_mask, "the query's own image count as negatives"),
        (queue_masks_the_batch, "left out for all queries"),
        (queue_mask_turned, "the mask is turned round"),
        (queue_naive, "exp overflows"),
        (queue_mask_multiplies, "became an exponent of 0"),
        (queue_all_positives, "every query has every positive key"),
        (queue_bare_positive, "cuts it off at 0"),
        (queue_summed, "divide by B"),
        (queue_detached, "gradient by queries"),
    ],
    "enhance": [
        (enhance_softmax_only, "bring it to length 1"),
        (enhance_ignores_padding, "the mask is not used"),
        (enhance_zero_logits, "became a product of 0"),
        (enhance_without_region, "the region itself is missing"),
        (enhance_weighs_regions, "what it receives is the guide"),
        (enhance_in_full, "every region receives g in full"),
        (enhance_without_sharpness, "sharpness is missing"),
        (enhance_zeroes_padding, "stay as they came"),
        (enhance_unit_result, "the result has length 1"),
        (enhance_detached, "gradient by guide"),
        (enhance_masks_late, "padded regions take part in the softmax"),
    ],
}
