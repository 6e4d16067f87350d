"""Vectors to scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from itr_lib.similarity.hard_and_soft import CODE_POOLINGS, CODINGS, hard_codes, pool_codes, soft_codes
from itr_lib.similarity.packing import Sets, pack
from itr_lib.transfer import download
from itr_lib.validation import expect_choice, expect_dims, expect_float, expect_mask, expect_positive


def mrsw_plainly(
    regions: Float[Tensor, "regions dim"],
    words: Float[Tensor, "words dim"],
    region_mask: Bool[Tensor, " regions"],
    word_mask: Bool[Tensor, " words"],
) -> float:
    """Hard alignment of one image and one caption: each real word's best real region, added up (TERAN's MrSw).

    Messina et al., ACM TOMM 17(4), 2021. To be read, not to be used: :func:`alignment_scores` says the same of all
    pairs at once.
    """
    score = 0.0
    for word in words[word_mask]:
        fits = [float(word @ region) for region in regions[region_mask]]
        score += max(fits, default=0.0)  # an image without a region scores 0
    return score


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
        ValueError: for other numbers of axes, a D that differs or is 0, vectors that are not floats, or two kinds of
            float.
    """
    expect_dims("images", images, "images", "dim")
    expect_dims("captions", captions, "captions", "dim")
    expect_float("images", images)
    expect_float("captions", captions)
    _check_alike("images", images, "captions", captions)
    return l2_normalise(images) @ l2_normalise(captions).T


ATTENDED = ("regions", "words", "both")
# Bytes. What a CPU's caches hold is fastest; with gradients, smaller blocks would be computed twice.
SCAN_BUDGET, TRAINING_BUDGET, GPU_BUDGET = 2**25, 2**28, 2**30

# Names as in TERAN (Messina et al. 2021).
TERAN_POOLING: dict[str, dict[str, Any]] = {
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
    ACM TOMM 2021) codes by the maximum; SCAN (Lee et al., ECCV 2018) by attention; CHAN
    (Pan et al., CVPR 2023) names both as two ways of coding.

    Padding never takes part, and is never multiplied: sets are packed, equally large ones side by side. Hard coding
    costs about one matrix product of the real elements; soft coding adds the Gram matrices that give the attended
    vectors' lengths.

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
            hold that (more is slower), 256 MiB where gradients are asked for, and 1 GiB on a GPU. Not in it: the packed
            copy of the inputs, and what hard coding keeps for the backward pass (a code and a winner a fragment).

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
    region_mask, word_mask = download(region_mask, word_mask)
    images, captions = pack(regions, region_mask), pack(words, word_mask)
    code = hard_codes if coding == "hard" else partial(soft_codes, temperature=temperature)
    copies = 1.3 if coding == "hard" else 7  # of the alignments, that live at the same time
    every_pair = partial(
        _every_pair,
        code=code,
        pool=partial(pool_codes, pooling=pooling, beta=beta),
        memory=memory_budget / (copies * max(4, regions.element_size())),
        recompute=coding == "soft",
    )
    if attend == "regions":
        return every_pair(images, captions)
    if attend == "words":
        return every_pair(captions, images).T
    return every_pair(images, captions) + every_pair(captions, images).T


def _default_budget(regions: Tensor, words: Tensor) -> int:
    if regions.device.type == "cuda":
        return GPU_BUDGET
    gradients = torch.is_grad_enabled() and (regions.requires_grad or words.requires_grad)
    return TRAINING_BUDGET if gradients else SCAN_BUDGET


def _every_pair(
    codebook: Sets,
    fragments: Sets,
    code: Callable[[Sets, Tensor], Tensor],
    pool: Callable[[Tensor], Tensor],
    memory: float,
    recompute: bool,
) -> Float[Tensor, "codebooks sets"]:
    """Pooled codes of every set of fragments by every codebook, in blocks; ``memory`` in numbers of at least 32 bits.

    With ``recompute`` a block is computed again in the backward pass instead of being kept, where there are several.
    """
    kind = torch.promote_types(codebook.vectors.dtype, torch.float32)
    scores = codebook.vectors.new_zeros(codebook.total, fragments.total, dtype=kind)
    if torch.is_grad_enabled():  # a graph even where no pair is left
        scores = scores + codebook.vectors[:0].sum() + fragments.vectors[:0].sum()
    if not codebook.sizes or not fragments.sizes:
        return scores
    # Beside its alignments a block holds their codes, one a set: as many, where sets have a single element.
    limit = int(memory / (1 + 3 * len(codebook.sizes) / max(1, len(codebook.vectors))))
    several = len(codebook.vectors) * len(fragments.vectors) > limit
    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)

    def block_scores(vectors: Tensor, books: Sets, some: Sets) -> Float[Tensor, "some_books some_sets"]:
        return some.each(pool, code(books, vectors), dim=1)

    # Long strips keep a product fast; nearly square ones reread the least.
    for some in fragments.blocks(max(1, isqrt(limit), limit // max(1, len(codebook.vectors)))):
        # Soft coding's Gram matrices are as wide as a codebook.
        for books in codebook.blocks(max(1, limit // max(len(some.vectors), codebook.sizes[-1]))):
            wanted = several and recompute and torch.is_grad_enabled()
            part = again(block_scores, some.vectors, books, some) if wanted else block_scores(some.vectors, books, some)
            scores[books.places[:, None], some.places] = part
    return scores


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
    if first.shape[-1] == 0:
        raise ValueError(f"{first_name} and {second_name} have vectors of 0 numbers, expected 1 or more")
    if (first.dtype, first.device) != (second.dtype, second.device):
        raise ValueError(
            f"{second_name} is {second.dtype} on {second.device}, "
            f"expected {first.dtype} on {first.device} as {first_name}"
        )
