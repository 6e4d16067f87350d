"""Checks of lesson 02: the specifications as plain loops, and the mistakes people make."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks.frame import Exercise, Inputs


def _uniform(*shape: int, g: torch.Generator) -> Tensor:
    return 2 * torch.rand(*shape, generator=g, dtype=torch.float64) - 1


def _mask(sets: int, width: int, g: torch.Generator) -> Tensor:
    """Padding anywhere; something real in every set."""
    mask = torch.rand(sets, width, generator=g) < 0.6
    mask[torch.arange(sets), torch.randint(width, (sets,), generator=g)] = True
    return mask


# --- box-geometry ----------------------------------------------------------------------------------------------------


def box_cases() -> Iterator[Inputs]:
    """Wide, tall and square pictures, one box, the whole picture."""
    for seed, (count, width, height) in enumerate([(6, 320, 240), (3, 40, 90.0), (1, 500, 375), (4, 64, 64)]):
        g = torch.Generator().manual_seed(seed)
        x = (torch.rand(count, 2, generator=g, dtype=torch.float64) * width).sort(dim=1).values
        y = (torch.rand(count, 2, generator=g, dtype=torch.float64) * height).sort(dim=1).values
        boxes = torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)
        yield {"boxes": boxes, "width": width, "height": height}
    yield {"boxes": torch.tensor([[0, 0, 30, 20]], dtype=torch.float64), "width": 30, "height": 20}


def box_specification(boxes: Tensor, width: float, height: float) -> Tensor:
    """Box by box: x by the width, y by the height, the area by the picture's."""
    rows = []
    for x1, y1, x2, y2 in boxes.tolist():
        area = (x2 - x1) * (y2 - y1) / (width * height)
        rows.append([x1 / width, y1 / height, x2 / width, y2 / height, area])
    return boxes.new_tensor(rows)


