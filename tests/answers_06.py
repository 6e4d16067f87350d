"""Answers to the exercises of lesson 06: other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

import math
import re

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# --- whole-picture ---------------------------------------------------------------------------------------------------


def whole_in_numpy(output, class_token, registers):
    output = np.asarray(output)
    if output.ndim == 4:
        return output.mean(axis=(-2, -1))
    return output[:, 0] if class_token else output[:, registers:].mean(axis=1)


def whole_by_pooling(output, class_token, registers):
    if output.ndim == 4:
        return F.adaptive_avg_pool2d(output, 1).flatten(1)
    return output.select(1, 0) if class_token else output[:, registers:].sum(1) / (output.shape[1] - registers)


def whole_with(named=None, unnamed=None, of_map=None):
    """The answer with one of its three ways changed."""

    def whole(output, class_token, registers):
        if output.ndim == 4:
            return of_map(output) if of_map else output.mean((2, 3))
        if class_token:
            return named(output, registers) if named else output[:, 0]
        return unnamed(output, registers) if unnamed else output[:, registers:].mean(1)

    return whole


def whole_first_of_all(output, class_token, registers):
    return output.mean((2, 3)) if output.ndim == 4 else output[:, 0]


def whole_mean_of_all(output, class_token, registers):
    return output.mean((2, 3)) if output.ndim == 4 else output[:, registers:].mean(1)


# --- pool-boxes ------------------------------------------------------------------------------------------------------


def boxes_fine_grid(cells, boxes):
    """By cumulative sums, read between cells."""
    rows, columns, dim = cells.shape
    table = torch.zeros(rows + 1, columns + 1, dim, dtype=cells.dtype)
    table[1:, 1:] = cells.cumsum(0).cumsum(1)

    def at(y, x):
        y, x = y * rows, x * columns
        r, c = y.long().clamp(max=rows - 1), x.long().clamp(max=columns - 1)
        fy, fx = (y - r)[:, None], (x - c)[:, None]
        upper = table[r, c] * (1 - fx) + table[r, c + 1] * fx
        return upper * (1 - fy) + (table[r + 1, c] * (1 - fx) + table[r + 1, c + 1] * fx) * fy

    x1, y1, x2, y2 = boxes.T
    total = at(y2, x2) - at(y1, x2) - at(y2, x1) + at(y1, x1)
    return total / ((x2 - x1) * columns * (y2 - y1) * rows)[:, None]


def boxes_in_loops(cells, boxes, weigh=lambda width, height: max(width, 0) * max(height, 0), guard=0.0):
    rows, columns, _ = cells.shape
    pooled = []
    for x1, y1, x2, y2 in boxes.tolist():
        total, area = 0 * cells[0, 0], guard
        for r in range(rows):
            for c in range(columns):
                width = min(x2, (c + 1) / columns) - max(x1, c / columns)
                height = min(y2, (r + 1) / rows) - max(y1, r / rows)
                w = weigh(width, height)
                total, area = total + w * cells[r, c], area + w
        pooled.append(total / area)
    return torch.stack(pooled)


def boxes_cut(cells, boxes, lower=math.floor, upper=math.floor, least=0):
    """The field's quick way: a slice of the map."""
    rows, columns, _ = cells.shape
    pooled = []
    for x1, y1, x2, y2 in boxes.tolist():
        left, top = lower(x1 * columns), lower(y1 * rows)
        right, bottom = max(upper(x2 * columns), left + least), max(upper(y2 * rows), top + least)
        pooled.append(cells[top:bottom, left:right].mean((0, 1)))
    return torch.stack(pooled)


def lengths(low, high, count):
    edges = torch.arange(count + 1, dtype=low.dtype) / count
    return (torch.minimum(high[:, None], edges[1:]) - torch.maximum(low[:, None], edges[:-1])).clamp(min=0)


def boxes_of(area, pick=(0, 1, 2, 3)):
    """Pooling of whole tensors; ``area``: what the sum is divided by."""

    def pool(cells, boxes):
        x1, y1, x2, y2 = (boxes[:, i] for i in pick)
        x, y = lengths(x1, x2, cells.shape[1]), lengths(y1, y2, cells.shape[0])
        return torch.einsum("rh,rw,hwc->rc", y, x, cells) / area(y, x, boxes)

    return pool


def area_of(y, x, boxes):
    return (y.sum(1) * x.sum(1))[:, None]


# --- fold-recall -----------------------------------------------------------------------------------------------------


