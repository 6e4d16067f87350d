"""Checks of lesson 04: the specifications as plain loops, and the mistakes people make."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from itr_lib.checks.frame import Exercise, Inputs


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _unit(*shape: int, seed: int) -> Tensor:
    vectors = _random(*shape, seed=seed)
    return vectors / vectors.norm(dim=-1, keepdim=True)


# --- unified-loss ----------------------------------------------------------------------------------------------------


def unified_cases() -> Iterator[Inputs]:
    """Cosines of both signs, positives too; captions that share an image; one pair; exponents that overflow."""
    for seed, (ids, mu, gamma) in enumerate(
        [((0, 1, 0, 2, 3), 8.0, 0.2), ((4, 1, 2), 20.0, 0.5), ((3, 3, 1, 1, 2, 5), 5.0, -0.1), ((2,), 90.0, 0.5)]
    ):
        scores = 0.9 * torch.tanh(_random(len(ids), len(ids), seed=seed))
        scores[0, 0], scores[-1, -1] = -0.3, 0.7  # one positive below 0, one above
        owner = torch.tensor(ids)
        yield {"scores": scores, "mu": mu, "gamma": gamma, "same_image": owner[:, None] == owner}
    # Exponents that float32 holds exactly, and whose exp it does not hold.
    near_one = 1 - torch.randint(0, 8, (4, 4), generator=torch.Generator().manual_seed(9)).double() / 128
    yield {"scores": near_one, "mu": 128.0, "gamma": 0.0, "same_image": torch.eye(4, dtype=torch.bool)}


def unified_specification(scores: Tensor, mu: float, gamma: float, same_image: Tensor) -> Tensor:
    """Query by query and negative by negative; exponentials are taken of differences to the largest."""
    terms = []
    for i in range(len(scores)):
        negatives = [j for j in range(len(scores)) if not bool(same_image[i, j])]
        asks_row = _log_one_plus([mu * (scores[i, j] - gamma) for j in negatives], scores)
        asks_column = _log_one_plus([mu * (scores[j, i] - gamma) for j in negatives], scores)
        positive = scores[i, i] if float(scores[i, i].detach()) > 0 else 0 * scores[i, i]
        terms.append(asks_row / mu + asks_column / mu - torch.log(1 + positive))
    return torch.stack(terms).mean()


def _log_one_plus(exponents: list[Tensor], like: Tensor) -> Tensor:
    """log(1 + sum of e^x)."""
    top = max([0.0, *(float(x.detach()) for x in exponents)])
    return top + torch.log(like.new_tensor(math.exp(-top)) + sum(torch.exp(x - top) for x in exponents))


def _negatives(
    scores, mu, gamma, no_negative, one=True, scale=True, fill=-torch.inf, exponents=None, naive=False, mean=False
):
    """Variants of 1/mu log(1 + sum e^...) along the rows."""
    exponents = mu * (scores - gamma) if exponents is None else exponents
    exponents = exponents.masked_fill(no_negative, fill)
    if naive:
        return exponents.exp().sum(1).log1p() / mu
    if mean:
        return (exponents.exp().sum(1) / (~no_negative).sum(1)).log1p() / mu
    if one:
        exponents = torch.cat([torch.zeros_like(exponents[:, :1]), exponents], dim=1)
    return exponents.logsumexp(1) / (mu if scale else 1)


def _unified(scores, mu, gamma, same_image, rows=1.0, columns=1.0, positive=None, total=torch.mean, **changed):
    """Variants of the loss in the batch."""
    no_negative = changed.pop("mask", same_image)
    exponents = changed.pop("exponents", None)
    by_row = _negatives(scores, mu, gamma, no_negative, exponents=exponents, **changed)
    other = None if exponents is None else exponents.T
    by_column = _negatives(scores.T, mu, gamma, no_negative.T, exponents=other, **changed)
    kept = scores.diagonal().relu().log1p() if positive is None else positive
    return total(rows * by_row + columns * by_column - kept)


def _eye(scores: Tensor) -> Tensor:
    return torch.eye(len(scores), dtype=torch.bool, device=scores.device)


def _variant(function: Callable, **changed: Any) -> Callable:
    """The function with some of its options set; they may be functions of the inputs."""

    def spoiled(**inputs):
        options = {name: value(inputs) if callable(value) else value for name, value in changed.items()}
        return function(**inputs, **options)

    return spoiled


def _sum(terms: Tensor) -> Tensor:
    return terms.sum()


def _each_negative_its_own_log(scores, mu, gamma, same_image):
    costs = nn.functional.softplus(mu * (scores - gamma)).masked_fill(same_image, 0) / mu
    return (costs.sum(1) + costs.sum(0) - scores.diagonal().relu().log1p()).mean()


def overflow_explained(inputs: Inputs, result: Any, expected: Any) -> str | None:
    """Infinity or NaN where the exponents are large."""
    if inputs["mu"] > 100 and not bool(torch.as_tensor(result).isfinite().all()):
        return (
            "exp overflows when mu (S - gamma) is large, and infinity times 0, or over infinity, is NaN: put a 0 "
            "beside the exponents, then logsumexp or softmax"
        )
    return None


UNIFIED_MISTAKES = {
    "exp overflows when mu (S - gamma) is large, at about 88 in float32: the 1 is e^0, one more exponent; put a 0 "
    "beside the exponents and take logsumexp": _variant(_unified, naive=True),
    "captions of the same image count as negatives: leave out every pair that same_image marks": _variant(
        _unified, mask=lambda given: _eye(given["scores"])
    ),
    "the positive is among its own negatives: leave out the diagonal too (same_image is True there)": _variant(
        _unified, mask=lambda given: given["same_image"] & ~_eye(given["scores"])
    ),
    "what is no negative became an exponent of 0, and e^0 = 1 counts: fill with -torch.inf": _variant(
        _unified, fill=0.0
    ),
    "what is no negative became a score of 0, and e^(-mu gamma) counts: fill the exponents with -torch.inf": _variant(
        _unified, fill=lambda given: -given["mu"] * given["gamma"]
    ),
    "the mask is turned round: masked_fill fills where it is True, so give it same_image": _variant(
        _unified, mask=lambda given: ~given["same_image"]
    ),
    "the 1 inside the logarithm is missing: then negatives far below gamma still push": _variant(_unified, one=False),
    "1/mu is missing before the logarithm": _variant(_unified, scale=False),
    "gamma is missing: the exponent is mu (S - gamma)": _variant(
        _unified, exponents=lambda given: given["mu"] * given["scores"]
    ),
    "gamma is added: the exponent is mu (S - gamma)": _variant(
        _unified, exponents=lambda given: given["mu"] * (given["scores"] + given["gamma"])
    ),
    "gamma stands outside mu: the exponent is mu (S - gamma), not mu S - gamma": _variant(
        _unified, exponents=lambda given: given["mu"] * given["scores"] - given["gamma"]
    ),
    "the scores are divided by mu: multiply them": _variant(
        _unified, exponents=lambda given: (given["scores"] - given["gamma"]) / given["mu"]
    ),
    "a positive below 0 goes into the logarithm as it is: log(1 + [S_ii]+) cuts it off at 0": _variant(
        _unified, positive=lambda given: given["scores"].diagonal().log1p()
    ),
    "the positive is added: it has a minus, since a high S_ii is what we want": _variant(
        _unified, positive=lambda given: -given["scores"].diagonal().relu().log1p()
    ),
    "the positive's logarithm is missing: log(1 + [S_ii]+)": _variant(
        _unified, positive=lambda given: given["scores"].diagonal().relu()
    ),
    "the 1 of the positive is missing: log(1 + [S_ii]+)": _variant(
        _unified, positive=lambda given: given["scores"].diagonal().relu().log()
    ),
    "there is no positive term: without - log(1 + [S_ii]+) nothing draws a pair together": _variant(
        _unified, positive=0.0
    ),
    "the positive counts twice, once for each direction: in the batch it stands once": _variant(
        _unified, positive=lambda given: 2 * given["scores"].diagonal().relu().log1p()
    ),
    "only images ask (rows): add the direction in which captions do (columns, S_ji)": _variant(_unified, columns=0.0),
    "only captions ask (columns): add the direction in which images do (rows, S_ij)": _variant(_unified, rows=0.0),
    "the two directions are averaged: here they are added": _variant(_unified, rows=0.5, columns=0.5),
    "this is the sum over the batch: divide by B": _variant(_unified, total=lambda given: _sum),
    "each negative has its own logarithm: one for the sum of all": _each_negative_its_own_log,
    "the mean over the negatives instead of their sum": _variant(_unified, mean=True),
    "20 times too much: that factor is USER's, outside this function": (
        lambda scores, mu, gamma, same_image: 20 * _unified(scores, mu, gamma, same_image)
    ),
}

# --- unified-weights -------------------------------------------------------------------------------------------------


def weights_specification(scores: Tensor, mu: float, gamma: float, same_image: Tensor) -> Tensor:
    """Row by row: each exponential over 1 plus the sum of all, as differences to the largest exponent."""
    result = torch.zeros_like(scores)
    for i in range(len(scores)):
        exponents = {j: mu * (float(scores[i, j]) - gamma) for j in range(len(scores)) if not bool(same_image[i, j])}
        top = max([0.0, *exponents.values()])
        total = math.exp(-top) + sum(math.exp(x - top) for x in exponents.values())
        for j, x in exponents.items():
            result[i, j] = math.exp(x - top) / total
    return result


def _weights(scores, mu, gamma, same_image, one=True, dim=1, fill=-torch.inf, exponents=None):
    exponents = mu * (scores - gamma) if exponents is None else exponents
    exponents = exponents.masked_fill(same_image, fill)
    if dim == 0:
        return _weights(scores.T, mu, gamma, same_image.T).T
    if one:
        exponents = torch.cat([torch.zeros_like(exponents[:, :1]), exponents], dim=1)
    return exponents.softmax(1)[:, int(one) :]


def _weights_naive(scores, mu, gamma, same_image):
    grown = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf).exp()
    return grown / (1 + grown.sum(1, keepdim=True))


WEIGHTS_MISTAKES = {
    "exp overflows and infinity over infinity is NaN: put a 0 beside the exponents, then softmax": _weights_naive,
    "the 1 is missing below the line: these weights sum to 1, however far below gamma all negatives are": _variant(
        _weights, one=False
    ),
    "what is no negative gets a weight: fill its exponent with -torch.inf, the diagonal included": (
        lambda scores, mu, gamma, same_image: _weights(scores, mu, gamma, torch.zeros_like(same_image))
    ),
    "captions of the same image get a weight: leave out every pair that same_image marks": (
        lambda scores, mu, gamma, same_image: _weights(scores, mu, gamma, _eye(scores))
    ),
    "what is no negative became an exponent of 0, and e^0 = 1 has a weight: fill with -torch.inf": _variant(
        _weights, fill=0.0
    ),
    "what is no negative still counts below the line: fill before you sum": lambda scores, mu, gamma, same_image: (
        _weights(scores, mu, gamma, torch.zeros_like(same_image)).masked_fill(same_image, 0)
    ),
    "these are the weights along the columns, where captions ask: each row sums over its own j": _variant(
        _weights, dim=0
    ),
    "gamma is missing: it decides how the exponents compare with the 1": _variant(
        _weights, exponents=lambda given: given["mu"] * given["scores"]
    ),
    "gamma stands outside mu: the exponent is mu (S - gamma)": _variant(
        _weights, exponents=lambda given: given["mu"] * given["scores"] - given["gamma"]
    ),
    "mu times too much: 1/mu in the loss takes back the mu of the exponent": (
        lambda scores, mu, gamma, same_image: mu * _weights(scores, mu, gamma, same_image)
    ),
    "divided by mu: 1/mu in the loss only takes back the mu of the exponent": (
        lambda scores, mu, gamma, same_image: _weights(scores, mu, gamma, same_image) / mu
    ),
    "divided by B: the mean over the queries is left out here": lambda scores, mu, gamma, same_image: (
        _weights(scores, mu, gamma, same_image) / len(scores)
    ),
    "each negative is weighed alone, against the 1: below the line stands the sum over all of the row": (
        lambda scores, mu, gamma, same_image: (mu * (scores - gamma)).sigmoid().masked_fill(same_image, 0)
    ),
    "both directions added: only the rows are asked for": lambda scores, mu, gamma, same_image: (
        _weights(scores, mu, gamma, same_image) + _weights(scores, mu, gamma, same_image, dim=0)
    ),
}

# --- ring-buffer -----------------------------------------------------------------------------------------------------

UNFILLED = "slots that were never filled are returned: only those that came, min(came, size) of them"
OVERFULL = "the queue holds more keys than its size: the oldest must go"
OUT_OF_STEP = "the ids are not in step with the keys: write both to the same places, and read both in the same order"
OLD_CHANGED = (
    "keys you gave out earlier changed with a later enqueue: a slice is a view of the storage; return a copy, as "
    "indexing with a tensor of places does"
)
INPUT_KEPT = "the queue changes when the tensor that was enqueued is changed afterwards: store a copy"
GRAPH_KEPT = "the stored keys carry a gradient: detach() what you store, or the graph of every batch is kept"


def ring_cases() -> Iterator[Inputs]:
    """Queues of several sizes, a single slot among them."""
    for size, dim in ((5, 3), (1, 2), (8, 4), (4, 1)):
        yield {"size": size, "dim": dim}


class _Ring:
    """The right answer with plain lists; each mistake below spoils one thing."""

    def __init__(self, size: int, dim: int):
        self.size, self.dim, self.came = size, dim, 0
        self.slots = [(torch.zeros(dim), -1)] * size

    def enqueue(self, keys: Tensor, ids: Tensor) -> None:
        for key, owner in self.taken(list(zip(keys.detach().clone(), ids.tolist(), strict=True))):
            self.slots[self.came % self.size] = (key, owner)
            self.came += 1

    def taken(self, rows: list) -> list:
        return rows

    def shown(self) -> list:
        filled = min(self.came, self.size)
        return [self.slots[turn % self.size] for turn in range(self.came - filled, self.came)]

    def keys(self) -> Tensor:
        return torch.stack([key for key, _ in self.shown()]) if self.shown() else torch.zeros(0, self.dim)

    def ids(self) -> Tensor:
        return torch.tensor([owner for _, owner in self.shown()], dtype=torch.long)


class _StorageOrder(_Ring):
    def shown(self):
        return self.slots[: min(self.came, self.size)]


class _NewestFirst(_Ring):
    def shown(self):
        return super().shown()[::-1]


class _FirstRows(_Ring):
    def taken(self, rows):
        return rows[: self.size]


class _CutAtTheEnd(_Ring):
    def enqueue(self, keys, ids):
        pointer = self.came % self.size
        for place, row in enumerate(zip(keys.detach().clone(), ids.tolist(), strict=True), pointer):
            if place < self.size:
                self.slots[place] = row
        self.came += len(keys)


class _BeginsAgain(_Ring):
    pointer = filled = 0

    def enqueue(self, keys, ids):
        rows = list(zip(keys.detach().clone(), ids.tolist(), strict=True))[-self.size :]
        if self.pointer + len(rows) > self.size:
            self.pointer = 0
        for row in rows:
            self.slots[self.pointer] = row
            self.pointer += 1
        self.filled = max(self.filled, self.pointer)

    def shown(self):
        return self.slots[self.pointer : self.filled] + self.slots[: self.pointer]


class _FullIsFull(_Ring):
    def taken(self, rows):
        return rows[: max(0, self.size - self.came)]


class _Unfilled(_Ring):
    def shown(self):
        return self.slots


class _Overfull(_Ring):
    def __init__(self, size, dim):
        super().__init__(1000, dim)


class _IdsInStorageOrder(_Ring):
    def ids(self):
        return torch.tensor([owner for _, owner in _StorageOrder.shown(self)], dtype=torch.long)


class _Views(_Ring):
    def __init__(self, size, dim):
        super().__init__(size, dim)
        self.stored = torch.zeros(size, dim)

    def enqueue(self, keys, ids):
        super().enqueue(keys, ids)
        self.stored.copy_(torch.stack([key for key, _ in self.slots]))

    def keys(self):
        return self.stored[: self.came] if self.came <= self.size else super().keys()


class _KeepsInput(_Ring):
    def enqueue(self, keys, ids):
        for key, owner in zip(keys.detach(), ids.tolist(), strict=True):
            self.slots[self.came % self.size] = (key, owner)
            self.came += 1


class _KeepsGraph(_Ring):
    def enqueue(self, keys, ids):
        for key, owner in zip(keys.clone(), ids.tolist(), strict=True):
            self.slots[self.came % self.size] = (key, owner)
            self.came += 1


RING_MISTAKES = {
    "keys come in the order of the storage: oldest first begins at came % size, once the queue is full": _StorageOrder,
    "keys come newest first: oldest first is asked for": _NewestFirst,
    "of more keys than fit the first ones stay: the last ones are the newest": _FirstRows,
    "keys that did not fit before the end of the storage are lost: they go on at place 0": _CutAtTheEnd,
    "a batch that does not fit before the end begins at place 0: fill the end first, then go on at place 0": (
        _BeginsAgain
    ),
    "a full queue takes nothing more: new keys replace the oldest": _FullIsFull,
    UNFILLED: _Unfilled,
    OVERFULL: _Overfull,
    OUT_OF_STEP: _IdsInStorageOrder,
    OLD_CHANGED: _Views,
    INPUT_KEPT: _KeepsInput,
    GRAPH_KEPT: _KeepsGraph,
}


def ring_properties(inputs: Inputs, run: Callable[..., Any]) -> None:
    """Random sequences of batches beside a deque, and beside the known mistakes, which explain a difference."""
    size, dim, g = inputs["size"], inputs["dim"], torch.Generator().manual_seed(inputs["size"])
    ring, wanted = run(), deque(maxlen=size)
    others = {message: wrong(**inputs) for message, wrong in RING_MISTAKES.items()}
    given_out, came = [], 0
    later = torch.randint(0, 2 * size + 2, (9,), generator=g).tolist()
    for new in [2, 1, 0, 2, size, 1, size + 2, 3, *later, 1]:
        keys = torch.randn(new, dim, generator=g)
        ids = torch.arange(came, came + new) * 7 % 11
        mine = keys.clone().requires_grad_(True)
        _call(ring, "enqueue", size, came, mine, ids.clone())
        came += new
        for other in others.values():
            other.enqueue(keys, ids)
        wanted.extend(zip(keys, ids.tolist(), strict=True))
        found = _call(ring, "keys", size, came), _call(ring, "ids", size, came)
        _expect_ring(found, wanted, others, size, dim, came)
        with torch.no_grad():
            mine.fill_(torch.nan)
        if bool(_call(ring, "keys", size, came).isnan().any()):
            raise AssertionError(INPUT_KEPT)
        if any(not torch.equal(now, then) for now, then in given_out):
            raise AssertionError(OLD_CHANGED)
        given_out.append((found[0], found[0].clone()))


def _call(ring: Any, name: str, size: int, came: int, *values: Tensor) -> Any:
    """A method of the learner's class; what it raises becomes a diagnosis."""
    method = getattr(ring, name, None)
    if not callable(method):
        raise AssertionError(f"the class has no method {name}(), the names in the stub are what the check calls")
    try:
        return method(*values)
    except Exception as error:
        if isinstance(error, NotImplementedError) and "not implemented for" not in str(error):
            raise
        with_keys = f"{len(values[0])} keys came to" if values else "it was asked of"
        raise AssertionError(
            f"your {name} stopped with {type(error).__name__}: {error}\n{with_keys} a queue of size {size} that had "
            f"seen {came}. Any number of keys must do, 0 too; places wrap round: (came + torch.arange(n)) % size"
        ) from error


