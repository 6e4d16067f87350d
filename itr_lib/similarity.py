"""Vectors to scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import groupby
from math import isqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from itr_lib.validation import expect_choice, expect_dims, expect_float, expect_mask, expect_positive


def l2_normalise(vectors: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
    """Scale each vector to length 1; a zero vector stays zero, with a finite gradient."""
    # Squares of very small and very large numbers leave the range of a float: bring the largest entry to 1 first.
    largest = vectors.detach().abs().amax(dim=-1, keepdim=True)
    vectors = vectors / torch.where(largest > 0, largest, 1)
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    # Dividing by a tiny epsilon instead would multiply a zero vector's gradient by its inverse.
    return vectors / torch.where(length > 0, length, 1)


def cosine_scores(
    images: Float[Tensor, "images dim"], captions: Float[Tensor, "captions dim"]
) -> Float[Tensor, "images captions"]:
    """Cosine of the angle between every image vector and every caption vector.

    Args:
        images: (N, D), any length; a zero vector scores 0 with everything.
        captions: (M, D), likewise.

    Returns:
        (N, M) scores between -1 and 1, up to rounding.

    Raises:
        ValueError: for other numbers of axes, different D, vectors that are not floats, or two kinds of float.
    """
    expect_dims("images", images, "images", "dim")
    expect_dims("captions", captions, "captions", "dim")
    expect_float("images", images)
    expect_float("captions", captions)
    _check_alike("images", images, "captions", captions)
    return l2_normalise(images) @ l2_normalise(captions).T


CODINGS = ("hard", "soft")
ATTENDED = ("regions", "words", "both")
# Bytes. What a CPU's caches hold is fastest; with gradients, smaller blocks would be computed twice.
SCAN_BUDGET, TRAINING_BUDGET, GPU_BUDGET = 2**25, 2**28, 2**30

# Messina et al. 2021, section 4.3, eqs. 2 to 5.
TERAN_POOLING: dict[str, dict[str, str]] = {
    "MrSw": {"attend": "regions", "pooling": "sum"},
    "MrAVGw": {"attend": "regions", "pooling": "mean"},
    "MwSr": {"attend": "words", "pooling": "sum"},
    "Symm": {"attend": "both", "pooling": "sum"},
}


def alignment_scores(
    regions: Float[Tensor, "images regions dim"],
    words: Float[Tensor, "captions words dim"],
    region_mask: Bool[Tensor, "images regions"] | None = None,
    word_mask: Bool[Tensor, "captions words"] | None = None,
    *,
    attend: str = "regions",
    coding: str = "hard",
    pooling: str = "sum",
    temperature: float = 0.1,
    beta: float = 0.1,
    memory_budget: int | None = None,
) -> Float[Tensor, "images captions"]:
    """Score every image against every caption by aligning its regions with the caption's words.

    The alignment matrix of a pair holds the dot products of its regions and words. Each *fragment* (a word, with
    ``attend="regions"``) is coded by the other side, and the codes are pooled to one score. TERAN (Messina et al.,
    ACM TOMM 2021, section 4.3) codes by the maximum; SCAN (Lee et al., ECCV 2018, section 3.1) by attention; CHAN
    (Pan et al., CVPR 2023, sections 3.2 and 3.3) names both as two ways of coding.

    Padding never takes part, and is never multiplied: sets are packed, equally large ones side by side, so the cost
    is that of one matrix product of the real elements. Soft coding needs the attended vector's length only, which
    the Gram matrix of a set gives without the vector itself.

    Args:
        regions: (N, R, D), as they are: callers normalise.
        words: (M, W, D), likewise; of the same kind of float, on the same device.
        region_mask: (N, R) bool, True = a real region; None = all are.
        word_mask: (M, W) bool, likewise.
        attend: ``"regions"``: a code for each word; ``"words"``: a code for each region; ``"both"``: the sum of both
            pooled scores.
        coding: ``"hard"``: the largest dot product. ``"soft"``: attention ``softmax(dot / temperature)`` over the
            attended side, then fragment . attended vector / (length of the attended vector + 1e-8).
        pooling: over the codes: ``"sum"``, ``"mean"``, ``"max"``, ``"lse"`` = logsumexp(code / beta), or ``"softmax"``
            = sum of softmax(code / beta) * code.
        temperature: of soft coding.
        beta: of ``"lse"`` and ``"softmax"``.
        memory_budget: bytes that intermediate results may take at once: by default 32 MiB on a CPU, whose caches
            hold that (more is slower), 256 MiB where gradients are asked for, and 1 GiB on a GPU.

    Returns:
        (N, M) scores, in float32 for 16-bit vectors. A pair with an empty side scores 0. Differentiable once in both
        inputs; behind hard coding only the winning pairs carry gradient.

    Raises:
        ValueError: for shapes, kinds of numbers, masks or options that do not fit.
    """
    _check_sets("regions", regions, "region_mask", region_mask)
    _check_sets("words", words, "word_mask", word_mask)
    _check_alike("regions", regions, "words", words)
    expect_choice("attend", attend, ATTENDED)
    expect_choice("coding", coding, CODINGS)
    expect_choice("pooling", pooling, CODE_POOLINGS)
    if memory_budget is None:
        memory_budget = _default_budget(regions, words)
    for name, value in (("temperature", temperature), ("beta", beta), ("memory_budget", memory_budget)):
        expect_positive(name, value)
    if regions.dtype == torch.float16 and regions.device.type == "cpu":  # a CPU multiplies these very slowly
        regions, words = regions.float(), words.float()
    images, captions = _pack(regions, region_mask), _pack(words, word_mask)
    code = _hard_codes if coding == "hard" else partial(_soft_codes, temperature=temperature)
    pool = partial(_POOL[pooling], beta=beta)
    copies = 1.3 if coding == "hard" else 7  # of the alignments, that live at the same time
    limit = int(memory_budget / (copies * max(4, regions.element_size())))
    scores = 0
    if attend != "words":
        scores = scores + _every_pair(images, captions, code, pool, limit)
    if attend != "regions":
        scores = scores + _every_pair(captions, images, code, pool, limit).T
    return scores


def _default_budget(regions: Tensor, words: Tensor) -> int:
    if regions.device.type == "cuda":
        return GPU_BUDGET
    gradients = torch.is_grad_enabled() and (regions.requires_grad or words.requires_grad)
    return TRAINING_BUDGET if gradients else SCAN_BUDGET


class _Sets(NamedTuple):
    """Sets of vectors without padding, one after the other, the smaller sets first."""

    vectors: Float[Tensor, "elements dim"]
    sizes: tuple[int, ...]  # of each set, ascending, none of them 0
    places: Int[Tensor, " sets"]  # where each set stood
    total: int  # how many sets there were, empty ones included

    def blocks(self, limit: int) -> Iterator[_Sets]:
        """Runs of sets with at most ``limit`` elements together, but at least one set."""
        start = first = elements = 0
        for i, size in enumerate((*self.sizes, limit + 1)):
            if elements and elements + size > limit:
                yield _Sets(
                    self.vectors[start : start + elements], self.sizes[first:i], self.places[first:i], self.total
                )
                start, first, elements = start + elements, i, 0
            elements += size

    def each(self, function: Callable[..., Tensor], *tensors: Tensor, dim: int = 0) -> Tensor:
        """Call ``function`` for each run of equally large sets, with axis ``dim`` of the tensors as (sets, size)."""
        results, start = [], 0
        for size, run in groupby(self.sizes):
            count = len(list(run))
            parts = [tensor.narrow(dim, start, count * size).unflatten(dim, (count, size)) for tensor in tensors]
            results.append(function(*parts))
            start += count * size
        return torch.cat(results, dim)


def _pack(vectors: Float[Tensor, "sets width dim"], mask: Bool[Tensor, "sets width"] | None) -> _Sets:
    total, width, dim = vectors.shape
    flat = vectors.reshape(-1, dim)
    if mask is None or bool(mask.all()):
        filled = total if width else 0
        return _Sets(flat, (width,) * filled, torch.arange(filled, device=vectors.device), total)
    sizes, places = mask.sum(dim=1).sort(stable=True)
    empty = int((sizes == 0).sum())
    places = places[empty:]
    which, position = mask[places].nonzero(as_tuple=True)
    packed = flat.index_select(0, places[which] * width + position)
    return _Sets(packed, tuple(sizes[empty:].tolist()), places, total)


def _every_pair(
    codebook: _Sets,
    fragments: _Sets,
    code: Callable[[_Sets, Tensor], Tensor],
    pool: Callable[[Tensor], Tensor],
    limit: int,
) -> Float[Tensor, "codebooks sets"]:
    """Pooled codes of every set of fragments by every codebook, no more than ``limit`` alignments at a time."""
    wide = torch.promote_types(codebook.vectors.dtype, torch.float32)
    scores = codebook.vectors.new_zeros(codebook.total, fragments.total, dtype=wide)
    several = len(codebook.vectors) * len(fragments.vectors) > limit

    def block_scores(vectors: Tensor, books: _Sets, some: _Sets) -> Float[Tensor, "some_books some_sets"]:
        return some.each(pool, code(books, vectors), dim=1)

    # Long strips keep a product fast; nearly square ones reread the least.
    for some in fragments.blocks(max(isqrt(limit), limit // max(1, len(codebook.vectors)))):
        for books in codebook.blocks(max(1, limit // len(some.vectors))):
            if several and code is not _hard_codes and torch.is_grad_enabled():
                part = checkpoint(block_scores, some.vectors, books, some, use_reentrant=False)
            else:
                part = block_scores(some.vectors, books, some)
            scores[books.places[:, None], some.places] = part
    return scores


def _hard_codes(books: _Sets, fragments: Float[Tensor, "fragments dim"]) -> Float[Tensor, "books fragments"]:
    """The largest dot product of each fragment with an element of each codebook."""
    if torch.is_grad_enabled() and (books.vectors.requires_grad or fragments.requires_grad):
        return _HardCodes.apply(books.vectors, fragments, books)
    return _wide(books.each(lambda dots: dots.amax(dim=1), books.vectors @ fragments.T))


class _HardCodes(torch.autograd.Function):
    """Hard codes that remember who won: only the winner receives a fragment's gradient, 1 / R of the dense work."""

    @staticmethod
    def forward(ctx, vectors: Tensor, fragments: Tensor, books: _Sets) -> Float[Tensor, "books fragments"]:
        dots = vectors @ fragments.T
        sizes = torch.tensor(books.sizes, device=dots.device)
        within = books.each(lambda some: some.max(dim=1).indices, dots)
        winners = within + (sizes.cumsum(0) - sizes)[:, None]  # rows of `vectors`
        ctx.save_for_backward(vectors, fragments, winners)
        return _wide(dots.gather(0, winners))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Float[Tensor, "books fragments"]) -> tuple[Tensor, Tensor, None]:
        vectors, fragments, winners = ctx.saved_tensors
        grad, winners = grad.T.flatten(), winners.T.flatten()  # the fragments' numbers ascend
        some = grad.nonzero()[:, 0]  # hinge losses leave most pairs without a gradient
        weight, winner, fragment = grad[some], winners[some], some // (len(grad) // len(fragments))
        to_fragments = _add_rows(fragment, winner, weight, vectors, len(fragments))
        order = winner.argsort(stable=True)
        to_vectors = _add_rows(winner[order], fragment[order], weight[order], fragments, len(vectors))
        return to_vectors, to_fragments, None