def _box(boxes, x, y, area):
    """Corners by ``x`` and ``y``, and whatever is taken for the area, a function of the sides in pixels."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([x1 / x, y1 / y, x2 / x, y2 / y, area(x2 - x1, y2 - y1)], dim=-1)


def _box_by(pick: Callable) -> Callable:
    """Everything divided by one and the same side."""

    def geometry(boxes, width, height):
        side = pick(width, height)
        return _box(boxes, side, side, lambda w, h: w * h / side**2)

    return geometry


def _box_fifth(area: Callable) -> Callable:
    """Right corners; the fifth number from the relative sides."""
    return lambda boxes, width, height: _box(boxes, width, height, lambda w, h: area(w / width, h / height))


def _box_columns(order: Callable) -> Callable:
    """The right numbers in other columns, or others made of them."""
    return lambda boxes, width, height: torch.stack(
        order(*box_specification(boxes, width, height).unbind(-1)),
        dim=-1,
    )


BOX_MISTAKES = {
    "width and height are swapped: x1 and x2 belong to the width, y1 and y2 to the height": (
        lambda boxes, width, height: _box(boxes, height, width, lambda w, h: w * h / (width * height))
    ),
    "the area is in pixels: divide it by width * height, or compute it from the relative corners": (
        lambda boxes, width, height: _box(boxes, width, height, lambda w, h: w * h)
    ),
    "the area is right, but the corners are in pixels: divide x by the width and y by the height": (
        lambda boxes, width, height: _box(boxes, 1, 1, lambda w, h: w * h / (width * height))
    ),
    "everything is in pixels: divide, so that the whole picture is (0, 0, 1, 1, 1)": (
        lambda boxes, width, height: _box(boxes, 1, 1, lambda w, h: w * h)
    ),
    "everything is divided by the longer side: x belongs to the width, y to the height": _box_by(max),
    "everything is divided by the shorter side: x belongs to the width, y to the height": _box_by(min),
    "the area is divided twice: it is the product of relative sides, or the area in pixels by width * height": (
        lambda boxes, width, height: _box(boxes, width, height, lambda w, h: w * h / (width * height) ** 2)
    ),
    "the sides are taken as x2 - x1 + 1 pixels: coordinates are places, not pixel numbers, so the whole picture "
    "must get area 1": lambda boxes, width, height: _box(
        boxes, width, height, lambda w, h: (w + 1) * (h + 1) / (width * height)
    ),
    "the fifth number is width / height: the area is their product": _box_fifth(lambda w, h: w / h),
    "the fifth number is the sum of the two sides: the area is their product": _box_fifth(lambda w, h: w + h),
    "the fifth number is the root of the area, a length: leave out the root": _box_fifth(lambda w, h: (w * h).sqrt()),
    "the area is x2 * y2, as if the box began in the corner of the picture: the sides are x2 - x1 and y2 - y1": (
        _box_columns(lambda x1, y1, x2, y2, area: (x1, y1, x2, y2, x2 * y2))
    ),
    "this is (centre x, centre y, width, height, area): the corners are asked for": _box_columns(
        lambda x1, y1, x2, y2, area: ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, area)
    ),
    "this is (x1, y1, width, height, area), the order of COCO's files: x2 and y2 are asked for": _box_columns(
        lambda x1, y1, x2, y2, area: (x1, y1, x2 - x1, y2 - y1, area)
    ),
    "the columns are (x1, x2, y1, y2, area): keep (x1, y1, x2, y2, area)": _box_columns(
        lambda x1, y1, x2, y2, area: (x1, x2, y1, y2, area)
    ),
    "the area stands first: it comes last": _box_columns(lambda x1, y1, x2, y2, area: (area, x1, y1, x2, y2)),
}

# --- alignments ------------------------------------------------------------------------------------------------------


def alignments_cases() -> Iterator[Inputs]:
    """Shapes in which swapped axes show, a set of one, and zero vectors.

    What the derivative of a cosine is at a zero vector is anybody's choice (F.normalize gives 1e12, the library 1), so
    where there are zeros all vectors are: then every choice gives 0, unless it gives NaN.
    """
    shapes = [(3, 3, 4, 4, 5), (2, 4, 5, 3, 6), (3, 2, 2, 6, 4), (1, 1, 1, 1, 3)]
    for seed, (n, m, r, w, dim) in enumerate(shapes):
        g = torch.Generator().manual_seed(seed)
        regions, words = (torch.randn(*shape, dim, generator=g, dtype=torch.float64) for shape in ((n, r), (m, w)))
        lengths = [0.5 + 3 * torch.rand(*shape, 1, generator=g, dtype=torch.float64) for shape in ((n, r), (m, w))]
        yield {"regions": regions * lengths[0], "words": words * lengths[1]}
    yield {"regions": torch.zeros(2, 3, 4, dtype=torch.float64), "words": torch.zeros(3, 2, 4, dtype=torch.float64)}


def alignments_specification(regions: Tensor, words: Tensor) -> Tensor:
    """One dot product after the other, each over both lengths."""
    result = []
    for image in regions:
        for caption in words:
            for region in image:
                for word in caption:
                    dot, square = (region * word).sum(), (region * region).sum() * (word * word).sum()
                    result.append(dot / square.sqrt() if square > 0 else 0 * dot)
    return torch.stack(result).reshape(len(regions), len(words), regions.shape[1], words.shape[1])


def _dots(regions: Tensor, words: Tensor, out: str = "nmrw") -> Tensor:
    return torch.einsum(f"nrd,mwd->{out}", regions, words)


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1)


ALIGNMENTS_MISTAKES = {
    "a zero vector (padding) has length 0, and you divide by it: F.normalize keeps it zero, so that it scores 0": (
        lambda regions, words: _dots(
            regions / regions.norm(dim=-1, keepdim=True), words / words.norm(dim=-1, keepdim=True)
        )
    ),
    "this is the plain dot product: divide by both lengths": _dots,
    "only the regions have length 1 here: normalise the words, too": lambda regions, words: _dots(
        _unit(regions), words
    ),
    "only the words have length 1 here: normalise the regions, too": lambda regions, words: _dots(
        regions, _unit(words)
    ),
    "you normalised over the set (dim=1): each vector has its own length, over the last axis": (
        lambda regions, words: _dots(F.normalize(regions, dim=1), F.normalize(words, dim=1))
    ),
    "you normalised over the batch (dim=0): each vector has its own length, over the last axis": (
        lambda regions, words: _dots(F.normalize(regions, dim=0), F.normalize(words, dim=0))
    ),
    "you divided by one length for the whole set: each vector has its own, norm(dim=-1, keepdim=True)": (
        lambda regions, words: _dots(
            regions / regions.norm(dim=(1, 2), keepdim=True), words / words.norm(dim=(1, 2), keepdim=True)
        )
    ),
    "you divided by the length of the whole tensor: each vector has its own, norm(dim=-1, keepdim=True)": (
        lambda regions, words: _dots(regions / regions.norm(), words / words.norm())
    ),
    "you divided by the squared lengths: take the root": lambda regions, words: _dots(
        regions / (regions**2).sum(-1, keepdim=True), words / (words**2).sum(-1, keepdim=True)
    ),
    "you divided by the sum of absolute values: the length is the root of the sum of squares": (
        lambda regions, words: _dots(F.normalize(regions, p=1, dim=-1), F.normalize(words, p=1, dim=-1))
    ),
    "regions and words are exchanged: the last two axes are (N, M, R, W) in this order": lambda regions, words: _dots(
        _unit(regions), _unit(words), "nmwr"
    ),
    "images and captions are exchanged: the first two axes are (N, M, R, W) in this order": (
        lambda regions, words: _dots(_unit(regions), _unit(words), "mnrw")
    ),
    "the axes are captions, images, words, regions: (N, M, R, W) is asked for": lambda regions, words: _dots(
        _unit(regions), _unit(words), "mnwr"
    ),
    "the axes are in another order: image, caption, region, word, so no reshape or view over swapped axes": (
        lambda regions, words: _dots(_unit(regions), _unit(words), "nrmw").reshape(
            len(regions), len(words), regions.shape[1], words.shape[1]
        )
    ),
    "this is the mean over the D products: a dot product is their sum": lambda regions, words: (
        _dots(_unit(regions), _unit(words)) / regions.shape[-1]
    ),
    "image n meets only caption n here, everywhere: each image meets every caption": lambda regions, words: (
        torch.einsum("nrd,nwd->nrw", _unit(regions), _unit(words))[:, None].expand(-1, len(words), -1, -1)
    ),
    "negative cosines became 0: keep them": lambda regions, words: _dots(_unit(regions), _unit(words)).relu(),
    "this is a distance, 1 - cosine: the cosine itself is asked for": lambda regions, words: (
        1 - _dots(_unit(regions), _unit(words))
    ),
}

# --- mrsw ------------------------------------------------------------------------------------------------------------


def padded_cases() -> Iterator[Inputs]:
    """Cosines with garbage where padding is; for some words every real one is negative."""
    shapes = [(3, 3, 4, 4), (2, 4, 5, 3), (4, 2, 3, 6), (1, 1, 1, 1), (1, 3, 6, 2)]
    for seed, (n, m, r, w) in enumerate(shapes):
        g = torch.Generator().manual_seed(20 + seed)
        regions, words = _mask(n, r, g), _mask(m, w, g)
        if seed == 0:  # square, so that axes may be confused; with and without padding
            regions = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]]).bool()
            words = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1], [0, 1, 0, 0]]).bool()
        yield _padded(regions, words, g)


def _padded(region_mask: Tensor, word_mask: Tensor, g: torch.Generator) -> Inputs:
    (n, r), (m, w) = region_mask.shape, word_mask.shape
    cosines = _uniform(n, m, r, w, g=g)
    misfit = torch.rand(n, m, 1, w, generator=g) < 0.4
    cosines = torch.where(misfit, -cosines.abs(), cosines)
    garbage = torch.tensor([5.0, -3.0, 4.0], dtype=torch.float64)[torch.randint(3, (n, m, r, w), generator=g)]
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    return {
        "alignments": torch.where(real, cosines, garbage),
        "region_mask": region_mask,
        "word_mask": word_mask,
    }


def mrsw_cases() -> Iterator[Inputs]:
    """The padded cases; a wrong picture, all of whose cosines are negative; a caption without a word."""
    yield from padded_cases()
    g = torch.Generator().manual_seed(30)
    negative = _padded(_mask(2, 5, g), _mask(3, 4, g), g)
    yield negative | {"alignments": -negative["alignments"].abs()}
    words = _mask(3, 4, g)
    words[1] = False
    yield _padded(_mask(2, 5, g), words, g)


def mrsw_specification(alignments: Tensor, region_mask: Tensor, word_mask: Tensor) -> Tensor:
    """Pair by pair, word by word: the best of the real regions, added up over the real words."""
    scores = []
    for n in range(len(region_mask)):
        for m in range(len(word_mask)):
            total = alignments.new_zeros(())
            for w in range(word_mask.shape[1]):
                if word_mask[m, w]:
                    regions = [alignments[n, m, r, w] for r in range(region_mask.shape[1]) if region_mask[n, r]]
                    total = total + max(regions, key=Tensor.item)
            scores.append(total)
    return torch.stack(scores).reshape(len(region_mask), len(word_mask))


def _by_region(region_mask: Tensor) -> Tensor:
    return region_mask[:, None, :, None]


def _by_word(word_mask: Tensor) -> Tensor:
    return word_mask[None, :, None, :]


def _max_sum(alignments, regions, words, fill=-torch.inf, reduce=torch.sum):
    """MrSw with masks that fit (N, M, R, W) and (N, M, W)."""
    best = alignments.masked_fill(~regions, fill).amax(dim=2)
    return reduce(best.masked_fill(~words, 0), dim=-1)


def _sum_max(alignments, regions, words, fill=-torch.inf):
    """MwSr with masks that fit (N, M, R, W) and (N, M, R)."""
    return _max_sum(alignments.mT, words.mT if words.ndim == 4 else words, regions, fill)


def _all_sum(alignments, region_mask, word_mask):
    real = _by_region(region_mask) & _by_word(word_mask)
    return alignments.masked_fill(~real, 0).sum(dim=(2, 3))


def _sum_first(alignments, region_mask, word_mask):
    """The largest of the sums over words."""
    sums = alignments.masked_fill(~_by_word(word_mask), 0).sum(dim=3)
    return sums.masked_fill(~region_mask[:, None], -torch.inf).amax(dim=2)


def _first(mask: Tensor) -> Tensor:
    """As many places as are real, but the first ones."""
    return torch.arange(mask.shape[1], device=mask.device) < mask.sum(dim=1, keepdim=True)


def _infinite(alignments, region_mask, word_mask, weight=None):
    real = _by_region(region_mask) & _by_word(word_mask)
    best = alignments.masked_fill(~real, -torch.inf).amax(dim=2)
    return (best if weight is None else best * weight).sum(dim=-1)


def _mrsw_with(words_of=None, regions_of=None, **how) -> Callable:
    """MrSw with other masks: functions of (region_mask, word_mask)."""

    def scores(alignments, region_mask, word_mask):
        regions = regions_of(region_mask, word_mask) if regions_of else _by_region(region_mask)
        words = words_of(region_mask, word_mask) if words_of else word_mask[None]
        return _max_sum(alignments, regions, words, **how)

    return scores


def _everything(*masks: Tensor) -> Tensor:
    return torch.ones((), dtype=torch.bool, device=masks[0].device)


MRSW_MISTAKES = {
    "padded regions became 0 before the maximum, and win where every real cosine is negative (as in TERAN's released "
    "code): fill with -inf": _mrsw_with(fill=0.0),
    "negative cosines became 0: a word that fits nowhere lowers the score": lambda alignments, region_mask, word_mask: (
        _mrsw_with(fill=0.0)(alignments.relu(), region_mask, word_mask)
    ),
    "no mask is used: padded regions win the maximum, padded words are added": _mrsw_with(_everything, _everything),
    "padded regions take part in the maximum: fill them with -inf first": _mrsw_with(regions_of=_everything),
    "padded words are added up: set their maximum to 0 before the sum": _mrsw_with(_everything),
    "padded words are left at -inf and are added up: before the sum fill them with 0": _infinite,
    "-inf times 0 is NaN: set padded words to 0 with masked_fill or torch.where, not by a product": (
        lambda alignments, region_mask, word_mask: _infinite(alignments, region_mask, word_mask, word_mask[None])
    ),
    "this is the mean over the real words (MrAVGw): add them up": lambda alignments, region_mask, word_mask: (
        mrsw_specification(alignments, region_mask, word_mask) / word_mask.sum(dim=1)
    ),
    "this is the mean over words and padding: add the words up": _mrsw_with(reduce=torch.mean),
    "this is MwSr, the best word of each region, added over regions: take the maximum over regions (axis 2)": (
        lambda alignments, region_mask, word_mask: _sum_max(alignments, region_mask[:, None], _by_word(word_mask))
    ),
    "this is MwSr with padding left in: take the maximum over regions (axis 2), add over words, use both masks": (
        lambda alignments, region_mask, word_mask: alignments.amax(dim=3).sum(dim=2)
    ),
    "you added first and took the maximum then: each word takes its own best region, and then words are added": (
        _sum_first
    ),
    "you took the maximum over words, too: add the words up": lambda alignments, region_mask, word_mask: (
        alignments.masked_fill(~(_by_region(region_mask) & _by_word(word_mask)), -torch.inf).amax(dim=(2, 3))
    ),
    "this is the sum of all cosines: each word takes its best region only": _all_sum,
    "this is the mean over regions, added over words: each word takes its best region": (
        lambda alignments, region_mask, word_mask: (
            _all_sum(alignments, region_mask, word_mask) / region_mask.sum(dim=1)[:, None]
        )
    ),
    "each word takes its worst region here (min): the best is asked for": lambda alignments, region_mask, word_mask: (
        -mrsw_specification(-alignments, region_mask, word_mask)
    ),
    "region_mask stands on the axis of the words: [:, None, :, None] fits (N, M, R, W)": _mrsw_with(
        regions_of=lambda region_mask, word_mask: region_mask[:, None, None, :]
    ),
    "region_mask stands on the axis of the captions: [:, None, :, None] fits (N, M, R, W)": _mrsw_with(
        regions_of=lambda region_mask, word_mask: region_mask[None, :, :, None]
    ),
    "word_mask stands on the axis of the images: after the maximum [None] fits (N, M, W)": _mrsw_with(
        lambda region_mask, word_mask: word_mask[:, None]
    ),
    "region_mask is turned round: masked_fill fills where it is True, so give it ~region_mask": _mrsw_with(
        regions_of=lambda region_mask, word_mask: ~_by_region(region_mask)
    ),
    "word_mask is turned round: masked_fill fills where it is True, so give it ~word_mask": _mrsw_with(
        lambda region_mask, word_mask: ~word_mask[None]
    ),
    "you take padding to stand at the end: here it stands anywhere, so use the masks, not the lengths": _mrsw_with(
        lambda region_mask, word_mask: _first(word_mask)[None],
        lambda region_mask, word_mask: _by_region(_first(region_mask)),
    ),
    "a caption without a real word gives NaN (0 / 0): its score is 0": lambda alignments, region_mask, word_mask: (
        mrsw_specification(alignments, region_mask, word_mask) * word_mask.sum(dim=1) / word_mask.sum(dim=1)
    ),
    "images and captions are exchanged: (N, M) is asked for": lambda alignments, region_mask, word_mask: (
        mrsw_specification(alignments, region_mask, word_mask).T
    ),
}

# --- poolings --------------------------------------------------------------------------------------------------------


def pool_cases() -> Iterator[Inputs]:
    """The padded cases in all four ways; in each of them images and captions keep something real."""
    for case in padded_cases():
        for how in ("MrSw", "MrAVGw", "MwSr", "Symm"):
            yield case | {"how": how}


def pool_specification(alignments: Tensor, region_mask: Tensor, word_mask: Tensor, how: str) -> Tensor:
    """MrSw as it is; MwSr is the same with both sides exchanged."""
    by_word = mrsw_specification(alignments, region_mask, word_mask)
    if how == "MrSw":
        return by_word
    if how == "MrAVGw":
        return torch.stack([by_word[:, m] / sum(real) for m, real in enumerate(word_mask.tolist())], dim=1)
    by_region = mrsw_specification(alignments.permute(1, 0, 3, 2), word_mask, region_mask).T
    return by_region if how == "MwSr" else by_word + by_region


def _pool_with(by_word: Callable, by_region: Callable) -> Callable:
    """The four poolings from other makers of MrSw and MwSr."""

    def pool(alignments, region_mask, word_mask, how):
        first, second = (make(alignments, region_mask, word_mask) for make in (by_word, by_region))
        return {"MrSw": first, "MrAVGw": first / word_mask.sum(dim=1), "MwSr": second, "Symm": first + second}[how]

    return pool


def _pool_masked(fill=-torch.inf, before=None, after=None) -> Callable:
    """Both sums with one change on both sides: other masks before the maximum or after it."""

    def by_word(alignments, region_mask, word_mask):
        some = before(region_mask) if before else _by_region(region_mask)
        return _max_sum(alignments, some, after(word_mask) if after else word_mask[None], fill)

    def by_region(alignments, region_mask, word_mask):
        some = before(word_mask) if before else _by_word(word_mask)
        return _sum_max(alignments, after(region_mask) if after else region_mask[:, None], some, fill)

    return _pool_with(by_word, by_region)


def _pool_infinite(alignments, region_mask, word_mask):
    return _infinite(alignments.permute(1, 0, 3, 2), word_mask, region_mask).T


def _only(name: str, wrong: Callable[[Callable, Tensor, Tensor], Tensor]) -> Callable:
    """Wrong in one way of pooling: there made of the right ones, by name, and both masks."""

    def pool(alignments, region_mask, word_mask, how):
        def right(how):
            return pool_specification(alignments, region_mask, word_mask, how)

        return wrong(right, region_mask, word_mask) if how == name else right(how)

    return pool


def _pool_exchanged(alignments, region_mask, word_mask, how):
    names = {"MrSw": "MwSr", "MwSr": "MrSw"}
    return pool_specification(alignments, region_mask, word_mask, names.get(how, how))


def _pool_sum_first(alignments, region_mask, word_mask):
    return _sum_first(alignments.permute(1, 0, 3, 2), word_mask, region_mask).T


POOL_MISTAKES = {
    "padding became 0 before the maximum, and wins where every real cosine is negative: fill with -inf": _pool_masked(
        fill=0.0
    ),
    "no mask is used: padding wins the maximum and is added up": _pool_masked(before=_everything, after=_everything),
    "padding takes part in the maximum: fill it with -inf first": _pool_masked(before=_everything),
    "what padded words or regions found is added up: set it to 0 before the sum": _pool_masked(after=_everything),
    "-inf is left where padding stands, and is added up: after the maximum fill it with 0": _pool_with(
        _infinite, _pool_infinite
    ),
    "MwSr gives the same as MrSw: it takes the maximum over words and adds over regions": _only(
        "MwSr", lambda right, *_: right("MrSw")
    ),
    "MrSw and MwSr are exchanged: MrSw takes the maximum over regions and adds over words": _pool_exchanged,
    "you added first and took the maximum then: the name is read from the left, first the maximum": _pool_with(
        _sum_first, _pool_sum_first
    ),
    "MrSw is divided by the number of words: that is MrAVGw": _only("MrSw", lambda right, *_: right("MrAVGw")),
    "MrAVGw is not divided: it is MrSw over the number of real words": _only("MrAVGw", lambda right, *_: right("MrSw")),
    "MrAVGw is divided by the padded width: count the real words, word_mask.sum(dim=1)": _only(
        "MrAVGw", lambda right, region_mask, word_mask: right("MrSw") / word_mask.shape[1]
    ),
    "MrAVGw is divided by the number of regions: w stands for words": _only(
        "MrAVGw", lambda right, region_mask, word_mask: right("MrSw") / region_mask.sum(dim=1)[:, None]
    ),
    "MrAVGw is divided by the words of all captions together: each caption has its own number": _only(
        "MrAVGw", lambda right, region_mask, word_mask: right("MrSw") / word_mask.sum()
    ),
    "in MrAVGw the numbers of words stand along the images: they belong to the columns, so no [:, None]": _only(
        "MrAVGw", lambda right, region_mask, word_mask: right("MrSw") / word_mask.sum(dim=1)[:, None]
    ),
    "MwSr is divided by the number of regions: it is a sum": _only(
        "MwSr", lambda right, region_mask, word_mask: right("MwSr") / region_mask.sum(dim=1)[:, None]
    ),
    "MwSr is divided by the number of words: it is a sum over regions": _only(
        "MwSr", lambda right, region_mask, word_mask: right("MwSr") / word_mask.sum(dim=1)
    ),
    "MwSr comes as (captions, images): (N, M) is asked for": _only("MwSr", lambda right, *_: right("MwSr").T),
    "Symm is the mean of MrSw and MwSr: add the two": _only("Symm", lambda right, *_: right("Symm") / 2),
    "Symm is MrSw alone: add MwSr": _only("Symm", lambda right, *_: right("MrSw")),
    "Symm is MwSr alone: add MrSw": _only("Symm", lambda right, *_: right("MwSr")),
    "Symm adds MrAVGw and MwSr: both parts are sums": _only("Symm", lambda right, *_: right("MrAVGw") + right("MwSr")),
    "Symm is the larger of MrSw and MwSr: add the two": _only(
        "Symm", lambda right, *_: torch.maximum(right("MrSw"), right("MwSr"))
    ),
    "Symm is the product of MrSw and MwSr: add the two": _only("Symm", lambda right, *_: right("MrSw") * right("MwSr")),
}

# --- packed-mrsw -----------------------------------------------------------------------------------------------------


def packed_cases() -> Iterator[Inputs]:
    """As many images as regions, so that axes may be confused; captions of one word, one caption, one region."""
    shapes = [(3, 3, 4, [3, 1, 2]), (2, 5, 3, [2, 4, 1, 1]), (4, 1, 6, [1, 1, 1]), (1, 4, 2, [5]), (2, 3, 5, [4, 4])]
    for seed, (n, r, dim, lengths) in enumerate(shapes):
        g = torch.Generator().manual_seed(40 + seed)
        regions = torch.randn(n, r, dim, generator=g, dtype=torch.float64)
        words = torch.randn(sum(lengths), dim, generator=g, dtype=torch.float64)
        yield {"regions": regions, "words": words, "lengths": lengths}


def packed_specification(regions: Tensor, words: Tensor, lengths: list[int]) -> Tensor:
    """Image by image, caption by caption, counting through the words."""
    rows = []
    for image in regions:
        row, t = [], 0
        for length in lengths:
            total = words.new_zeros(())
            for word in words[t : t + length]:
                total = total + max(((region * word).sum() for region in image), key=Tensor.item)
            row.append(total)
            t += length
        rows.append(torch.stack(row))
    return torch.stack(rows)


def _best_regions(regions: Tensor, words: Tensor) -> Tensor:
    return torch.einsum("nrd,td->nrt", regions, words).amax(dim=1)


def _packed(cut: Callable, reduce: Callable = torch.sum) -> Callable:
    """Other ways to cut the T columns into captions: lengths -> slices."""

    def scores(regions, words, lengths):
        best = _best_regions(regions, words)
        return torch.stack([reduce(best[:, place], dim=1) for place in cut(lengths)], dim=1)

    return scores


def _slices(lengths, first=0, last=0):
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return [slice(max(end - length + first, 0), end + last) for end, length in zip(ends, lengths, strict=True)]


def _equal_slices(lengths):
    size = -(-sum(lengths) // len(lengths))
    return [slice(i * size, (i + 1) * size) for i in range(len(lengths))]


def _packed_sides(regions, words, lengths, pool):
    """Each caption's matrix (N, R, its words) pooled for itself."""
    return torch.stack([pool(regions @ some.T) for some in words.split(lengths)], dim=1)


