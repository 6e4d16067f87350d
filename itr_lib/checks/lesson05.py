"""Checks of lesson 05: the specifications as plain loops, and the mistakes people make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks.frame import Exercise, Inputs


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed), dtype=torch.float64)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _mask(sets: int, width: int, seed: int) -> Tensor:
    """Padding anywhere but in the first place."""
    mask = torch.rand(sets, width, generator=_generator(seed)) < 0.6
    mask[:, 0] = True
    return mask


def _as_it_is(value: Tensor) -> Tensor:
    return value


class _Copied(Tensor):
    """A kind of tensor of its own, which deepcopy keeps."""

    def __deepcopy__(self, memo: dict) -> _Copied:
        return self.detach().clone()


def _whole_numbers(specification: Callable, mistakes: dict[str, Callable]) -> Callable:
    """Properties for results that are right or wrong, never nearly right: a mistake of another length is named too."""

    def properties(inputs: Inputs, run: Callable[..., Any]) -> None:
        result, expected = run(), specification(**inputs)
        if not isinstance(result, Tensor):
            hint = ": is a return missing at its end?" if result is None else f", expected a tensor of {len(expected)}"
            raise AssertionError(f"your function returned {type(result).__name__}{hint}")
        mine, right = result.tolist(), expected.tolist()
        if mine == right:
            return
        told = next((m for m, wrong in mistakes.items() if mine == _outcome(wrong, inputs) != right), None)
        if told is None and result.shape != expected.shape:
            told = f"your result has shape {tuple(result.shape)}, expected {tuple(expected.shape)}"
        stage = f"shortlist {inputs['shortlist']}; " if "shortlist" in inputs else ""
        raise AssertionError(
            f"{told or 'your result differs from the specification'}\n({stage}yours {mine}, expected {right})"
        )

    return properties


def _outcome(wrong: Callable, inputs: Inputs) -> list | None:
    try:
        return wrong(**inputs).tolist()
    except Exception:  # a mistake that cannot be made on this case explains nothing
        return None


# --- token-guidance --------------------------------------------------------------------------------------------------

NEVER_CUT = "with detach=True the gradient still reaches tokens: give on_top tokens.detach()"
ALWAYS_CUT = "with detach=False the tokens come to on_top without their gradient: detach them only when detach is True"
NOT_LEARNT = (
    "no gradient reaches on_top, so it cannot learn: detach what goes into it, do not call it under torch.no_grad()"
)
ATTENTION_MASK = (
    "the second argument of torch's encoders is another mask, of who may look at whom: name it, src_key_padding_mask="
)


class _OnTop(_Copied):
    """A matrix that is called like torch's encoders: one attention over the real tokens, then the matrix.

    Being a tensor, the frame copies and casts it and differentiates by it, as by every input. Padding changes what
    the real tokens get.
    """

    joint = True  # whether it should get tokens with their gradient

    def __call__(self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            raise AssertionError(ATTENTION_MASK)
        if self.requires_grad:
            self._expect_gradient(src)
        logits = src @ src.mT / src.shape[-1]
        if src_key_padding_mask is not None:
            logits = logits.masked_fill(src_key_padding_mask[:, None], -torch.inf)
        return (src + 2 * logits.softmax(-1) @ src) @ self.as_subclass(Tensor)

    def _expect_gradient(self, src: Tensor) -> None:
        if not torch.is_grad_enabled():
            raise AssertionError(NOT_LEARNT)
        if self.joint and not src.requires_grad:
            raise AssertionError(ALWAYS_CUT)
        if not self.joint and src.requires_grad:
            src.register_hook(_too_far)  # not yet wrong: the output may be detached


class _OnTopAlone(_OnTop):
    """The same, above tokens that it must leave alone."""

    joint = False


def _too_far(gradient: Tensor) -> None:
    raise AssertionError(NEVER_CUT)


def guidance_cases() -> Iterator[Inputs]:
    """Padding with large numbers in it, with and without a gradient; one sequence, one token, no padding at all."""
    for seed, (batch, length, dim, detach) in enumerate(
        [(4, 4, 3, False), (3, 5, 4, True), (1, 4, 5, True), (2, 3, 4, False), (3, 1, 3, False), (1, 5, 4, False)]
    ):
        mask = _mask(batch, length, seed=400 + seed) if seed != 3 else torch.ones(batch, length).bool()
        mask[0, -1] = length == 1 or seed == 3
        tokens = _random(batch, length, dim, seed=410 + seed)
        yield {
            "tokens": torch.where(mask[..., None], tokens, 3 * tokens),
            "mask": mask,
            "on_top": _random(dim, dim, seed=420 + seed).as_subclass(_OnTopAlone if detach else _OnTop),
            "detach": detach,
        }


def guidance_specification(tokens: Tensor, mask: Tensor, on_top: Callable, detach: bool) -> Tensor:
    """Sequence by sequence, each without its padding: the first output over its length."""
    rows = []
    for sequence, is_real in zip(tokens, mask.tolist(), strict=True):
        kept = torch.stack([token for token, real in zip(sequence, is_real, strict=True) if real])
        first = on_top(kept.detach()[None] if detach else kept[None])[0, 0]
        rows.append(first / (first * first).sum().sqrt())
    return torch.stack(rows)


def _cut(tokens: Tensor, detach: bool) -> Tensor:
    return tokens.detach() if detach else tokens


def _first_token(out: Tensor, mask: Tensor) -> Tensor:
    return out[:, 0]


def _guidance(cut=_cut, padding=torch.logical_not, read=_first_token, length=_unit) -> Callable:
    """Variants of the global reading."""

    def vectors(tokens, mask, on_top, detach):
        return length(read(on_top(cut(tokens, detach), src_key_padding_mask=padding(mask)), mask))

    return vectors


def _no_padding(mask: Tensor) -> None:
    return None


def _guidance_without_gradient(tokens, mask, on_top, detach):
    with torch.no_grad():
        return _guidance()(tokens, mask, on_top, detach)


def _last_real(out: Tensor, mask: Tensor) -> Tensor:
    places = torch.arange(mask.shape[1], device=mask.device).masked_fill(~mask, -1).amax(1)
    return out[torch.arange(len(out), device=out.device), places]


GUIDANCE_MISTAKES = {
    "padded tokens take part: give on_top src_key_padding_mask=~mask": _guidance(padding=_no_padding),
    "the mask is turned round: here True is a real token, in torch's src_key_padding_mask it is one to leave out": (
        _guidance(padding=_as_it_is)
    ),
    "padded tokens became zeros, and on_top still looks at them: give it src_key_padding_mask=~mask": (
        lambda tokens, mask, on_top, detach: _guidance(padding=_no_padding)(
            tokens * mask[..., None], mask, on_top, detach
        )
    ),
    "this is the mean of all tokens that on_top returns, padding too: take the first, [:, 0]": _guidance(
        read=lambda out, mask: out.mean(1)
    ),
    "this is the mean of the real tokens that on_top returns: take the first, [:, 0]": _guidance(
        read=lambda out, mask: (out * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    ),
    "this is the largest number of all tokens: take the first token, [:, 0]": _guidance(
        read=lambda out, mask: out.amax(1)
    ),
    "this is the last token, which may be padding: the first stands for the whole, [:, 0]": _guidance(
        read=lambda out, mask: out[:, -1]
    ),
    "this is the last real token: the first stands for the whole, [:, 0]": _guidance(read=_last_real),
    "these are all tokens of the first sequence: the first token of each is [:, 0], not [0]": _guidance(
        read=lambda out, mask: out[0]
    ),
    "the vectors do not have length 1: divide each by its length": _guidance(length=_as_it_is),
    "you normalised over the batch (dim=0): each vector has its own length, over the last axis": _guidance(
        length=lambda vectors: F.normalize(vectors, dim=0)
    ),
    "you normalised over the tokens (dim=1) before you took the first: each vector has its own length, over the last "
    "axis": _guidance(read=lambda out, mask: F.normalize(out, dim=1)[:, 0], length=_as_it_is),
    "you divided by the sum of absolute values: the length is the root of the sum of squares": _guidance(
        length=lambda vectors: F.normalize(vectors, p=1, dim=-1)
    ),
    "you divided by the length of the whole result: each vector has its own": _guidance(
        length=lambda vectors: vectors / vectors.norm()
    ),
    "the tokens have length 1 before on_top: it takes them as they come, and its result gets length 1": _guidance(
        cut=lambda tokens, detach: _unit(_cut(tokens, detach))
    ),
    "this is the first token as it came: on_top has not seen it, nor the others": (
        lambda tokens, mask, on_top, detach: _unit(_cut(tokens, detach)[:, 0])
    ),
    "on_top saw only the first token: give it all of them, and take the first of what it returns": (
        lambda tokens, mask, on_top, detach: _unit(on_top(_cut(tokens, detach)[:, :1])[:, 0])
    ),
    NEVER_CUT: _guidance(cut=lambda tokens, detach: tokens),
    ALWAYS_CUT: _guidance(cut=lambda tokens, detach: tokens.detach()),
    NOT_LEARNT: _guidance_without_gradient,
}

# --- consistency -----------------------------------------------------------------------------------------------------


def consistency_cases() -> Iterator[Inputs]:
    """Cosines among pictures and among captions that agree more or less; a margin that nothing exceeds; one pair.

    Seeds are such that a partner on which i disagrees most beyond the margin disagrees most with i: then the gradient
    is symmetric, too, and a max over rows is as right as one over columns. Here and below the first case's seed is
    one for which every mistake gives a result of its own.
    """
    shapes = [(33, 5, 3, 0.6, 0.4), (2, 4, 4, 0.4, 0.05), (112, 6, 3, 1.0, 0.3), (5, 6, 3, 0.7, 0.6)]
    shapes += [(0, 3, 5, 0.1, 1.2), (0, 1, 4, 1.0, 0.2), (0, 2, 3, 2.0, 0.1)]
    for seed, batch, dim, noise, margin in shapes:
        images = _random(batch, dim, seed=seed)
        captions = _unit(images + noise * _random(batch, dim, seed=1000 + seed))
        V, T = _unit(images) @ _unit(images).T, captions @ captions.T
        yield {"V": (V + V.T) / 2, "T": (T + T.T) / 2, "margin": margin}


def consistency_specification(V: Tensor, T: Tensor, margin: float) -> Tensor:
    """Pair by pair: the partner on which the two disagree most, and by how much beyond the margin."""
    total = 0 * V.sum()
    for j in range(len(V)):
        gaps = [T[i, j] - V[i, j] if T[i, j] > V[i, j] else V[i, j] - T[i, j] for i in range(len(V))]
        worst = max(gaps, key=lambda gap: float(gap.detach()))
        if float(worst.detach()) > margin:
            total = total + worst - margin
    return total


def _gap(V: Tensor, T: Tensor) -> Tensor:
    return (T - V).abs()


def _largest(gap: Tensor) -> Tensor:
    return gap.amax(0)


def _beyond(worst: Tensor, margin: float) -> Tensor:
    return (worst - margin).relu()


def _consistency(gap=_gap, worst=_largest, cost=_beyond, total=torch.sum) -> Callable:
    """Variants of the loss."""
    return lambda V, T, margin: total(cost(worst(gap(V, T)), margin))


CONSISTENCY_MISTAKES = {
    "this is the mean over i: of each j only the i counts on which V and T disagree most, max": _consistency(
        worst=lambda gap: gap.mean(0)
    ),
    "this is the sum over i: of each j only the i counts on which V and T disagree most, max": _consistency(
        worst=lambda gap: gap.sum(0)
    ),
    "every disagreement beyond the margin counts: of each j only the largest, max over i": _consistency(
        worst=_as_it_is
    ),
    "one disagreement counts, the largest of all: each j has its own, max over i, and they are summed": _consistency(
        worst=lambda gap: gap.amax()
    ),
    "only pairs with i before j are compared: every i counts for every j": _consistency(
        worst=lambda gap: gap.triu(1).amax(0)
    ),
    "this is 0 whatever the matrices are: on the diagonal both are 1, and a min over i, or a max of each matrix "
    "before the difference, sees nothing else": _consistency(worst=lambda gap: gap.amin(0)),
    "the absolute value is missing: this counts only where T is above V, |T - V| counts both": _consistency(
        gap=lambda V, T: T - V
    ),
    "the absolute value is missing: this counts only where V is above T, |T - V| counts both": _consistency(
        gap=lambda V, T: V - T
    ),
    "the difference is squared: |T - V|": _consistency(gap=lambda V, T: (T - V) ** 2),
    "the absolute values are taken before the difference: |T - V|, not |T| - |V|": _consistency(
        gap=lambda V, T: (T.abs() - V.abs()).abs()
    ),
    "the margin is missing: a disagreement up to it costs nothing": _consistency(cost=lambda worst, margin: worst),
    "the margin is added: subtract it, a disagreement up to it costs nothing": _consistency(
        cost=lambda worst, margin: (worst + margin).relu()
    ),
    "the hinge is turned round: the disagreement less the margin, not the margin less the disagreement": _consistency(
        cost=lambda worst, margin: (margin - worst).relu()
    ),
    "what is below the margin counts as less than nothing: cut each j off at 0, [...]+ stands "
    "inside the sum": _consistency(cost=lambda worst, margin: worst - margin),
    "the margin is subtracted once, from the sum: it stands inside the sum, once for each j": (
        lambda V, T, margin: (_gap(V, T).amax(0).sum() - margin).relu()
    ),
    "what is beyond the margin is squared: it counts as it is": _consistency(
        cost=lambda worst, margin: (worst - margin).relu() ** 2
    ),
    "this is the mean over j: their sum is asked for": _consistency(total=torch.mean),
    "this is the loss twice: both matrices are symmetric, so one direction says all": _consistency(
        total=lambda costs: 2 * costs.sum()
    ),
}

# --- cmc -------------------------------------------------------------------------------------------------------------


def cmc_cases() -> Iterator[Inputs]:
    """Vectors of any length, pairs that fit more or less; negatives that are all below 0; one pair, a bad one; two."""
    shapes = [(5, 3, 3.0, 0.2, 0.3), (4, 4, 0.7, 0.4, 0.1), (6, 5, 1.5, 0.1, 0.25), (1, 4, -3.0, 0.2, 0.3)]
    for seed, (batch, dim, noise, margin, intra_margin) in enumerate([*shapes, (2, 3, 1.0, 0.6, 0.0)]):
        images = _random(batch, dim, seed=450 + seed)
        captions = images + noise * _random(batch, dim, seed=460 + seed)
        lengths = 0.5 + 2 * torch.rand(2, batch, 1, generator=_generator(470 + seed), dtype=torch.float64)
        yield {
            "images": lengths[0] * images,
            "captions": lengths[1] * captions,
            "margin": margin,
            "intra_margin": intra_margin,
        }


def cmc_specification(images: Tensor, captions: Tensor, margin: float, intra_margin: float) -> Tensor:
    """Query by query in both directions, the hardest negative of each; then the disagreement of the two sides."""
    v, t = ([row / (row * row).sum().sqrt() for row in rows] for rows in (images, captions))
    total, pairs = 0 * (images.sum() + captions.sum()), range(len(images))
    for i in pairs:
        for scores in ({j: v[i] @ t[j] for j in pairs}, {j: v[j] @ t[i] for j in pairs}):
            hinges = [margin + score - scores[i] for j, score in scores.items() if j != i]
            hardest = max(hinges, key=lambda hinge: float(hinge.detach()), default=None)
            if hardest is not None and float(hardest.detach()) > 0:
                total = total + hardest
    both = (torch.stack([torch.stack([x @ y for y in side]) for x in side]) for side in (v, t))
    return total + consistency_specification(*both, intra_margin)


def _hinge(
    worst=lambda cost: cost.amax(1), rows=1, columns=1, own=-torch.inf, own_score=None, cut=torch.relu, total=torch.sum
):
    """Variants of the hinge between images and captions; ``own``: the cost that stands for the positive's."""

    def one(scores, margin):
        eye, positives = torch.eye(len(scores), dtype=torch.bool, device=scores.device), scores.diagonal()[:, None]
        others = scores if own_score is None else scores.masked_fill(eye, own_score)
        cost = margin + others - positives
        return total(worst(cut(cost if own is None or own_score is not None else cost.masked_fill(eye, own))))

    return lambda scores, margin: rows * one(scores, margin) + columns * one(scores.T, margin)