def folds_by_sorting(scores, image_of_caption, folds, k):
    """With the true score lowered by nothing, and the false ones first among equals."""
    size, found = len(scores) // folds, []
    for f in range(folds):
        rows = list(range(f * size, (f + 1) * size))
        hits = []
        for c, owner in enumerate(image_of_caption.tolist()):
            if owner in rows:
                order = sorted(rows, key=lambda i: (-float(scores[i, c]), i == owner))
                hits.append(order.index(owner) < k)
        found.append(np.mean(hits))
    return 100 * np.mean(found)


def folds_masked(scores, image_of_caption, folds, k):
    fold_of_image = torch.arange(len(scores)) * folds // len(scores)
    fold = fold_of_image[image_of_caption]
    own = scores[image_of_caption, torch.arange(len(image_of_caption))]
    rank = ((scores >= own) & (fold_of_image[:, None] == fold)).sum(0)
    hits = (rank <= k).double()
    return torch.stack([100 * hits[fold == f].mean() for f in range(folds)]).mean()


def folds_with(
    rows=None, columns=None, rank=lambda gallery, own: (gallery >= own).sum(0), which=range, mean=None, percent=100
):
    """The answer with one of its steps changed."""

    def recall(scores, image_of_caption, folds, k):
        size, recalls, hits = len(scores) // folds, [], []
        for f in which(folds):
            block = rows(f, size, folds) if rows else slice(f * size, (f + 1) * size)
            captions = columns(f, size, image_of_caption, folds) if columns else image_of_caption // size == f
            own = scores[image_of_caption[captions], captions.nonzero()[:, 0]]
            hits.append((rank(scores[block][:, captions], own) <= k).double())
            recalls.append(percent * float(hits[-1].mean()))
        return mean(hits) if mean else sum(recalls) / len(recalls)

    return recall


def folds_of_captions(scores, image_of_caption, folds, k):
    own = scores[image_of_caption, torch.arange(len(image_of_caption))]
    hits = ((scores >= own).sum(0) <= k).double()
    return 100 * float(torch.stack([part.mean() for part in hits.chunk(folds)]).mean())


def folds_off_by_a_fold(scores, image_of_caption, folds, k):
    """image_of_caption as a row of the fold."""
    size, recalls = len(scores) // folds, []
    for f in range(folds):
        captions = image_of_caption // size == f
        best = scores[f * size : (f + 1) * size][:, captions].topk(min(k, size), 0).indices
        recalls.append(100 * float((best == image_of_caption[captions]).any(0).double().mean()))
    return sum(recalls) / folds


def folds_by_argsort(scores, image_of_caption, folds, k):
    size, recalls = len(scores) // folds, []
    for f in range(folds):
        captions = image_of_caption // size == f
        order = scores[f * size : (f + 1) * size][:, captions].argsort(0, descending=True, stable=True)
        recalls.append(100 * float((order[:k] + f * size == image_of_caption[captions]).any(0).double().mean()))
    return sum(recalls) / folds


# --- corrected-recall ------------------------------------------------------------------------------------------------


def corrected_by_roots(recall, fits):
    """Wilson's ends are the roots of a quadratic."""
    n, p, z2 = len(fits), float(fits.double().mean()), 1.96**2
    low, high = np.sort(np.roots([1 + z2 / n, -(2 * p + z2 / n), p * p]).real)
    return np.array([recall + (100 - recall) * share for share in (low, p, high)])


def corrected_as_a_list(recall, fits):
    h, n, z = sum(fits.tolist()), len(fits), 1.96
    c, w = (h + z * z / 2) / (n + z * z), z * math.sqrt(h * (n - h) / n + z * z / 4) / (n + z * z)
    return [100 - (100 - recall) * (1 - share) for share in (max(0, c - w), h / n, min(1, c + w))]


def corrected_with(interval=None, value=None, lay=lambda recall, share: recall + (100 - recall) * share, z=1.96):
    """The answer with one of its steps changed."""

    def corrected(recall, fits):
        h, n = int(fits.sum()), len(fits)
        centre = (h + z * z / 2) / (n + z * z)
        half = z / (n + z * z) * math.sqrt(h * (n - h) / n + z * z / 4)
        low, high = interval(h, n) if interval else (centre - half, centre + half)
        return torch.tensor([lay(recall, s) for s in (low, value(h, n) if value else h / n, high)])

    return corrected


def normal(h, n):
    half = 1.96 * math.sqrt(h / n * (1 - h / n) / n)
    return h / n - half, h / n + half