def _packed_mixed(regions, words, lengths):
    n, r, dim = regions.shape
    best = (regions.reshape(-1, dim) @ words.T).reshape(r, n, -1).amax(dim=0)
    return torch.stack([some.sum(dim=1) for some in best.split(lengths, dim=1)], dim=1)


PACKED_MISTAKES = {
    "this is the mean over words (MrAVGw): add them up": _packed(_slices, torch.mean),
    "this is the best word only: add the words up": _packed(_slices, torch.amax),
    "each caption holds the words of all captions before it, too: cut at the cumulative sum on both sides": _packed(
        lambda lengths: [slice(0, place.stop) for place in _slices(lengths)]
    ),
    "each caption goes on to the very last word: cut at the cumulative sum on both sides": _packed(
        lambda lengths: [slice(place.start, None) for place in _slices(lengths)]
    ),
    "every caption begins at word 0: begin where the one before it ends": _packed(
        lambda lengths: [slice(0, length) for length in lengths]
    ),
    "you cut at the lengths themselves: caption m begins at the sum of all lengths before it": _packed(
        lambda lengths: [slice(sum(lengths[m - 1 : m]), sum(lengths[m - 1 : m]) + n) for m, n in enumerate(lengths)]
    ),
    "the words are cut into equal parts: caption m has lengths[m] of them": _packed(_equal_slices),
    "the words are dealt out in turn, word t to caption t % M: caption m's words stand together": _packed(
        lambda lengths: [slice(m, None, len(lengths)) for m in range(len(lengths))]
    ),
    "the last word of each caption is missing: a slice already leaves out its end": _packed(
        lambda lengths: _slices(lengths, last=-1)
    ),
    "the first word of each caption is missing: start at the sum of the lengths before it": _packed(
        lambda lengths: _slices(lengths, first=1)
    ),
    "each caption takes the first word of the next one, too: a slice ends before its stop": _packed(
        lambda lengths: _slices(lengths, last=1)
    ),
    "each caption begins one word too early": _packed(lambda lengths: _slices(lengths, first=-1)),
    "every caption begins and ends one word too late": _packed(lambda lengths: _slices(lengths, first=1, last=1)),
    "a word is skipped between two captions: the next one begins where the one before it ends": _packed(
        lambda lengths: [slice(place.start + m, place.stop + m) for m, place in enumerate(_slices(lengths))]
    ),
    "these are cosines: use the dot products as they are": lambda regions, words, lengths: packed_specification(
        _unit(regions), _unit(words), lengths
    ),
    "the words are normalised: use the dot products as they are": lambda regions, words, lengths: packed_specification(
        regions, _unit(words), lengths
    ),
    "the regions are normalised: use the dot products as they are": lambda regions, words, lengths: (
        packed_specification(_unit(regions), words, lengths)
    ),
    "this is MwSr, the best word of each region, added over regions: take the maximum over regions": (
        lambda regions, words, lengths: _packed_sides(regions, words, lengths, lambda a: a.amax(dim=2).sum(dim=1))
    ),
    "you added the words first and took the maximum then: each word takes its own best region": (
        lambda regions, words, lengths: _packed_sides(regions, words, lengths, lambda a: a.sum(dim=2).amax(dim=1))
    ),
    "this is the sum of all dot products: each word takes its best region only": (
        lambda regions, words, lengths: _packed_sides(regions, words, lengths, lambda a: a.sum(dim=(1, 2)))
    ),
    "the maximum goes over the images (or the rows are read as (R, N)): in (N, R, T) the regions are on axis 1": (
        _packed_mixed
    ),
    "negative maxima became 0: use the dot products as they are": lambda regions, words, lengths: packed_specification(
        F.pad(regions, (0, 0, 0, 1)), words, lengths
    ),
    "images and captions are exchanged: (N, M) is asked for": lambda regions, words, lengths: (
        packed_specification(regions, words, lengths).T
    ),
}