HINGE, CONSISTENT = _hinge(), _consistency()


def _cmc(inter=HINGE, intra=CONSISTENT, unit_images=_unit, unit_captions=_unit, between="vv tt"):
    """Variants of the whole loss; ``between``: whose cosines the consistency compares."""

    def loss(images, captions, margin, intra_margin):
        sides = {"v": unit_images(images), "t": unit_captions(captions)}
        first, second = (sides[names[0]] @ sides[names[1]].T for names in between.split())
        return inter(sides["v"] @ sides["t"].T, margin) + intra(first, second, intra_margin)

    return loss


def _nothing(*_: Any) -> float:
    return 0.0


def _cmc_margins(of_inter: str, of_intra: str) -> Callable:
    def loss(images, captions, **margins):
        return _cmc()(images, captions, margins[of_inter], margins[of_intra])

    return loss


def _cmc_raw_intra(images, captions, margin, intra_margin):
    inter = _cmc(intra=_nothing)(images, captions, margin, intra_margin)
    return inter + CONSISTENT(images @ images.T, captions @ captions.T, intra_margin)


def _over_batch(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=0)


CMC_MISTAKES = {
    "these are plain dot products: bring images and captions to length 1 first": _cmc(
        unit_images=_as_it_is, unit_captions=_as_it_is
    ),
    "only the images have length 1 here: normalise the captions, too": _cmc(unit_captions=_as_it_is),
    "only the captions have length 1 here: normalise the images, too": _cmc(unit_images=_as_it_is),
    "you normalised over the batch (dim=0): each vector has its own length, over the last axis": _cmc(
        unit_images=_over_batch, unit_captions=_over_batch
    ),
    "the consistency compares plain dot products: it takes cosines, as the other part does": _cmc_raw_intra,
    "every negative costs: of each query only the hardest, max": _cmc(inter=_hinge(worst=lambda cost: cost.sum(1))),
    "the mean over the negatives: of each query only the hardest, max": _cmc(
        inter=_hinge(worst=lambda cost: cost.sum(1) / max(1, len(cost) - 1))
    ),
    "one hardest negative for the whole batch: each query has its own": _cmc(
        inter=_hinge(worst=lambda cost: cost.amax())
    ),
    "this is the easiest negative: the hardest is the one with the largest score": _cmc(
        inter=_hinge(worst=lambda cost: cost.amin(1), own=torch.inf)
    ),
    "the positive is among its own negatives, so no query costs less than the margin: take the diagonal out before "
    "the max": _cmc(inter=_hinge(own=None)),
    "the positives became a score of 0, and that is the largest where all others are below 0: fill with -torch.inf": (
        _cmc(inter=_hinge(own_score=0.0))
    ),
    "only images ask (rows): add the direction in which captions do (columns)": _cmc(inter=_hinge(columns=0)),
    "only captions ask (columns): add the direction in which images do (rows)": _cmc(inter=_hinge(rows=0)),
    "images ask twice: the second direction is the max over the other axis": _cmc(inter=_hinge(rows=2, columns=0)),
    "the two directions are averaged: add them": _cmc(inter=_hinge(rows=0.5, columns=0.5)),
    "what is below 0 counts as less than nothing: cut the hinge off at 0, [...]+": _cmc(inter=_hinge(cut=_as_it_is)),
    "the consistency of images and captions is left out: add it": _cmc(intra=_nothing),
    "this is the consistency alone: the hinge between images and captions is left out": _cmc(inter=_nothing),
    "the consistency is subtracted: add it, a disagreement is a cost": _cmc(
        intra=lambda V, T, margin: -CONSISTENT(V, T, margin)
    ),
    "the consistency has the margin of the hinge: it has its own, intra_margin": _cmc_margins("margin", "margin"),
    "the hinge has intra_margin: its own is margin": _cmc_margins("intra_margin", "intra_margin"),
    "the two margins are exchanged": _cmc_margins("intra_margin", "margin"),
    "image-image cosines are compared with image-caption cosines: compare them with caption-caption cosines": _cmc(
        between="vv vt"
    ),
    "caption-caption cosines are compared with image-caption cosines: compare them with image-image cosines": _cmc(
        between="tt vt"
    ),
    "the hinge is the mean over the batch: its sum is asked for": _cmc(inter=_hinge(total=torch.mean)),
    "the consistency is the mean over the batch: its sum is asked for": _cmc(intra=_consistency(total=torch.mean)),
    "this is the mean over the batch: both parts are sums": _cmc(
        inter=_hinge(total=torch.mean), intra=_consistency(total=torch.mean)
    ),
}

