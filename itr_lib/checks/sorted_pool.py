"""``sorted-pool``, lesson 01.

Pooling with a weight for each place in the order of size, beside a sort; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs


def _sets(seed: int, batch: int, width: int, dim: int, shift: float = 0.0, scale: float = 1.0, full=False) -> Inputs:
    """Sets with padding anywhere but in the last place; their weights are 0 beyond a set's size."""
    batch, width, dim = sizes(batch, width, dim)
    g = generator(seed)
    tokens = scale * (torch.randn(batch, width, dim, generator=g, dtype=torch.float64) + shift)
    mask = torch.rand(batch, width, generator=g) < (2 if full else 0.6)
    mask[:, -1] = True
    weights = torch.rand(batch, width, generator=g, dtype=torch.float64)
    weights = weights * (torch.arange(width)[None, :] < mask.sum(1, keepdim=True))
    return {"tokens": tokens, "mask": mask, "weights": weights / weights.sum(1, keepdim=True)}


def pool_cases() -> Iterator[Case]:
    """Sets of different sizes, padding anywhere, a set of one, all signs and sizes, and weights of any sum."""
    yield Case(_sets(5, 2, 4, 3, full=True))
    yield Case(_sets(0, 3, 5, 4), "some tokens are padding")
    yield Case(_sets(1, 1, 4, 3, shift=-3.0), "real values are negative, and some tokens are padding")
    yield Case(_sets(2, 4, 7, 2, shift=3.0), "real values are positive, and some tokens are padding")
    yield Case(_sets(3, 2, 1, 3), "a set holds one vector")
    yield Case(_sets(4, 2, 5, 3, shift=-6.0, scale=1e4), "real values lie far below -10,000")
    loose = _sets(6, 3, 5, 2, shift=-1.0)
    yield Case({**loose, "weights": 3 * loose["weights"]}, "the weights do not sum to 1")


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


def _pool(
    tokens: Tensor, mask: Tensor, weights: Tensor, fill=-1e30, turned=False, order="down", axis=1, after="filled",
    use="given", over="sum",
) -> Tensor:  # fmt: skip
    """The pooling with all that a learner may change in it."""
    gone = mask if turned else ~mask
    filled = tokens if fill is None else tokens.masked_fill(gone[..., None], fill)
    ordered = _ordered(filled, order, axis)
    ordered = _finished(ordered, fill, after, mask)
    size = mask.sum(dim=1, keepdim=True)
    theta = {
        "given": weights, "normalised": weights / weights.sum(dim=1, keepdim=True), "soft": weights.softmax(dim=1),
        "ones": (weights > 0).to(weights), "mean": (torch.arange(mask.shape[1], device=mask.device) < size) / size,
        "first, sorted": weights[:1].sort(dim=1, descending=True).values.expand_as(weights),
        "one": weights * (torch.arange(mask.shape[1], device=mask.device) == 0),
        "sorted": weights.sort(dim=1, descending=True).values, "compressed": _compressed(weights, mask),
        "first": weights[:1].expand_as(weights), "square": weights**2,
    }[use]  # fmt: skip
    total = (ordered * theta.to(tokens.dtype)[..., None]).sum(dim=1)
    return total / {"sum": 1, "size": size, "width": mask.shape[1]}[over]


def _finished(ordered: Tensor, fill: float | None, after: str, mask: Tensor) -> Tensor:
    """What becomes of padding after the sort, or of places."""
    if after == "filled" and fill is not None and abs(fill) > 1e20:
        ordered = ordered.masked_fill(ordered == fill, 0)
    if after == "zeroed":  # by its value
        ordered = ordered.masked_fill(ordered == fill, 0)
    if after == "old mask":
        ordered = ordered.masked_fill(~mask[..., None], 0)
    if after == "relu":
        ordered = ordered.clamp(min=0)
    if after == "late":
        ordered = torch.cat([0 * ordered[:, :1], ordered.masked_fill(ordered == fill, 0)[:, 1:]], dim=1)
    if after == "shifted":
        ordered = ordered.masked_fill(ordered == fill, 0).roll(-1, 1)
        ordered[:, -1] = 0
    if after == "infinite":
        ordered = ordered.masked_fill(ordered == fill, -torch.inf)
    return ordered