# --- pointing --------------------------------------------------------------------------------------------------------


def pointing_cases() -> Iterator[Inputs]:
    """So many questions that each mistake has its own number of hits; few; one; a picture whose regions are all right.

    Alignments are multiples of 1/64, exact in float32, and many are level.
    """
    for seed, (count, width) in enumerate([(997, 7), (7, 9), (9, 4), (1, 1)]):
        g = torch.Generator().manual_seed(seed)
        mask = _mask(count, width, g)
        right = torch.rand(count, width, generator=g) < 0.3  # in padded places, too
        right[torch.arange(count), torch.where(mask, torch.rand(count, width, generator=g), -1).argmax(dim=1)] = True
        steps = torch.tensor([4, 64])[torch.randint(2, (count, 1), generator=g)]
        cosines = (steps * _uniform(count, width, g=g)).round() / steps
        cosines -= (cosines.abs() + cosines) * (torch.rand(count, 1, generator=g) < 0.3)  # all of a row negative
        garbage = torch.where(torch.rand(count, width, generator=g) < 0.3, 5.0, -3.0)
        yield {"alignments": torch.where(mask, cosines, garbage), "region_mask": mask, "right": right}


def pointing_specification(alignments: Tensor, region_mask: Tensor, right: Tensor) -> float:
    """Question by question: does a right region stand above every wrong one?"""
    hits = 0
    for row, real, good in zip(alignments.tolist(), region_mask.tolist(), right.tolist(), strict=True):
        above = max(value for value, r, g in zip(row, real, good, strict=True) if r and g)
        wrong = [value for value, r, g in zip(row, real, good, strict=True) if r and not g]
        hits += all(above > value for value in wrong)
    return 100.0 * hits / len(alignments)