def agresti(h, n):
    """Two hits and two misses added."""
    p = (h + 2) / (n + 4)
    half = 1.96 * math.sqrt(p * (1 - p) / (n + 4))
    return p - half, p + half


# --- recall-by-cause -------------------------------------------------------------------------------------------------


def causes_in_numpy(captions, hits, causes):
    words = [set(re.split(r"\W+", caption.lower())) for caption in captions]
    table = {cause: np.array([bool(some & own) for own in words]) for cause, some in causes.items()}
    table["none"] = ~np.any(list(table.values()), axis=0) if table else np.ones(len(captions), bool)
    return {c: (100 * hits.numpy()[inside].mean(), inside.sum()) for c, inside in table.items() if inside.any()}


def causes_with(
    words=lambda caption: set(re.findall(r"\w+", caption.lower())),
    member=lambda some, words, caption: bool(some & words),
    first_only=False,
    none=True,
    pair=lambda found, captions: (100 * sum(found) / len(found), len(found)),
    empty=None,
):
    """The answer with one of its steps changed."""

    def recall(captions, hits, causes):
        groups = {cause: [] for cause in causes} | ({"none": []} if none else {})
        for caption, hit in zip(captions, hits.tolist(), strict=True):
            own = [cause for cause, some in causes.items() if member(some, words(caption), caption)]
            for cause in own[: 1 if first_only else None] or (["none"] if none else []):
                groups[cause].append(hit)
        return {
            cause: pair(found, captions) if found else empty
            for cause, found in groups.items()
            if found or empty is not None
        }

    return recall


def causes_each_word(captions, hits, causes):
    groups = {cause: [] for cause in [*causes, "none"]}
    for caption, hit in zip(captions, hits.tolist(), strict=True):
        seen = False
        for word in re.findall(r"\w+", caption.lower()):
            for cause, some in causes.items():
                if word in some:
                    groups[cause].append(hit)
                    seen = True
        if not seen:
            groups["none"].append(hit)
    return {cause: (100 * sum(found) / len(found), len(found)) for cause, found in groups.items() if found}


# --- parameter-groups ------------------------------------------------------------------------------------------------


def groups_one_a_parameter(model, rate, share):
    known = set(map(id, model.pretrained.parameters()))
    if share == 0:
        model.pretrained.eval()
        for p in model.pretrained.parameters():
            p.requires_grad = False
    return [
        {"params": p, "lr": share * rate if id(p) in known else rate}
        for p in model.parameters()
        if p.requires_grad and not (share == 0 and id(p) in known)
    ]


def groups_of_named(model, rate, share):
    """AdamW takes names beside the parameters, and a group may be empty."""
    frozen = share == 0
    model.pretrained.requires_grad_(not frozen).train(not frozen)
    mine = {id(p) for p in model.pretrained.parameters()}
    named = list(model.named_parameters())
    rest = [(n, p) for n, p in named if id(p) not in mine]
    own = [(n, p) for n, p in named if id(p) in mine and not frozen]
    return ({"params": rest, "lr": rate}, {"params": own, "lr": share * rate})


def groups_with(freeze=lambda part: part.requires_grad_(False).eval(), rest=None, lr=None, at_zero=None):
    """The answer with one of its steps changed."""

    def groups(model, rate, share):
        pretrained = list(model.pretrained.parameters())
        known = {id(p) for p in pretrained}
        others = rest(model) if rest else [p for p in model.parameters() if id(p) not in known]
        both = lr(rate, share) if lr else (rate, share * rate)
        made = [{"params": others, "lr": both[0]}, {"params": pretrained, "lr": both[1]}]
        if share == 0:
            freeze(model.pretrained)
            return at_zero(made) if at_zero else made[:1]
        return made

    return groups


def groups_all_frozen(model, rate, share):
    groups = groups_with()(model, rate, share)
    if share == 0:
        model.requires_grad_(False)
    return groups


def groups_always_frozen(model, rate, share):
    model.pretrained.requires_grad_(False)
    return groups_with()(model, rate, share)


def groups_all_in_eval(model, rate, share):
    groups = groups_with()(model, rate, share)
    if share == 0:
        model.eval()
    return groups


def groups_by_name(model, rate, share):
    """A weight of both parts has one name, and it is the other one's."""
    named = list(model.named_parameters())
    rest = [p for n, p in named if not n.startswith("pretrained.")]
    if share == 0:
        model.pretrained.requires_grad_(False).eval()
        return [{"params": rest, "lr": rate}]
    own = [p for n, p in named if n.startswith("pretrained.")]
    return [{"params": rest, "lr": rate}, {"params": own, "lr": share * rate}]