def _expect_ring(found: tuple, wanted: deque, others: dict[str, _Ring], size: int, dim: int, came: int) -> None:
    for name, value, shape in (("keys", found[0], (len(wanted), dim)), ("ids", found[1], (len(wanted),))):
        if not isinstance(value, Tensor):
            raise AssertionError(f"{name}() returned {type(value).__name__}, expected a tensor")
        if value.shape[1:] != shape[1:]:
            raise AssertionError(f"{name}() has shape {tuple(value.shape)}, expected {shape}")
    keys, ids = found[0].detach(), found[1]
    right = torch.stack([key for key, _ in wanted]) if wanted else torch.zeros(0, dim)
    owners = [owner for _, owner in wanted]
    if len(keys) == size > came:
        raise AssertionError(UNFILLED)
    if len(keys) > size:
        raise AssertionError(OVERFULL)
    if not torch.equal(keys.to(right), right):
        same = (message for message, other in others.items() if torch.equal(other.keys().detach(), keys.to(right)))
        told = next(same, f"keys() returned {len(keys)} keys, and not the last {len(wanted)} that came, oldest first")
        raise AssertionError(f"{told}\n(a queue of size {size}, after {came} keys)")
    if ids.tolist() != owners:
        raise AssertionError(f"{OUT_OF_STEP}\n(ids() {ids.tolist()}, expected {owners})")
    if found[0].requires_grad:
        raise AssertionError(GRAPH_KEPT)