def _extremes(alignments, region_mask, right, fill=-torch.inf):
    """The best right and the best wrong real region of each question."""
    best = alignments.masked_fill(~(right & region_mask), fill).amax(dim=1)
    return best, alignments.masked_fill(~(~right & region_mask), fill).amax(dim=1)


def _percent(hits: Tensor) -> float:
    return 100 * float(hits.double().mean())


def _at(right: Tensor, place: Tensor) -> Tensor:
    return right.gather(1, place[:, None])[:, 0]


def _argmax_hits(alignments, region_mask, right, fill=-torch.inf):
    return _percent(_at(right, alignments.masked_fill(~region_mask, fill).argmax(dim=1)))


def _over_questions(alignments, region_mask, right):
    place = alignments.masked_fill(~region_mask, -torch.inf).argmax(dim=0)
    return _percent(right.gather(0, place[None])[0])


def _among_best(count: int) -> Callable:
    def hits(alignments, region_mask, right):
        filled = alignments.masked_fill(~region_mask, -torch.inf)
        places = filled.topk(min(count, filled.shape[1]), dim=1).indices
        return _percent((right & region_mask).gather(1, places).any(dim=1))

    return hits


def _means(alignments, region_mask, right, of_right=True):
    """The mean of the right regions against the mean, or the best, of the wrong ones."""
    best = _extremes(alignments, region_mask, right)[1]
    good, bad = right & region_mask, ~right & region_mask
    mean = [alignments.masked_fill(~some, 0).sum(dim=1) / some.sum(dim=1) for some in (good, bad)]
    return _percent(mean[0] > (best if of_right else mean[1].nan_to_num(nan=-torch.inf)))