def _add_rows(
    into: Int[Tensor, " terms"], row: Int[Tensor, " terms"], weight: Float[Tensor, " terms"], table: Tensor, length: int
) -> Float[Tensor, "length dim"]:
    """``result[into] += weight * table[row]`` for every term; ``into`` is sorted."""
    counts = torch.bincount(into, minlength=length)
    starts = counts.cumsum(0) - counts
    return F.embedding_bag(row, _wide(table), starts, mode="sum", per_sample_weights=weight).to(table.dtype)


def _soft_codes(
    books: _Sets, fragments: Float[Tensor, "fragments dim"], temperature: float
) -> Float[Tensor, "books fragments"]:
    """Dot product of each fragment with the vector it attends to in each codebook, over that vector's length."""

    def attend(
        dots: Float[Tensor, "run size fragments"], members: Float[Tensor, "run size dim"]
    ) -> Float[Tensor, "run fragments"]:
        dots = _wide(dots)
        weights = (dots / temperature).softmax(dim=1)
        # |sum_r a_r v_r|^2 = sum_rs a_r (v_r . v_s) a_s: the attended vector itself is never made.
        square = (weights * (_wide(members @ members.mT) @ weights)).sum(dim=1)
        length = torch.where(square > 0, square, 1).sqrt() * (square > 0)
        return (weights * dots).sum(dim=1) / (length + 1e-8)

    return books.each(attend, books.vectors @ fragments.T, books.vectors)