# --- two-stage-search ------------------------------------------------------------------------------------------------

ALIGNED_ALL = (
    "you aligned items that are not in the shortlist (their regions are NaN here, so it shows): take the shortlist's "
    "rows first, regions[rows] and mask[rows], since the point is to align only K of them"
)
PRODUCTS = {"matmul", "__matmul__", "__rmatmul__", "einsum", "mul", "__mul__", "__rmul__", "multiply", "bmm", "mm"}
PRODUCTS |= {"mv", "dot", "inner", "tensordot", "linear", "cosine_similarity"}


class _Gallery(_Copied):
    """Regions that are not to be multiplied where they are NaN; whoever does has aligned more than the shortlist."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs or {})
        if func.__name__ in PRODUCTS and bool(result.as_subclass(Tensor).isnan().any()):
            raise AssertionError(ALIGNED_ALL)
        return result


def search_cases() -> Iterator[Inputs]:
    """Shortlists of one, of some, of more than all; padding that fits better; the best whole with no region that fits.

    In the last case the regions outside the shortlist are NaN.
    """
    shapes = [(10, 4, 3, 6, 0.5), (7, 3, 2, 4, 2.0), (6, 3, 3, 10, 0.5), (5, 2, 1, 1, 1.0), (1, 3, 2, 5, 1.0)]
    for seed, (items, regions, words, shortlist, weight) in enumerate([*shapes, (9, 4, 3, 4, 0.7)]):
        inputs = _search_case(items, regions, words, seed=1000 + 10 * seed)
        if seed == 5:
            best_first = sorted(range(items), key=lambda n: -float(inputs["wholes"][n] @ inputs["query_whole"]))
            inputs["regions"][best_first[shortlist:]] = torch.nan
        yield inputs | {
            "regions": inputs["regions"].as_subclass(_Gallery),
            "shortlist": shortlist,
            "local_weight": weight,
        }


def _search_case(items: int, regions: int, words: int, seed: int) -> Inputs:
    query, wholes = _unit(_random(6, seed=seed)), _unit(_random(items, 6, seed=seed + 1))
    said = _unit(_random(5, seed=seed + 2) + 0.5 * _random(words, 5, seed=seed + 3))
    seen, mask = _unit(_random(items, regions, 5, seed=seed + 4)), _mask(items, regions, seed=seed + 5)
    best = int((wholes @ query).argmax())
    seen[best] = _unit(0.5 * seen[best] - 2 * said.mean(0))
    mask[best, -1] = False
    seen = torch.where(mask[..., None], seen, 2 * seen)
    return {"query_whole": query, "query_words": said, "wholes": wholes, "regions": seen, "mask": mask}


def search_specification(
    query_whole: Tensor,
    query_words: Tensor,
    wholes: Tensor,
    regions: Tensor,
    mask: Tensor,
    shortlist: int,
    local_weight: float,
) -> Tensor:
    """Item by item the dot product; word by word the best region, for the first items only."""
    whole_scores = [sum((whole * query_whole).tolist()) for whole in wholes]
    order = sorted(range(len(wholes)), key=whole_scores.__getitem__, reverse=True)
    final = {}
    for n in order[:shortlist]:
        real = [region for region, is_real in zip(regions[n].tolist(), mask[n].tolist(), strict=True) if is_real]
        local = 0.0
        for word in query_words.tolist():
            local += max(sum(x * y for x, y in zip(word, region, strict=True)) for region in real)
        final[n] = whole_scores[n] + local_weight * local
    return torch.tensor(sorted(final, key=final.get, reverse=True) + order[shortlist:])


def _best_regions(words: Tensor, regions: Tensor, mask: Tensor, fill: float = -torch.inf) -> Tensor:
    """(items, words): of each word the best region of each item."""
    return torch.einsum("we,nre->nwr", words, regions).masked_fill(~mask[:, None], fill).amax(-1)


def _mrsw(words: Tensor, regions: Tensor, mask: Tensor) -> Tensor:
    return _best_regions(words, regions, mask).sum(1)


def _mwsr(words: Tensor, regions: Tensor, mask: Tensor) -> Tensor:
    return torch.einsum("we,nre->nwr", words, regions).amax(1).masked_fill(~mask, 0).sum(1)


def _mean_region(words: Tensor, regions: Tensor, mask: Tensor) -> Tensor:
    sums = torch.einsum("we,nre->nwr", words, regions).masked_fill(~mask[:, None], 0).sum(2)
    return (sums / mask.sum(1, keepdim=True)).sum(1)


def _down(scores: Tensor) -> Tensor:
    return scores.argsort(descending=True)


def _weighted(whole: Tensor, local: Tensor, weight: float) -> Tensor:
    return whole + weight * local


def _then_others(first: Tensor, final: Tensor, others: Tensor) -> Tensor:
    return torch.cat([first[_down(final)], others])


def _search(local=_mrsw, final=_weighted, arrange=_then_others, order=_down) -> Callable:
    """Variants of the search."""

    def search(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
        scores = wholes @ query_whole
        rows = order(scores)
        first, others = rows[:shortlist], rows[shortlist:]
        aligned = local(query_words, regions[first], mask[first])
        return arrange(first, final(scores[first], aligned, local_weight), others)

    return search


def _search_everything(arrange: Callable) -> Callable:
    """Variants that align all items."""

    def search(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
        scores = wholes @ query_whole
        return arrange(scores, scores + local_weight * _mrsw(query_words, regions, mask), shortlist)

    return search


def _look_back(scores: Tensor, final: Tensor, shortlist: int) -> Tensor:
    rows = _down(scores)
    return _then_others(rows[:shortlist], final[rows[:shortlist]], rows[shortlist:])


def _sorted_together(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    scores = wholes @ query_whole
    first = _down(scores)[:shortlist]
    aligned = _mrsw(query_words, regions[first], mask[first])
    return _down(scores.index_add(0, first, (local_weight * aligned).as_subclass(Tensor)))


SEARCH_MISTAKES = {
    "this is the global order: the shortlist is not ordered anew": _search(final=lambda whole, local, weight: whole),
    "the shortlist is ordered by the local score alone: global + local_weight * local": _search(
        final=lambda whole, local, weight: local
    ),
    "local_weight is missing: global + local_weight * local": _search(final=lambda whole, local, weight: whole + local),
    "local_weight stands at the global score: global + local_weight * local": _search(
        final=lambda whole, local, weight: weight * whole + local
    ),
    "padded regions take part in the max: fill what mask says is padding with -torch.inf first": _search(
        local=lambda words, regions, mask: _mrsw(words, regions, torch.ones_like(mask))
    ),
    "padding became a dot product of 0, and wins where no region fits: fill it with -torch.inf": _search(
        local=lambda words, regions, mask: _best_regions(words, regions, mask, 0.0).sum(1)
    ),
    "the best word of each region is summed (MwSr): for each word its best region, summed over the words": _search(
        local=_mwsr
    ),
    "a word scores the mean of the regions: its best one, max": _search(local=_mean_region),
    "this is the mean over the words: their sum is asked for, MrSw": _search(
        local=lambda words, regions, mask: _best_regions(words, regions, mask).mean(1)
    ),
    "only the best word counts: the sum over the words": _search(
        local=lambda words, regions, mask: _best_regions(words, regions, mask).amax(1)
    ),
    "only the shortlist is returned: the other items follow in their global order": _search(
        arrange=lambda first, final, others: first[_down(final)]
    ),
    "the others follow by their place in the gallery: keep their global order": _search(
        arrange=lambda first, final, others: _then_others(first, final, others.sort().values)
    ),
    "the others follow worst first: keep their global order, best first": _search(
        arrange=lambda first, final, others: _then_others(first, final, others.flip(0))
    ),
    "the others come before the shortlist: they follow it": _search(
        arrange=lambda first, final, others: torch.cat([others, first[_down(final)]])
    ),
    "the shortlist is worst first: sort descending": _search(
        arrange=lambda first, final, others: _then_others(first, -final, others)
    ),
    "the shortlist holds the items with the lowest global scores: sort descending": _search(order=torch.argsort),
    "everything is worst first: sort descending": _search(
        arrange=lambda first, final, others: _then_others(first, final, others).flip(0)
    ),
    "these are places within the shortlist: look up there which rows of the gallery they are, rows[order]": _search(
        arrange=lambda first, final, others: torch.cat([_down(final), others])
    ),
    "these are the places that each item gets: the items are asked for, best first": _search(
        arrange=lambda first, final, others: _then_others(first, final, others).argsort()
    ),
    "items of the shortlist are sorted among the others, where a low local score moves them behind what was never "
    "aligned: the shortlist stays in front": _sorted_together,
    "all items are aligned and ordered anew: only the shortlist is, and the others keep their global order": (
        _search_everything(lambda scores, final, shortlist: _down(final))
    ),
    ALIGNED_ALL: _search_everything(_look_back),
}

# --- honest-rank -----------------------------------------------------------------------------------------------------


def ranks_cases() -> Iterator[Inputs]:
    """Matches inside and outside shortlists of one, of some, of more than all; one query, one candidate."""
    for seed, (queries, candidates, shortlist, weight) in enumerate(
        [(7, 9, 4, 0.5), (9, 7, 3, 2.0), (5, 6, 1, 1.0), (4, 5, 8, 0.5), (1, 6, 2, 1.0), (3, 1, 2, 1.0)],
        start=12,
    ):
        scores = _random(2, queries, candidates, seed=seed)
        truth = torch.randint(candidates, (queries,), generator=_generator(5000 + seed))
        scores[0, torch.arange(queries), truth] += 0.6
        yield {
            "global_scores": scores[0],
            "local_scores": scores[1],
            "truth": truth,
            "shortlist": shortlist,
            "local_weight": weight,
        }


def ranks_specification(
    global_scores: Tensor, local_scores: Tensor, truth: Tensor, shortlist: int, local_weight: float
) -> Tensor:
    """Query by query: the order of all candidates in both stages, and where the match stands in it."""
    ranks = []
    for whole, local, own in zip(global_scores.tolist(), local_scores.tolist(), truth.tolist(), strict=True):
        final = [x + local_weight * y for x, y in zip(whole, local, strict=True)]
        order = sorted(range(len(whole)), key=whole.__getitem__, reverse=True)
        first = sorted(order[:shortlist], key=final.__getitem__, reverse=True)
        ranks.append((first + order[shortlist:]).index(own) + 1)
    return torch.tensor(ranks)


def _places(scores: Tensor) -> Tensor:
    """(queries, candidates): the place of each, 0 for the best."""
    return _down(scores).argsort(1)


def _own(values: Tensor, truth: Tensor) -> Tensor:
    return values.gather(1, truth[:, None])[:, 0]


def _ranks(final=_weighted, missed=None, among_all=False, start=1) -> Callable:
    """Variants of the ranks; ``missed``: (global ranks, shortlist, candidates) -> ranks of matches outside."""

    def ranks(global_scores, local_scores, truth, shortlist, local_weight):
        places, scores = _places(global_scores), final(global_scores, local_scores, local_weight)
        ahead = scores > _own(scores, truth)[:, None]
        ahead = ahead if among_all else ahead & (places < shortlist)
        outside = _own(places, truth) + 1
        if missed is not None:
            outside = missed(outside, shortlist, places.shape[1])
        return torch.where(_own(places, truth) < shortlist, ahead.sum(1) + 1, outside) + start - 1

    return ranks


def _missed(value: Callable[[int, int], float]) -> Callable:
    """One and the same rank for all matches outside the shortlist."""
    return _ranks(missed=lambda ranks, shortlist, candidates: torch.full_like(ranks, value(shortlist, candidates)))


def _missed_infinite(**inputs):
    right, outside = ranks_specification(**inputs), _own(_places(inputs["global_scores"]), inputs["truth"])
    return right.double().masked_fill(outside.cpu() >= inputs["shortlist"], torch.inf)


def _missed_dropped(**inputs):
    return ranks_specification(**inputs)[
        (_own(_places(inputs["global_scores"]), inputs["truth"]) < inputs["shortlist"])
    ]


def _from_the_bottom(global_scores, local_scores, truth, shortlist, local_weight):
    return ranks_specification(-global_scores, -local_scores, truth, shortlist, local_weight)


def _ranks_together(global_scores, local_scores, truth, shortlist, local_weight):
    added = (local_weight * local_scores).masked_fill(_places(global_scores) >= shortlist, 0)
    return _own(_places(global_scores + added), truth) + 1


def _ranks_of_the_diagonal(global_scores, local_scores, truth, shortlist, local_weight):
    own = torch.arange(len(truth)) % global_scores.shape[1]
    return ranks_specification(global_scores, local_scores, own, shortlist, local_weight)


def _winners(global_scores, local_scores, truth, shortlist, local_weight):
    final = global_scores + local_weight * local_scores
    return final.masked_fill(_places(global_scores) >= shortlist, -torch.inf).argmax(1)


RANKS_MISTAKES = {
    "a query whose match is not in the shortlist counts as found at once: its rank stayed 0, which is in the first K "
    "for every K; it keeps its global rank": _missed(lambda shortlist, candidates: 0),
    "a query whose match is not in the shortlist counts as found at once: it has rank 1, as if it came first; it "
    "keeps its global rank": _missed(lambda shortlist, candidates: 1),
    "a query whose match is not in the shortlist has rank -1, which is in the first K for every K: it keeps its "
    "global rank": _missed(lambda shortlist, candidates: -1),
    "every match outside the shortlist has rank shortlist + 1: that is the least it can be, it keeps its global "
    "rank": _missed(lambda shortlist, candidates: shortlist + 1),
    "every match outside the shortlist has rank shortlist, as if it had come last inside: it keeps its global rank": (
        _missed(lambda shortlist, candidates: shortlist)
    ),
    "every match outside the shortlist has the last rank: that is more than it deserves, it keeps its global rank": (
        _missed(lambda shortlist, candidates: candidates)
    ),
    "every match outside the shortlist has a rank behind all candidates: it keeps its global rank": _missed(
        lambda shortlist, candidates: candidates + 1
    ),
    "every match outside the shortlist has an infinite rank: it keeps its global rank": _missed_infinite,
    "the shortlist's places count twice where the match is outside: its global rank holds them already": _ranks(
        missed=lambda ranks, shortlist, candidates: ranks + shortlist
    ),
    "queries whose match is not in the shortlist are left out: a rank for every query, theirs is the global one": (
        _missed_dropped
    ),
    "ranks count from 0: the first place has rank 1": _ranks(start=0),
    "the shortlist is ignored, all candidates are ordered anew: outside it the global order stays": (
        lambda global_scores, local_scores, truth, shortlist, local_weight: (
            _own(_places(global_scores + local_weight * local_scores), truth) + 1
        )
    ),
    "the match is compared with the new scores of all candidates: only with those in the shortlist": _ranks(
        among_all=True
    ),
    "these are the global ranks: the shortlist is not ordered anew": (
        lambda global_scores, local_scores, truth, shortlist, local_weight: _own(_places(global_scores), truth) + 1
    ),
    "the shortlist is ordered by the local score alone: global + local_weight * local": _ranks(
        final=lambda whole, local, weight: local
    ),
    "local_weight is missing: global + local_weight * local": _ranks(final=lambda whole, local, weight: whole + local),
    "local_weight stands at the global score: global + local_weight * local": _ranks(
        final=lambda whole, local, weight: weight * whole + local
    ),
    "these are ranks from the bottom: sort descending, the highest score has rank 1": _from_the_bottom,
    "the shortlist is worst first: a match is behind those with a higher score": _ranks(
        final=lambda whole, local, weight: -(whole + weight * local)
    ),
    "candidates of the shortlist are sorted among the others, where a low local score moves them behind: the "
    "shortlist stays in front": _ranks_together,
    "the match of query i is taken to be candidate i: truth says which it is": _ranks_of_the_diagonal,
    "these are the candidates that come first: the rank of each query's match is asked for": _winners,
}

# --- pareto-front ----------------------------------------------------------------------------------------------------


def pareto_cases() -> Iterator[Inputs]:
    """One method best in both; equal costs, recalls and points, on the front and behind it; one method; all alike."""
    yield _methods([(2, 30), (1, 50), (3, 40), (2.5, 45)])
    behind = [(3, 50), (1, 30), (8, 70), (3, 55), (7, 20), (7, 20)]
    yield _methods([*behind, (2, 55), (1, 40), (4, 60), (5, 70), (2, 55), (4, 57)])
    for seed, (methods, kinds) in enumerate([(9, 4), (12, 5), (6, 40), (5, 2)]):
        drawn = torch.randint(kinds, (2, methods), generator=_generator(560 + seed)).double()
        yield {"cost": 1 + drawn[0] / 4, "recall": 20 + 2 * drawn[1]}
    yield _methods([(2, 10)])
    yield _methods([(4, 30), (4, 30), (4, 30)])


def _methods(points: list[tuple[float, float]]) -> Inputs:
    cost, recall = torch.tensor(points, dtype=torch.float64).unbind(1)
    return {"cost": cost.contiguous(), "recall": recall.contiguous()}


def pareto_specification(cost: Tensor, recall: Tensor) -> Tensor:
    """Method by method: is there another that is nowhere worse and somewhere better?"""
    points = list(zip(cost.tolist(), recall.tolist(), strict=True))
    kept = []
    for c, r in points:
        kept.append(not any(x <= c and y >= r and (x < c or y > r) for x, y in points))
    return torch.tensor(kept)


def _front(beats: Callable, itself: bool = True) -> Callable:
    """Whoever is beaten by nobody; ``beats``: (cost, recall, cost of the other, recall of the other) -> bool."""

    def front(cost, recall):
        beaten = beats(cost[:, None], recall[:, None], cost, recall)
        if not itself:
            beaten = beaten & ~torch.eye(len(cost), dtype=torch.bool, device=cost.device)
        return ~beaten.any(0)

    return front


def _by_cost(keep: Callable) -> Callable:
    """Through the methods by cost; ``keep``: (recall, recalls of all that came before) -> bool."""

    def front(cost, recall):
        order = cost.argsort(stable=True).tolist()
        recalls = recall[order].tolist()
        kept = torch.zeros(len(cost), dtype=torch.bool)
        for place, method in enumerate(order):
            kept[method] = keep(recalls[place], recalls[:place])
        return kept

    return front


def _first_of_equals(cost, recall):
    points = list(zip(cost.tolist(), recall.tolist(), strict=True))
    first = torch.tensor([point not in points[:i] for i, point in enumerate(points)])
    return pareto_specification(cost, recall) & first


def _turned(cost_sign: int, recall_sign: int) -> Callable:
    return lambda cost, recall: pareto_specification(cost_sign * cost, recall_sign * recall)


def _indices(cost, recall):
    return pareto_specification(cost, recall).nonzero()[:, 0]


PARETO_MISTAKES = {
    "only the highest recall stays: a cheaper method with less recall can be on the front, too": (
        lambda cost, recall: recall == recall.max()
    ),
    "only the cheapest stay: a method that costs more and finds more is on the front, too": (
        lambda cost, recall: cost == cost.min()
    ),
    "only the ends stay, the cheapest and the one with the highest recall: what lies between can be on the front": (
        lambda cost, recall: pareto_specification(cost, recall) & ((cost == cost.min()) | (recall == recall.max()))
    ),
    "this is the front for low recall: a higher recall is better": _turned(1, -1),
    "this is the front for high cost: a lower cost is better": _turned(-1, 1),
    "this is the front for high cost and low recall: turn both comparisons round": _turned(-1, -1),
    "True and False are exchanged: True is what stays on the front": lambda cost, recall: (
        ~pareto_specification(cost, recall)
    ),
    "a method goes as soon as another is better in one of the two: the other must be no worse in both": _front(
        lambda c, r, cost, recall: (c < cost) | (r > recall)
    ),
    "every method is beaten by itself: one that is no better anywhere does not beat it": _front(
        lambda c, r, cost, recall: (c <= cost) & (r >= recall)
    ),
    "equal points beat each other: to beat, a method must be better in one of the two; both stay": _front(
        lambda c, r, cost, recall: (c <= cost) & (r >= recall), itself=False
    ),
    "of equal points only the first stays: neither beats the other, both stay": _first_of_equals,
    "a method that is equal in one and worse in the other stays: to beat it, better in one and no worse in the other "
    "is enough": _front(lambda c, r, cost, recall: (c < cost) & (r > recall)),
    "a method that costs more for the same recall stays: it is beaten": _front(
        lambda c, r, cost, recall: (c <= cost) & (r > recall)
    ),
    "a method that finds less at the same cost stays: it is beaten": _front(
        lambda c, r, cost, recall: (c < cost) & (r >= recall)
    ),
    "each method is compared only with its neighbour in the order of cost: compare it with all": _by_cost(
        lambda recall, before: not before or recall > before[-1]
    ),
    "in the order of cost, what exceeds the best recall so far stays: at equal cost the order decides then, and the "
    "second of two equal points goes": _by_cost(lambda recall, before: recall > max(before, default=-1)),
    "in the order of cost, what reaches the best recall so far stays: one that costs more for the same recall is "
    "beaten, and at equal cost the order decides": _by_cost(lambda recall, before: recall >= max(before, default=-1)),
    "these are the places of the methods on the front: True or False for every method is asked for": _indices,
}

EXERCISES = (
    Exercise(
        "token-guidance", guidance_cases, guidance_specification, GUIDANCE_MISTAKES, gradients=("on_top", "tokens")
    ),
    Exercise("consistency", consistency_cases, consistency_specification, CONSISTENCY_MISTAKES, gradients=("V", "T")),
    Exercise("cmc", cmc_cases, cmc_specification, CMC_MISTAKES, gradients=("images", "captions")),
    Exercise(
        "two-stage-search",
        search_cases,
        mistakes=SEARCH_MISTAKES,
        properties=_whole_numbers(search_specification, SEARCH_MISTAKES),
    ),
    Exercise(
        "honest-rank",
        ranks_cases,
        mistakes=RANKS_MISTAKES,
        properties=_whole_numbers(ranks_specification, RANKS_MISTAKES),
    ),
    Exercise(
        "pareto-front",
        pareto_cases,
        mistakes=PARETO_MISTAKES,
        properties=_whole_numbers(pareto_specification, PARETO_MISTAKES),
    ),
)