def _above_mean(alignments, region_mask, right):
    mean = alignments.masked_fill(~region_mask, 0).sum(dim=1, keepdim=True) / region_mask.sum(dim=1, keepdim=True)
    return _percent(((alignments > mean) & right & region_mask).any(dim=1))


def _right_that_win(alignments, region_mask, right):
    best = _extremes(alignments, region_mask, right)[1]
    good = right & region_mask
    return 100 * float(((alignments > best[:, None]) & good).sum() / good.sum())


def _single_best(alignments, region_mask, right):
    filled = alignments.masked_fill(~region_mask, -torch.inf)
    single = (filled == filled.amax(dim=1, keepdim=True)).sum(dim=1) == 1
    return _percent(_at(right, filled.argmax(dim=1)) & single)


def _every_right(alignments, region_mask, right):
    worst = alignments.masked_fill(~(right & region_mask), torch.inf).amin(dim=1)
    return _percent(worst > _extremes(alignments, region_mask, right)[1])


def _compared(compare: Callable, mask: Callable | None = None, fill: float = -torch.inf) -> Callable:
    """Another comparison of the best right and the best wrong region, or with another mask."""

    def hits(alignments, region_mask, right):
        mine = mask(region_mask) if mask else region_mask
        return _percent(compare(*_extremes(alignments, mine, right, fill)))

    return hits