def _softmax_sum(codes: Float[Tensor, "*batch codes"], beta: float) -> Float[Tensor, "*batch"]:
    return ((codes / beta).softmax(dim=-1) * codes).sum(dim=-1)


_POOL = {
    "sum": lambda codes, beta: codes.sum(dim=-1),
    "mean": lambda codes, beta: codes.mean(dim=-1),
    "max": lambda codes, beta: codes.amax(dim=-1),
    "lse": lambda codes, beta: (codes / beta).logsumexp(dim=-1),
    "softmax": _softmax_sum,
}
CODE_POOLINGS = tuple(_POOL)


def _wide(values: Tensor) -> Tensor:
    """16-bit numbers as float32: eight bits of a sum over words would make ties of most scores."""
    return values.float() if values.element_size() < 4 else values


@cache
def fastest_dtype(device: str) -> torch.dtype:
    """What to scan a large collection in: bfloat16 where a product takes less than two thirds of float32's time here.

    Measured once a process. bfloat16 keeps eight bits of a dot product, so near-equal candidates change places:
    `python -m data_scripts.benchmarks` prints how many.
    """
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.ones(rows, 512, dtype=dtype, device=device) for rows in (1024, 2048))
        seconds[dtype] = min(_seconds(lambda a=a, b=b: a @ b.T, device) for _ in range(4))
    return torch.bfloat16 if 3 * seconds[torch.bfloat16] < 2 * seconds[torch.float32] else torch.float32


def _seconds(function: Callable[[], Tensor], device: str) -> float:
    began = time.perf_counter()
    result = function()
    if device != "cpu":
        result[0, 0].item()  # a GPU answers only when it is asked for a number
    return time.perf_counter() - began


def _check_sets(name: str, vectors: Tensor, mask_name: str, mask: Tensor | None) -> None:
    expect_dims(name, vectors, "sets", "elements", "dim")
    expect_float(name, vectors)
    if mask is not None:
        expect_mask(mask_name, mask, tuple(vectors.shape[:2]), f"as {name}")
        if mask.device != vectors.device:
            raise ValueError(f"{mask_name} is on {mask.device}, expected {vectors.device} as {name}")


def _check_alike(first_name: str, first: Tensor, second_name: str, second: Tensor) -> None:
    if first.shape[-1] != second.shape[-1]:
        raise ValueError(
            f"{second_name} has vectors of {second.shape[-1]} numbers, expected {first.shape[-1]} as in {first_name}"
        )
    if (first.dtype, first.device) != (second.dtype, second.device):
        raise ValueError(
            f"{second_name} is {second.dtype} on {second.device}, "
            f"expected {first.dtype} on {first.device} as {first_name}"
        )