def _compressed(weights: Tensor, mask: Tensor) -> Tensor:
    """weights[mask], set by set: those that stand where something real stands, moved to the front."""
    rows = [row[real] for row, real in zip(weights, mask, strict=True)]
    return torch.stack([torch.cat([row, row.new_zeros(mask.shape[1] - len(row))]) for row in rows])


def _ordered(filled: Tensor, order: str, axis: int) -> Tensor:
    if order == "whole":
        places = filled.sum(dim=-1).argsort(dim=1, descending=True)
        return filled.gather(1, places[..., None].expand_as(filled))
    if order == "lengths":
        length = filled.clamp(min=-1e15).norm(dim=-1).masked_fill(filled[..., 0] == -1e30, -1)
        places = length.argsort(dim=1, descending=True)
        return filled.gather(1, places[..., None].expand_as(filled))
    if order == "by size":
        places = filled.abs().masked_fill(filled == -1e30, -1).argsort(dim=1, descending=True)
        return filled.gather(1, places)
    if order == "first":
        places = filled[..., :1].argsort(dim=1, descending=True)
        return filled.gather(1, places.expand_as(filled))
    if order in ("top", "places", "size"):
        hidden = filled.masked_fill(filled == -1e30, 0).abs() if order == "size" else filled
        ordered = hidden.sort(dim=1, descending=True)
        top = ordered.values[:, :1].expand_as(filled)
        return {"top": top, "places": ordered.indices, "size": ordered.values}[order]
    return filled if order == "none" else filled.sort(dim=axis, descending=order == "down").values


TOGGLES = {
    "sorted upwards, padding of -inf stands first and the smallest value next: sort with descending=True, the first "
    "weight belongs to the largest value": {
        "order": "up",
    },
    "you sorted upwards, with padding last: the first weight belongs to the largest value": {
        "order": "up", "fill": 1e30,
    },
    "sorted upwards, with padding as 0 among the values: sort with descending=True, and fill with -inf first": {
        "order": "up", "fill": 0.0,
    },
    "absolute values decide the order: sort the values as they are": {"order": "by size"},
    "only the largest value is used, times the first weight: add the others with theirs": {"use": "one"},
    "all sets get the weights of the first, sorted: weights[b, k] belongs to set b and place k": {
        "use": "first, sorted",
    },
    "the mask is turned round: masked_fill fills where it is True, so give it ~mask": {"turned": True},
    "after the sort padding stands last, and your mask, in the old order, no longer fits": {"after": "old mask"},
    "-inf times a weight of 0 is NaN: after the sort set to 0 what is -inf (padding stands last now, your mask no "
    "longer fits)": {"after": "infinite"},
    "you sorted along the features (dim=-1): each dimension is sorted over the set, dim=1": {"axis": 2, "fill": 0.0},
    "you sorted over the sets of the batch (dim=0): each dimension is sorted over its own set, dim=1": {"axis": 0},
    "padding took part in the sort as 0, and stands before the negative values: fill it with -inf first": {"fill": 0.0},
    "padding took part as it came: fill it with -inf before the sort": {"fill": None},
    "padding took part in the sort as 1, before the smaller values: fill it with -inf first": {"fill": 1.0},
    **{
        f"padding took part in the sort as {fill}, and real values lie below: fill it with -inf first": {
            "fill": float(fill),
        }
        for fill in (-1, -10, -100, -1000, -10000)
    },
    "padding became -1 for the sort, then 0, and real values lie below: fill it with -inf before the sort": {
        "fill": -1.0, "after": "zeroed",
    },
    "padding became a low number for the sort, then 0, and real values lie below: only -inf is sure to be last": {
        "fill": -10000.0, "after": "zeroed",
    },
    "padding was filled with +inf, so it stands first: fill it with -inf": {"fill": 1e30},
    "negative values became 0: only padding is set to 0, after the sort": {"after": "relu"},
    "place 0 is left out: weights and places both begin at 0": {"after": "late"},
    "the weights are one place too late: weight 0 belongs to the largest value": {"after": "shifted"},
    "only the largest value is used, with all the weights": {"order": "top"},
    "sort returns values and where they stood, and you took the latter: take .values": {"order": "places"},
    "you sorted by absolute values, and lost the signs: sort the values as they are": {"order": "size"},
    "the weights are sorted, too: they are given place by place, take them as they are": {"use": "sorted"},
    "you took weights[mask]: weights belong to places after the sort, the first ones, weights[:size], to the real "
    "values": {
        "use": "compressed",
    },
    "nothing is sorted here: weight k belongs to the k-th largest value, not to token k": {"order": "none"},
    "you sorted whole tokens: each dimension is sorted for itself": {"order": "whole"},
    "you sorted whole tokens by their length: each dimension is sorted for itself": {"order": "lengths"},
    "every dimension follows the order of the first: each is sorted for itself": {"order": "first"},
    "the weights are made to sum to 1 here: take them as they are": {"use": "normalised"},
    "the weights went through a softmax: take them as they are": {"use": "soft"},
    "the weights are not used: this is the sum of the set": {"use": "ones"},
    "this is mean pooling: use the weights": {"use": "mean"},
    "the weighted sum is divided by the size of the set: it is a plain sum": {"over": "size"},
    "this is the mean over the padded width: add up, do not average": {"over": "width"},
    "all sets get the weights of the first: weights[b, k] belongs to set b": {"use": "first"},
    "the weights are squared": {"use": "square"},
}  # fmt: skip