POINTING_MISTAKES = {
    "this is a fraction: give percent, multiply by 100": lambda alignments, region_mask, right: (
        pointing_specification(alignments, region_mask, right) / 100
    ),
    "this counts the hits: divide by the number of questions, times 100": lambda alignments, region_mask, right: (
        pointing_specification(alignments, region_mask, right) * len(alignments) / 100
    ),
    "these are the misses: count the hits": lambda alignments, region_mask, right: (
        100 - pointing_specification(alignments, region_mask, right)
    ),
    "argmax takes the first of regions that are level, so their order decides: a level wrong region makes a miss": (
        _argmax_hits
    ),
    "a wrong region that is level with the best right one makes a miss: use >, not >=": _compared(torch.ge),
    "padding can win: leave out what region_mask calls padding": _compared(torch.gt, torch.ones_like),
    "padding can win, since region_mask is missing before argmax (which also lets the order decide on levels)": (
        lambda alignments, region_mask, right: _percent(_at(right, alignments.argmax(dim=1)))
    ),
    "padding became 0 and wins where all cosines are negative: fill it with -inf (and argmax takes the first of "
    "level regions)": lambda alignments, region_mask, right: _argmax_hits(alignments, region_mask, right, 0.0),
    "what is left out became 0 and wins where cosines are negative: fill it with -inf": _compared(torch.gt, fill=0.0),
    "region_mask is turned round: True is a real region": _compared(torch.gt, torch.logical_not),
    "this is chance, the share of right regions among the real ones: look at the alignments": (
        lambda alignments, region_mask, right: (
            100 * float(((right & region_mask).sum(dim=1) / region_mask.sum(dim=1)).double().mean())
        )
    ),
    "this is the share of right regions that beat all wrong ones: a question has one answer, its best region": (
        _right_that_win
    ),
    "you took the region with the lowest alignment: the best is the highest": lambda alignments, region_mask, right: (
        pointing_specification(-alignments, region_mask, right)
    ),
    "you took the region with the lowest alignment, by argmin: the best is the highest": (
        lambda alignments, region_mask, right: _argmax_hits(-alignments, region_mask, right)
    ),
    "the maximum goes over the questions (axis 0): each question, a row, has its own best region": _over_questions,
    "a right region among the best two is no hit yet: only the best counts": _among_best(2),
    "a right region among the best three is no hit yet: only the best counts": _among_best(3),
    "a right region among the best five is no hit yet: only the best counts": _among_best(5),
    "a right region above the mean is no hit yet: only the best counts": _above_mean,
    "you compared means of right and wrong regions: compare the best of each": (
        lambda alignments, region_mask, right: _means(alignments, region_mask, right, of_right=False)
    ),
    "you took the mean of the right regions: one good one is enough, take the best": _means,
    "you asked every right region to beat the wrong ones: one is enough": _every_right,
    "two right regions that are level are no miss: only a wrong one makes it": _single_best,
    "a padded place that right calls True is no region: combine right with region_mask": (
        lambda alignments, region_mask, right: _percent(
            alignments.masked_fill(~right, -torch.inf).amax(dim=1) > _extremes(alignments, region_mask, right)[1]
        )
    ),
}

EXERCISES: tuple[Exercise, ...] = (
    Exercise("box-geometry", box_cases, box_specification, BOX_MISTAKES),
    Exercise(
        "alignments",
        alignments_cases,
        alignments_specification,
        ALIGNMENTS_MISTAKES,
        gradients=("regions", "words"),
    ),
    Exercise("mrsw", mrsw_cases, mrsw_specification, MRSW_MISTAKES, gradients=("alignments",)),
    Exercise("poolings", pool_cases, pool_specification, POOL_MISTAKES, gradients=("alignments",)),
    Exercise("packed-mrsw", packed_cases, packed_specification, PACKED_MISTAKES, gradients=("regions", "words")),
    Exercise("pointing", pointing_cases, pointing_specification, POINTING_MISTAKES),
)