def groups_unfreezing(model, rate, share):
    model.requires_grad_(True)
    return groups_with()(model, rate, share)


def groups_forgetting(model, rate, share):
    for p in model.head.parameters():
        nn.init.normal_(p)
    return groups_with()(model, rate, share)


def groups_copied(model, rate, share):
    return [
        g | {"params": [p.detach().clone().requires_grad_() for p in g["params"]]}
        for g in groups_with()(model, rate, share)
    ]


ALSO_RIGHT = [
    ("whole-picture", whole_in_numpy),
    ("whole-picture", whole_by_pooling),
    ("pool-boxes", boxes_fine_grid),
    ("pool-boxes", boxes_in_loops),
    ("pool-boxes", boxes_of(lambda y, x, boxes: (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None])),
    ("fold-recall", folds_by_sorting),
    ("fold-recall", folds_masked),
    ("corrected-recall", corrected_by_roots),
    ("corrected-recall", corrected_as_a_list),
    ("recall-by-cause", causes_in_numpy),
    ("parameter-groups", groups_one_a_parameter),
    ("parameter-groups", groups_of_named),
]

WRONG = {
    "whole-picture": [
        (whole_first_of_all, "the top left corner of the picture"),
        (whole_mean_of_all, "class_token is ignored, and tokens always averaged"),
        (whole_with(of_map=lambda x: x[:, :, 0, 0]), "the top left cell of the map"),
        (whole_with(unnamed=lambda x, r: x[:, r]), "the first patch behind the registers"),
        (whole_with(unnamed=lambda x, r: x.mean(1)), "registers take part in the mean"),
        (whole_with(unnamed=lambda x, r: x[:, : x.shape[1] - r].mean(1)), "taken to stand at the end"),
        (whole_with(named=lambda x, r: x.mean(1)), "with a class token your function takes the mean over all tokens"),
        (whole_with(named=lambda x, r: x[:, r]), "the token behind the registers"),
        (whole_with(named=lambda x, r: x[:, 1]), "count from 0"),
        (whole_with(of_map=lambda x: x.mean(1).flatten(1)), "a map is read as tokens"),
        (whole_with(of_map=lambda x: x.mean((1, 2))), "the channels of a map are taken to be its last axis"),
        (whole_with(of_map=lambda x: x.amax((2, 3))), "pooled by its maximum"),
        (whole_with(unnamed=lambda x, r: x[:, r:].sum(1), of_map=lambda x: x.sum((2, 3))), "this is the sum"),
        (lambda output, class_token, registers: whole_by_pooling(output, not class_token, registers), "turned round"),
        (lambda **inputs: F.normalize(whole_by_pooling(**inputs), dim=-1), "brought to length 1"),
        (lambda **inputs: whole_by_pooling(**inputs)[0], "only the first picture"),
        (lambda **inputs: whole_by_pooling(**inputs).mean(1), "has shape (1,), expected (1, 2)"),
        (whole_with(of_map=lambda x: None), "a way through it reaches no return"),
        (whole_with(unnamed=lambda x, r: x[:, -r:].mean(1)), "go through this case by hand"),
    ],
    "pool-boxes": [
        (boxes_cut, "both borders are rounded down to whole cells"),
        (lambda cells, boxes: boxes_cut(cells, boxes, least=1), "with at least one"),
        (lambda cells, boxes: boxes_cut(cells, boxes, upper=math.ceil), "every cell that a box touches"),
        (lambda cells, boxes: boxes_cut(cells, boxes, lower=math.ceil), "rounded inwards"),
        (lambda cells, boxes: boxes_cut(cells, boxes, round, round, 1), "to the nearest whole cell"),
        (boxes_of(area_of, (1, 0, 3, 2)), "x and y are exchanged"),
        (boxes_of(area_of, (0, 2, 1, 3)), "x1, x2, y1, y2"),
        (boxes_of(lambda y, x, boxes: 1), "this is the sum by area"),
        (boxes_of(lambda y, x, boxes: (y.sum(1) * x.sum(1)).sum()), "of all boxes together"),
        (boxes_of(lambda y, x, boxes: y.shape[1] * x.shape[1]), "by the number of all cells"),
        (lambda cells, boxes: boxes_in_loops(cells, boxes, lambda w, h: w * h), "not cut off"),
        (
            lambda cells, boxes: boxes_in_loops(cells, boxes, lambda w, h: (w + h) * (w > 0 < h)),
            "width and height of the overlap are added",
        ),
        (lambda cells, boxes: boxes_in_loops(cells, boxes, lambda w, h: max(w, 0)), "only the overlap along x"),
        (lambda cells, boxes: boxes_in_loops(cells, boxes, guard=1e-3), "a guard of 1e-3"),
        (
            lambda cells, boxes: boxes_of(area_of)(cells, torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)),
            "x, y, width, height",
        ),
        (lambda cells, boxes: cells.mean((0, 1)).expand(len(boxes), -1), "the mean of all cells"),
        (lambda cells, boxes: boxes_in_loops(cells, boxes)[:1], "holds the first only"),
        (lambda cells, boxes: boxes_in_loops(cells, boxes).T, "expected"),
        (
            lambda cells, boxes: boxes_in_loops(cells, boxes, lambda w, h: (max(w, 0) * max(h, 0)) ** 2),
            "go through this case by hand",
        ),
    ],
    "fold-recall": [
        (folds_with(rows=lambda f, size, folds: slice(None)), "the gallery is not cut"),
        (folds_of_captions, "folds are cut from the captions"),
        (folds_with(columns=lambda f, size, owner, folds: torch.ones(len(owner)).bool()), "all captions ask"),
        (
            folds_with(
                rows=lambda f, size, folds: slice(f, None, folds),
                columns=lambda f, size, owner, folds: owner % folds == f,
            ),
            "every folds-th picture",
        ),
        (folds_with(which=lambda folds: [0]), "only the first fold"),
        (folds_with(which=lambda folds: range(max(1, folds - 1))), "the last fold is dropped"),
        (folds_with(rank=lambda gallery, own: (gallery > own).sum(0) + 1), "level with the right one"),
        (folds_with(rank=lambda gallery, own: (gallery >= own).sum(0) + 1), "one too large"),
        (folds_with(rank=lambda gallery, own: (gallery > own).sum(0)), "two things"),
        (folds_with(percent=1), "this is a fraction"),
        (folds_with(mean=lambda hits: 100 * float(torch.cat(hits).mean())), "put together first"),
        (folds_with(mean=lambda hits: sum(100 * float(h.mean()) for h in hits)), "are added"),
        (folds_with(mean=lambda hits: max(100 * float(h.mean()) for h in hits)), "the best fold"),
        (folds_with(mean=lambda hits: sum(float(h.sum()) for h in hits) / len(hits)), "hits, not their share"),
        (folds_off_by_a_fold, "subtract where the fold begins"),
        (folds_by_argsort, "take the first of pictures that are level"),
        (lambda k, **rest: folds_masked(k=1, **rest), "k is not used"),
        (lambda **inputs: round(float(folds_masked(**inputs)), 1), "rounded to one decimal"),
        (lambda **inputs: [50.0] * inputs["folds"], "expected a number"),
    ],
    "corrected-recall": [
        (corrected_with(normal), "leaves 0 to 1"),
        (corrected_with(lambda h, n: (max(0, normal(h, n)[0]), min(1, normal(h, n)[1]))), "cut at 0 and 1"),
        (corrected_with(z=1.0), "z is 1 here"),
        (corrected_with(z=1.645), "90 %"),
        (corrected_with(z=2.0), "take 1.96"),
        (corrected_with(agresti), "the value in the middle is right, both ends are not"),
        (corrected_with(value=lambda h, n: (h + 1.9208) / (n + 3.8416)), "the centre of the interval"),
        (corrected_with(lay=lambda recall, share: recall + 100 * share), "laid on all queries"),
        (corrected_with(lay=lambda recall, share: recall + recall * share), "share of all queries"),
        (corrected_with(lay=lambda recall, share: (100 - recall) * share), "gained alone"),
        (corrected_with(lay=lambda recall, share: 100 * share), "shares of the judged misses in percent"),
        (corrected_with(lay=lambda recall, share: recall + (1 - recall) * share), "100 - recall, not 1 - recall"),
        (lambda recall, fits: corrected_with()(recall, ~fits), "the misses that do not fit are counted"),
        (lambda recall, fits: corrected_with()(recall, fits)[[0, 2, 1]], "the value comes last"),
        (lambda recall, fits: corrected_with()(recall, fits)[1], "the value alone"),
        (lambda recall, fits: corrected_with()(recall, fits)[[0, 2]], "the two ends alone"),
        (lambda recall, fits: corrected_with()(recall, fits).clamp(max=80), "value and lowest are right"),
    ],
    "recall-by-cause": [
        (
            causes_with(member=lambda some, words, caption: any(w in caption.lower() for w in some)),
            "within other words",
        ),
        (causes_with(words=lambda caption: set(re.findall(r"\w+", caption))), "capitals are not lowered"),
        (causes_with(words=lambda caption: set(caption.lower().split())), "the captions are split at blanks"),
        (causes_with(words=lambda caption: set(caption.split())), "capitals are not lowered"),
        (
            causes_with(words=lambda caption: {w.strip(".,;:!()") for w in caption.lower().split()}),
            '"two-storey" holds two words',
        ),
        (causes_with(member=lambda some, words, caption: some <= words), "to hold all words of a cause"),
        (causes_with(member=lambda some, words, caption: words <= some), "all words of a caption"),
        (causes_with(first_only=True), "for one cause alone, the first"),
        (causes_each_word, "once for each of its words"),
        (causes_with(none=False), 'the group "none" is missing'),
        (causes_with(pair=lambda found, captions: (sum(found) / len(found), len(found))), "these are fractions"),
        (causes_with(pair=lambda found, captions: (100 * sum(found) / len(captions), len(found))), "of all captions"),
        (causes_with(pair=lambda found, captions: (100 * sum(found) / len(found), sum(found))), "that of the hits"),
        (causes_with(pair=lambda found, captions: (len(found), 100 * sum(found) / len(found))), "are exchanged"),
        (
            causes_with(pair=lambda found, captions: 100 * sum(found) / len(found)),
            "the numbers of captions are missing",
        ),
        (causes_with(empty=(0.0, 0)), "gets a recall of 0"),
        (causes_with(empty=(math.nan, 0)), "gets NaN"),
        (lambda **inputs: list(causes_with()(**inputs).values()), "expected a dict"),
        (lambda **inputs: {c.upper(): v for c, v in causes_with()(**inputs).items()}, "'counting', 'negation', 'none'"),
        (causes_with(pair=lambda found, captions: (1, 2, 3)), "expected two numbers"),
        (causes_with(pair=lambda found, captions: (42.0, len(found))), "not the right recalls"),
        (causes_with(pair=lambda found, captions: (50.0, 41)), "captions in the group"),
    ],
    "parameter-groups": [
        (groups_with(freeze=lambda part: part.requires_grad_(False)), "frozen, but in train mode"),
        (groups_with(freeze=lambda part: part.eval()), "its gradients are still computed"),
        (groups_with(freeze=lambda part: part.eval(), at_zero=list), "at a rate of 0 its gradients"),
        (groups_with(at_zero=list), "the frozen part is still in a group"),
        (groups_with(freeze=lambda part: part[0].requires_grad_(False)), "only some of the pretrained"),
        (groups_with(rest=lambda model: list(model.parameters())), "in the groups twice"),
        (
            groups_with(rest=lambda model: [*model.head.parameters(), *model.project.parameters()]),
            "scale is in no group",
        ),
        (groups_with(rest=lambda model: list(model.head.parameters())), "in no group, and would never learn"),
        (groups_with(lr=lambda rate, share: (share * rate, rate)), "the rates are exchanged"),
        (groups_with(lr=lambda rate, share: (rate, share)), "it is a share of rate"),
        (groups_with(lr=lambda rate, share: (rate, rate)), "learns at rate"),
        (groups_with(lr=lambda rate, share: (rate, rate / max(share, 0.01))), "expected"),
        (groups_all_frozen, "only model.pretrained is to be"),
        (groups_always_frozen, "freeze it only where share is 0"),
        (groups_all_in_eval, "the whole model is in eval mode"),
        (groups_by_name, "head.weight learns at rate"),
        (groups_unfreezing, "learns again"),
        (groups_forgetting, "changes the values of head.weight"),
        (groups_copied, "a copy would learn"),
        (lambda **inputs: groups_with()(**inputs)[0], "one dict"),
        (lambda **inputs: [p for g in groups_with()(**inputs) for p in g["params"]], "put them in groups"),
        (lambda **inputs: [{"params": g["params"]} for g in groups_with()(**inputs)], 'a group has no "lr"'),
        (lambda **inputs: [{**g, "params": set(g["params"])} for g in groups_with()(**inputs)], "AdamW refuses"),
        (lambda **inputs: torch.optim.AdamW(groups_with()(**inputs)), "returned an optimizer"),
        (lambda **inputs: groups_with()(**inputs) and None, "returned None"),
    ],
}