# --- momentum-step ---------------------------------------------------------------------------------------------------


class _Encoder(nn.Module):
    """A small encoder with buffers; it remembers its copies, since a check hands copies to the answer."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float64):
        super().__init__()
        self.copies: list[_Encoder] = []
        self.own: list[nn.Parameter] = []  # the weights that it started with
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False)).to(dtype)
        g = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for value in self.state_dict().values():
                drawn = torch.rand(value.shape, generator=g, dtype=torch.float64)
                value.copy_(100 * drawn if value.dtype == torch.long else drawn)

    def __deepcopy__(self, memo: dict) -> _Encoder:
        new = _Encoder(0)
        new.layers = copy.deepcopy(self.layers, memo)
        new.own = list(new.parameters())
        self.copies.append(new)
        return new

    def forward(self, rows: Tensor) -> Tensor:
        return self.layers(rows)


def momentum_cases() -> Iterator[Inputs]:
    """A key encoder that takes no gradient, and the encoder that it follows; both ends of the momentum too."""
    for seed, (momentum, dtype) in enumerate(
        [(0.9, torch.float64), (0.99, torch.float32), (0.0, torch.float64), (1.0, torch.float32)]
    ):
        target = _Encoder(2 * seed, dtype).requires_grad_(False)
        yield {"target": target, "source": _Encoder(2 * seed + 1, dtype), "momentum": momentum}


def _moved(weight: Callable[[Tensor, Tensor, float], Tensor], buffer: Callable | None = None) -> Callable:
    """A step that moves every weight, and every buffer, by a formula; a buffer is copied by default."""

    def step(target, source, momentum):
        buffer_names = {name for name, _ in target.named_buffers()}
        leaders = source.state_dict()
        with torch.no_grad():
            for name, value in target.state_dict().items():
                how = (buffer or (lambda t, s, m: s)) if name in buffer_names else weight
                value.copy_(how(value, leaders[name], momentum))

    return step


def _average(t: Tensor, s: Tensor, m: float) -> Tensor:
    return m * t + (1 - m) * s


def _as_it_was(t: Tensor, s: Tensor, m: float) -> Tensor:
    return t


momentum_specification = _moved(_average)


def _replaces(target, source, momentum):
    right = copy.deepcopy(target)
    momentum_specification(right, source, momentum)
    target.layers = right.layers


def _keeps_graph(target, source, momentum):
    for own, leader in zip(target.parameters(), source.parameters(), strict=True):
        own.mul_(momentum).add_((1 - momentum) * leader)
    for own, leader in zip(target.buffers(), source.buffers(), strict=True):
        own.copy_(leader)


def _moves_source(target, source, momentum):
    momentum_specification(source, target, momentum)


def _shares_buffers(target, source, momentum):
    momentum_specification(target, source, momentum)
    target.layers[1].running_mean = source.layers[1].running_mean


REPLACED = (
    "the weights of target are other tensors now: change them in place, with lerp_, mul_, copy_ or load_state_dict"
)
KEPT_GRAPH = (
    "the weights of target carry a gradient now: work under torch.no_grad(), or the graph of every step is kept"
)
MOVED_SOURCE = "source was changed: target follows source, not the other way round"
SHARED = "target and source share memory now: copy the values, or the next step of source is one of target too"
ABOUT_MEMORY = (_replaces, _keeps_graph, _moves_source, _shares_buffers)
MOMENTUM_MISTAKES = {
    "target did not change: work on its own tensors, in place": _moved(_as_it_was, _as_it_was),
    "m and 1 - m are exchanged: m stays with target, 1 - m comes from source": _moved(
        lambda t, s, m: (1 - m) * t + m * s
    ),
    "the buffers (running means and the like) were not copied: parameters() does not list them, buffers() does": _moved(
        _average, _as_it_was
    ),
    "the buffers are averaged: copy them as they are": _moved(_average, _average),
    "this is a plain copy: momentum is not used": _moved(lambda t, s, m: s),
    "only the buffers were copied: the weights did not move": _moved(_as_it_was),
    "the two parts are added without their factors m and 1 - m": _moved(lambda t, s, m: t + s),
    "the share of target is missing: m target + (1 - m) source": _moved(lambda t, s, m: (1 - m) * s),
    "source comes with its full weight: m target + (1 - m) source": _moved(lambda t, s, m: m * t + s),
    "target moves away from source: the step is (1 - m) (source - target)": _moved(
        lambda t, s, m: t - (1 - m) * (s - t)
    ),
    REPLACED: _replaces,
    KEPT_GRAPH: _keeps_graph,
    MOVED_SOURCE: _moves_source,
    SHARED: _shares_buffers,
}


def momentum_properties(inputs: Inputs, run: Callable[..., Any]) -> None:
    """What the answer did to its copies of target and source."""
    target, source, momentum = inputs["target"], inputs["source"], inputs["momentum"]
    run()
    mine, leader = target.copies[0], source.copies[0]
    if _different(leader, source):
        raise AssertionError(MOVED_SOURCE)
    if any(value.requires_grad for value in mine.parameters()):
        raise AssertionError(KEPT_GRAPH)
    wrong_names = _different(mine, _after(momentum_specification, target, source, momentum))
    if wrong_names:
        for message, wrong in MOMENTUM_MISTAKES.items():
            if wrong not in ABOUT_MEMORY and not _different(mine, _after(wrong, target, source, momentum)):
                raise AssertionError(f"{message}\n(momentum {momentum})")
        names = ", ".join(wrong_names)
        raise AssertionError(f"after a step with momentum {momentum} these are not what the formula says: {names}")
    memory = {value.data_ptr() for value in (*leader.parameters(), *leader.buffers())}
    if any(value.data_ptr() in memory for value in (*mine.parameters(), *mine.buffers())):
        raise AssertionError(SHARED)
    if any(now is not then for now, then in zip(mine.parameters(), mine.own, strict=True)):
        raise AssertionError(REPLACED)


def _after(step: Callable, target: _Encoder, source: _Encoder, momentum: float) -> _Encoder:
    moved = copy.deepcopy(target)
    step(moved, copy.deepcopy(source), momentum)
    return moved


def _different(module: nn.Module, other: nn.Module) -> list[str]:
    """The names of weights and buffers that differ."""
    pairs = zip(module.state_dict().items(), other.state_dict().values(), strict=True)
    return [name for (name, value), right in pairs if not torch.allclose(value.double(), right.double(), atol=1e-6)]


# --- queue-loss ------------------------------------------------------------------------------------------------------


def queue_cases() -> Iterator[Inputs]:
    """Ids in the queue of the query's own image and of another query's; an empty queue; one key; overflow."""
    for seed, (ids, queued, mu, gamma) in enumerate(
        [
            ((0, 1, 2, 3), (5, 1, 0, 0, 7, 6, 3), 8.0, 0.1),
            ((2, 4), (4, 9, -1, 8), 20.0, 0.5),
            ((3,), (3,), 10.0, 0.0),
            ((1, 0, 5), (), 90.0, 0.5),
        ]
    ):
        queries, positives = _unit(len(ids), 5, seed=300 + seed), _unit(len(ids), 5, seed=310 + seed)
        positives[0] = -queries[0]  # a positive below 0
        positives[1:] = (queries + 0.4 * positives)[1:]
        yield {
            "queries": queries,
            "positive_keys": positives / positives.norm(dim=1, keepdim=True),
            "queue_keys": _unit(len(queued), 5, seed=320 + seed) if queued else torch.zeros(0, 5).double(),
            "image_ids": torch.tensor(ids),
            "queue_ids": torch.tensor(queued, dtype=torch.long),
            "mu": mu,
            "gamma": gamma,
        }
    close = nn.functional.normalize(1 + 0.1 * _random(9, 5, seed=330), dim=1)
    ids = {"image_ids": torch.tensor([0, 1]), "queue_ids": torch.tensor([1, 2, 3, 4, 5])}
    yield {
        "queries": close[:2],
        "positive_keys": close[2:4],
        "queue_keys": close[4:],
        **ids,
        "mu": 128.0,
        "gamma": 0.0,
    }


def queue_specification(
    queries: Tensor,
    positive_keys: Tensor,
    queue_keys: Tensor,
    image_ids: Tensor,
    queue_ids: Tensor,
    mu: float,
    gamma: float,
) -> Tensor:
    """Query by query, over the keys whose image is another one."""
    terms = []
    for query, own, owner in zip(queries, positive_keys, image_ids.tolist(), strict=True):
        others = [key for key, other in zip(queue_keys, queue_ids.tolist(), strict=True) if other != owner]
        positive = query @ own
        kept = positive if float(positive.detach()) > 0 else 0 * positive
        exponents = [mu * (query @ key - gamma) for key in others]
        terms.append(_log_one_plus(exponents, queries) / mu - torch.log(1 + kept))
    return torch.stack(terms).mean()


def _queue(
    queries,
    positive_keys,
    queue_keys,
    image_ids,
    queue_ids,
    mu,
    gamma,
    mask=None,
    positive=None,
    total=torch.mean,
    **changed,
):
    """Variants of the loss against a queue."""
    no_negative = image_ids[:, None] == queue_ids if mask is None else mask
    negatives = _negatives(queries @ queue_keys.T, mu, gamma, no_negative, **changed)
    kept = (queries * positive_keys).sum(1).relu().log1p() if positive is None else positive
    return total(negatives - kept)


def _same(given: Inputs) -> Tensor:
    return given["image_ids"][:, None] == given["queue_ids"]


def _positives(given: Inputs) -> Tensor:
    return (given["queries"] * given["positive_keys"]).sum(1)


def _dots(given: Inputs) -> Tensor:
    return given["queries"] @ given["queue_keys"].T


def _queue_positive_matrix(queries, positive_keys, **rest):
    return _queue(queries, positive_keys, **rest, positive=(queries @ positive_keys.T).relu().log1p().mean())


def _queue_with_batch(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    return _queue(
        queries,
        positive_keys,
        torch.cat([queue_keys, positive_keys]),
        image_ids,
        torch.cat([queue_ids, image_ids]),
        mu,
        gamma,
    )


QUEUE_MISTAKES = {
    "exp overflows when mu (S - gamma) is large: put a 0 beside the exponents and take logsumexp": _variant(
        _queue, naive=True
    ),
    "captions of the query's own image count as negatives: leave out keys whose queue_ids equal its image_ids": (
        _variant(_queue, mask=lambda given: torch.zeros_like(_same(given)))
    ),
    "a key is left out for all queries when its image is anywhere in the batch: compare it with each "
    "query's own image": (_variant(_queue, mask=lambda given: _same(given).any(0).expand_as(_same(given)))),
    "the mask is turned round: what must go is where the ids are equal": _variant(
        _queue, mask=lambda given: ~_same(given)
    ),
    "what is no negative became an exponent of 0, and e^0 = 1 counts: fill with -torch.inf": _variant(_queue, fill=0.0),
    "what is no negative became a score of 0, and e^(-mu gamma) counts: fill the exponents with -torch.inf": _variant(
        _queue, fill=lambda given: -given["mu"] * given["gamma"]
    ),
    "the 1 inside the logarithm is missing: with no negative at all the loss would be minus infinity": _variant(
        _queue, one=False
    ),
    "1/mu is missing before the logarithm": _variant(_queue, scale=False),
    "gamma is missing: the exponent is mu (S - gamma)": _variant(
        _queue, exponents=lambda given: given["mu"] * _dots(given)
    ),
    "gamma stands outside mu: the exponent is mu (S - gamma), not mu S - gamma": _variant(
        _queue, exponents=lambda given: given["mu"] * _dots(given) - given["gamma"]
    ),
    "a positive below 0 goes into the logarithm as it is: log(1 + [S]+) cuts it off at 0": _variant(
        _queue, positive=lambda given: _positives(given).log1p()
    ),
    "the positive is added: it has a minus": _variant(_queue, positive=lambda given: -_positives(given).relu().log1p()),
    "the positive's logarithm is missing: log(1 + [S]+)": _variant(
        _queue, positive=lambda given: _positives(given).relu()
    ),
    "there is no positive term: without - log(1 + [S]+) nothing draws a pair together": _variant(_queue, positive=0.0),
    "every query has every positive key: query i has key i, (queries * positive_keys).sum(1)": _queue_positive_matrix,
    "the other positives of the batch are negatives too: here only the queue's keys are": _queue_with_batch,
    "this is the sum over the batch: divide by B": _variant(_queue, total=lambda given: _sum),
    "the mean over the keys instead of their sum": _variant(_queue, mean=True),
    "this is the loss twice: only one direction is asked for": lambda **given: 2 * _queue(**given),
}


# --- enhance ---------------------------------------------------------------------------------------------------------


def enhance_cases() -> Iterator[Inputs]:
    """Regions of several lengths, padding anywhere with large numbers in it, one region, one picture."""
    for seed, (images, regions, dim, sharpness) in enumerate(
        [(3, 5, 4, 1.5), (2, 4, 6, 0.5), (1, 3, 3, 8.0), (2, 1, 4, 1.0)]
    ):
        mask = torch.rand(images, regions, generator=torch.Generator().manual_seed(340 + seed)) < 0.6
        mask[:, -1] = True
        mask[0, 0] = regions == 1
        vectors = _random(images, regions, dim, seed=350 + seed)
        yield {
            "regions": torch.where(mask[..., None], vectors, 3 * vectors),
            "mask": mask,
            "guide": _unit(images, dim, seed=360 + seed),
            "sharpness": sharpness,
        }


def enhance_specification(regions: Tensor, mask: Tensor, guide: Tensor, sharpness: float) -> Tensor:
    """Picture by picture: shares of the real regions, brought to length 1, then each gets its share of the guide."""
    rows = []
    for vectors, real, whole in zip(regions, mask.tolist(), guide, strict=True):
        logits = [sharpness * (vector @ whole) for vector, is_real in zip(vectors, real, strict=True) if is_real]
        top = max(float(logit.detach()) for logit in logits)
        grown = [torch.exp(logit - top) for logit in logits]
        length = torch.sqrt(sum(g * g for g in grown))  # the softmax's own divisor falls out
        shares = iter([g / length for g in grown])
        rows += [
            vector + next(shares) * whole if is_real else vector for vector, is_real in zip(vectors, real, strict=True)
        ]
    return torch.stack(rows).view(regions.shape)


def _enhance(
    regions,
    mask,
    guide,
    sharpness,
    fill=-torch.inf,
    length=2.0,
    dim=1,
    products=None,
    residual=1.0,
    late=False,
    give=None,
):
    """Variants of giving the guide back."""
    products = sharpness * torch.einsum("nrf,nf->nr", regions, guide) if products is None else products
    share = products.masked_fill(~mask, fill).softmax(dim)
    share = share if late else share.masked_fill(~mask, 0)
    if length:
        share = share / share.norm(p=length, dim=1, keepdim=True).clamp(min=1e-12)
    return residual * regions + share[..., None] * (guide[:, None] if give is None else give)


ENHANCE_MISTAKES = {
    "b is the softmax as it is: bring it to length 1, b / |b|": _variant(_enhance, length=None),
    "padded regions take part in the softmax: fill their products with -torch.inf first": lambda **given: torch.where(
        given["mask"][..., None],
        _enhance(**{**given, "mask": torch.ones_like(given["mask"])}),
        given["regions"],
    ),
    "the mask is not used: padded regions take part in the softmax, and receive a share": lambda **given: _enhance(
        **{**given, "mask": torch.ones_like(given["mask"])}
    ),
    "padding became a product of 0, and e^0 = 1 is a share: fill with -torch.inf": _variant(
        _enhance, fill=0.0, late=True
    ),
    "padded regions were set to 0: they stay as they came": lambda **given: (
        _enhance(**given) * given["mask"][..., None]
    ),
    "the region itself is missing: x_r + b_r g, not b_r g alone": _variant(_enhance, residual=0.0),
    "each region is given back its own share of itself, b_r x_r: what it receives is the guide g": _variant(
        _enhance, give=lambda given: given["regions"]
    ),
    "every region receives g in full: times b_r": lambda **given: (
        given["regions"] + given["mask"][..., None] * given["guide"][:, None]
    ),
    "the regions are multiplied by b_r before g is added: x_r + b_r g": lambda **given: (
        _enhance(**given, residual=0.0) + (_enhance(**given, residual=0.0, give=1.0)[..., :1]) * given["regions"]
    ),
    "sharpness is missing: it multiplies the products": lambda **given: _enhance(**{**given, "sharpness": 1.0}),
    "the products are divided by sharpness: multiply them": lambda **given: _enhance(
        **{**given, "sharpness": 1 / given["sharpness"]}
    ),
    "the softmax runs over the pictures: each picture shares among its own regions, dim 1": _variant(
        _enhance, dim=0, fill=-1e30
    ),
    "b has length 1 before the softmax: the softmax comes first": lambda **given: _enhance(
        **given,
        length=None,
        products=nn.functional.normalize(
            (given["sharpness"] * torch.einsum("nrf,nf->nr", given["regions"], given["guide"])).masked_fill(
                ~given["mask"], 0
            ),
            dim=1,
        ),
    ),
    "the products are of unit vectors: x_r . g takes the regions as they are": lambda **given: _enhance(
        **given,
        products=given["sharpness"]
        * torch.einsum("nrf,nf->nr", nn.functional.normalize(given["regions"], dim=-1), given["guide"]),
    ),
    "the result has length 1: leave it as it is": lambda **given: nn.functional.normalize(_enhance(**given), dim=-1),
}

EXERCISES = (
    Exercise("unified-loss", unified_cases, unified_specification, UNIFIED_MISTAKES, ("scores",), overflow_explained),
    Exercise("unified-weights", unified_cases, weights_specification, WEIGHTS_MISTAKES, (), overflow_explained),
    Exercise("ring-buffer", ring_cases, mistakes=RING_MISTAKES, properties=ring_properties),
    Exercise("momentum-step", momentum_cases, mistakes=MOMENTUM_MISTAKES, properties=momentum_properties),
    Exercise("queue-loss", queue_cases, queue_specification, QUEUE_MISTAKES, ("queries",), overflow_explained),
    Exercise("enhance", enhance_cases, enhance_specification, ENHANCE_MISTAKES, gradients=("regions", "guide")),
)