def _only(rank: int):
    """Maximum or minimum instead of the weighted sum."""

    def pool(tokens: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        filled = tokens.masked_fill(~mask[..., None], -1e30 if rank == 0 else 1e30)
        return filled.amax(dim=1) if rank == 0 else filled.amin(dim=1)

    return pool


def _unit(tokens: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    pooled = library(tokens, mask, weights)
    return pooled / pooled.norm(dim=1, keepdim=True)


def _steps(tokens: Tensor, mask: Tensor, weights: Tensor) -> str:
    """How the first number of the result comes about."""
    values = tokens[0, mask[0], 0].sort(descending=True).values
    theta = weights[0, : len(values)]
    products = " + ".join(f"{t:.3g} x {v:.3g}" for t, v in zip(theta.tolist(), values.tolist(), strict=True))
    return f"set 0, dimension 0 gives {products} = {float((theta * values).sum()):.4g}"


def library(tokens: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """What :class:`itr_lib.encoders.pooling.GPO` does once it has its weights."""
    ordered = tokens.masked_fill(~mask[..., None], -torch.inf).sort(dim=1, descending=True).values
    beyond = torch.arange(mask.shape[1], device=mask.device) >= mask.sum(dim=1, keepdim=True)
    return torch.einsum("bk,bkd->bd", weights.to(tokens.dtype), ordered.masked_fill(beyond[..., None], 0))


def _three() -> Inputs:
    tokens = torch.tensor([[[1.0, 5.0], [4.0, 2.0], [0.0, 3.0]]], dtype=torch.float64)
    return {"tokens": tokens, "mask": torch.ones(1, 3).bool(), "weights": tokens.new_tensor([[0.5, 0.3, 0.2]])}


EXERCISE = Exercise(
    "sorted-pool",
    library=library,
    example=Case(_three(), worked=[[2.3, 3.8]]),
    cases=pool_cases,
    specification=pool_specification,
    steps=_steps,
    mistakes={
        "this is max pooling: use the weights": _only(0),
        "this is the smallest value: use the weights": _only(-1),
        "the result is made to have length 1: leave it as it is": _unit,
    },
    family=(_pool, TOGGLES),
    gradients=("tokens",),
    rehearsal=Rehearsal(lambda: _sets(7, 10, 36, 256), calls=300),
)
