"""Answers to the exercises of lesson 07: right ones, and wrong ones with what each is told."""

from __future__ import annotations

import heapq
import math
import warnings

import numpy as np
import torch


def codes_in_loops(vectors, codebooks):
    width = codebooks.shape[2]
    rows = []
    for vector in vectors:
        parts = [vector[i : i + width] for i in range(0, len(vector), width)]
        rows.append([int((book - part).norm(dim=1).argmin()) for part, book in zip(parts, codebooks, strict=True)])
    return rows


def codes_in_numpy(vectors, codebooks):
    v, books = vectors.numpy(), codebooks.numpy()
    parts = np.split(v, len(books), axis=1)
    codes = [((p[:, None] - b[None]) ** 2).sum(2).argmin(1) for p, b in zip(parts, books, strict=True)]
    return np.stack(codes, axis=1)


def codes_by_products(vectors, codebooks):
    """Without the length of the vector, which decides nothing."""
    parts = vectors.reshape(len(vectors), len(codebooks), -1)
    dots = torch.einsum("nmw,mkw->nmk", parts, codebooks)
    return (codebooks.pow(2).sum(-1) - 2 * dots).argmin(-1).int()


def scores_rebuilt(query, codes, codebooks):
    vectors = torch.cat([book[own.long()] for book, own in zip(codebooks, codes.T, strict=True)], dim=1)
    return vectors @ query


def scores_in_numpy(query, codes, codebooks):
    books, own = codebooks.numpy(), codes.numpy().astype(int)
    table = np.einsum("mw,mkw->mk", query.numpy().reshape(len(books), -1), books)
    return np.take_along_axis(table, own.T, axis=1).sum(axis=0)


def scores_in_loops(query, codes, codebooks):
    width = codebooks.shape[2]
    return [
        sum(
            sum(float(query[m * width + i]) * float(codebooks[m, code, i]) for i in range(width))
            for m, code in enumerate(own)
        )
        for own in codes.tolist()
    ]


def cells_with_a_mask(query, vectors, starts, centroids, probes):
    cell_of = torch.repeat_interleave(torch.arange(len(centroids)), starts.diff())
    chosen = (centroids @ query).topk(min(probes, len(centroids))).indices
    rows = torch.isin(cell_of, chosen).nonzero().squeeze(1)
    return rows[(vectors[rows] @ query).argsort(descending=True)]


def cells_in_numpy(query, vectors, starts, centroids, probes):
    q, v, edges, c = query.numpy(), vectors.numpy(), starts.numpy(), centroids.numpy()
    best = np.argsort(-(c @ q))[:probes]
    rows = np.concatenate([np.arange(edges[i], edges[i + 1]) for i in best])
    return rows[np.argsort(-(v[rows] @ q))]


ALSO_RIGHT = [
    ("product-codes", codes_in_loops),
    ("product-codes", codes_in_numpy),
    ("product-codes", codes_by_products),
    ("code-scores", scores_rebuilt),
    ("code-scores", scores_in_numpy),
    ("code-scores", scores_in_loops),
    ("search-cells", cells_with_a_mask),
    ("search-cells", cells_in_numpy),
]


def _codes(far=lambda part, book: torch.cdist(part, book), pick=lambda far: far.argmin(1), out=None, cut=None):
    def codes(vectors, codebooks):
        parts = cut(vectors, len(codebooks)) if cut else vectors.chunk(len(codebooks), dim=1)
        each = [pick(far(part, book)) for part, book in zip(parts, codebooks, strict=True)]
        return out(each) if out else torch.stack(each, dim=1)

    return codes


def codes_first_book(vectors, codebooks):
    parts = vectors.chunk(len(codebooks), dim=1)
    return torch.stack([torch.cdist(part, codebooks[0]).argmin(dim=1) for part in parts], dim=1)


def codes_reshaped(vectors, codebooks):
    M, K, w = codebooks.shape
    parts = vectors.reshape(M, len(vectors), w)
    return torch.stack([torch.cdist(p, b).argmin(1) for p, b in zip(parts, codebooks, strict=True)], dim=1)


def codes_centroids(vectors, codebooks):
    parts = vectors.chunk(len(codebooks), dim=1)
    return torch.cat([b[torch.cdist(p, b).argmin(1)] for p, b in zip(parts, codebooks, strict=True)], dim=1)


def codes_returns_inside(vectors, codebooks):
    for part, book in zip(vectors.chunk(len(codebooks), dim=1), codebooks, strict=True):
        return torch.cdist(part, book).argmin(dim=1)


def codes_summed(vectors, codebooks):
    parts = vectors.chunk(len(codebooks), dim=1)
    return sum(torch.cdist(p, b) ** 2 for p, b in zip(parts, codebooks, strict=True)).argmin(1)


def _scores(table=lambda part, book: book @ part, own=lambda column: column.long(), pool=sum):
    def scores(query, codes, codebooks):
        each = [
            table(part, book)[own(column)]
            for part, book, column in zip(query.chunk(len(codebooks)), codebooks, codes.T, strict=True)
        ]
        return pool(each)

    return scores


def scores_as_a_mask(query, codes, codebooks):
    total = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part, book, column in zip(query.chunk(len(codebooks)), codebooks, codes.T, strict=True):
            total = total + (book @ part)[column]
    return total


def scores_first_column(query, codes, codebooks):
    total = 0
    for part, book in zip(query.chunk(len(codebooks)), codebooks, strict=True):
        total = total + (book @ part)[codes[:, 0].long()]
    return total


def scores_written_over(query, codes, codebooks):
    for part, book, column in zip(query.chunk(len(codebooks)), codebooks, codes.T, strict=True):
        scores = (book @ part)[column.long()]
    return scores


def scores_first_book(query, codes, codebooks):
    parts = query.chunk(len(codebooks))
    return sum((codebooks[0] @ part)[column.long()] for part, column in zip(parts, codes.T, strict=True))


def _cells(near=lambda q, c: c @ q, probes_of=lambda p: p, end=0, begin=0, out=lambda rows, order: rows[order]):
    def cells(query, vectors, starts, centroids, probes):
        best = near(query, centroids).argsort(descending=True)[: probes_of(probes)]
        rows = torch.cat(
            [torch.arange(int(starts[c]) + begin, max(int(starts[c]) + begin, int(starts[c + 1]) + end)) for c in best]
        )
        rows = rows[rows < len(vectors)]
        return out(rows, (vectors[rows] @ query).argsort(descending=True))

    return cells


def cells_everything(query, vectors, starts, centroids, probes):
    return (vectors @ query).argsort(descending=True)


def cells_top_items(query, vectors, starts, centroids, probes):
    return (vectors @ query).topk(min(probes, len(vectors))).indices


def cells_in_one_span(query, vectors, starts, centroids, probes):
    best = (centroids @ query).topk(min(probes, len(centroids))).indices
    rows = torch.arange(int(starts[best.min()]), int(starts[best.max() + 1]))
    return rows[(vectors[rows] @ query).argsort(descending=True)]


def cells_where_the_best_lie(query, vectors, starts, centroids, probes):
    owner = torch.repeat_interleave(torch.arange(len(centroids)), starts.diff())
    best = (vectors @ query).topk(min(probes, len(vectors))).indices
    rows = [row for row in range(len(vectors)) if owner[row] in owner[best]]
    return torch.tensor(sorted(rows, key=lambda row: -float(vectors[row] @ query)))


def cells_others_last(query, vectors, starts, centroids, probes):
    owner = torch.repeat_interleave(torch.arange(len(centroids)), starts.diff())
    chosen = (centroids @ query).topk(min(probes, len(centroids))).indices
    scores = torch.where(torch.isin(owner, chosen), vectors @ query, -torch.inf)
    return scores.argsort(descending=True, stable=True)


def scores_with_bytes_as_index(query, codes, codebooks):
    table = torch.stack([book @ part for book, part in zip(codebooks, query.chunk(len(codebooks)), strict=True)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return table[torch.arange(len(codebooks)), codes].sum(dim=1)


WRONG = {
    "product-codes": [
        (_codes(far=lambda part, book: -part @ book.T), "the highest dot product"),
        (_codes(far=lambda part, book: torch.cdist(part, book, p=1)), "absolute differences"),
        (_codes(pick=lambda far: far.argmax(1)), "the farthest centroid"),
        (_codes(pick=lambda far: far.argmin(0)), "compete"),
        (_codes(pick=lambda far: far.min(1).values), "these are the distances"),
        (_codes(out=torch.stack), "stack with dim=1"),
        (_codes(out=torch.cat), "one after the other in one row"),
        (_codes(cut=lambda v, m: [v[:, i::m] for i in range(m)]), "every M-th number"),
        (codes_first_book, "every part meets the first codebook"),
        (codes_reshaped, "reshape"),
        (codes_centroids, "builds the vectors anew"),
        (codes_returns_inside, "only the first part's codes"),
        (codes_summed, "one number for all its parts"),
    ],
    "code-scores": [
        (scores_as_a_mask, "mask"),
        (scores_with_bytes_as_index, "for True and False: codes.long()"),
        (scores_first_column, "all parts use the first column"),
        (scores_written_over, "only the last part counts"),
        (scores_first_book, "every part uses the first codebook"),
        (_scores(pool=lambda each: torch.stack(each).mean(0)), "this is the mean over the parts"),
        (_scores(pool=lambda each: torch.stack(each, 1)), "one by one"),
        (_scores(pool=lambda each: each[0]), "only the first part counts"),
        (_scores(pool=lambda each: torch.stack(each).sum()), "the sum over everything"),
        (_scores(table=lambda part, book: (book - part).pow(2).sum(1)), "squared distances"),
        (_scores(table=lambda part, book: book.sum(1)), "without the query"),
        (_scores(own=lambda column: column.long() - 1), "begin at 1"),
    ],
    "search-cells": [
        (_cells(near=lambda q, c: -(c - q).norm(dim=1)), "cells are chosen by Euclidean distance"),
        (_cells(near=lambda q, c: -(c @ q)), "the lowest dot products"),
        (_cells(probes_of=lambda p: 1), "one cell is looked into"),
        (_cells(probes_of=lambda p: p + 1), "one cell too many"),
        (_cells(end=1), "the first item of the next cell"),
        (_cells(begin=1), "a cell's first item is left out"),
        (_cells(end=-1), "a cell's last item is left out"),
        (_cells(out=lambda rows, order: order), "places among the candidates"),
        (_cells(out=lambda rows, order: rows), "not ordered"),
        (_cells(out=lambda rows, order: rows[order].flip(0)), "worst first"),
        (_cells(out=lambda rows, order: rows[order].sort().values), "sorted by number"),
        (cells_where_the_best_lie, "the cells of the best items are looked into"),
        (cells_others_last, "the items of other cells stand at the end"),
        (cells_everything, "these are all items"),
        (cells_top_items, "best `probes` items"),
        (cells_in_one_span, "from the first chosen cell to the last"),
    ],
}


def walk_in_numpy(query, vectors, neighbours, start, beam):
    scores, links = (vectors @ query).numpy(), neighbours.numpy()
    seen, opened = [start], []
    while True:
        seen = sorted(seen, key=lambda item: -scores[item])
        closed = [item for item in seen[:beam] if item not in opened]
        if not closed:
            return np.array(seen)
        opened.append(closed[0])
        seen += [item for item in np.unique(links[closed[0]]) if item not in seen]


def walk_with_heaps(query, vectors, neighbours, start, beam):
    """Algorithm 2 of the HNSW paper: candidates, and the best found so far."""
    value = {start: float(vectors[start] @ query)}
    candidates, best = [(-value[start], start)], [(value[start], start)]
    while candidates:
        score, item = heapq.heappop(candidates)
        if len(best) == beam and -score < best[0][0]:
            break
        for other in neighbours[item].tolist():
            if other not in value:
                value[other] = float(vectors[other] @ query)
                if len(best) < beam or value[other] > best[0][0]:
                    heapq.heappush(candidates, (-value[other], other))
                    heapq.heappush(best, (value[other], other))
                    best = best if len(best) <= beam else heapq.nsmallest(len(best), best)[1:]
                    heapq.heapify(best)
    return torch.tensor(sorted(value, key=value.get, reverse=True))


def machines_by_whole_division(items, item_bytes, memory, asked, seconds_an_item, spare):
    shards = -(-items * item_bytes // memory)
    copies = -(-asked * seconds_an_item * items / shards // 1)
    return int(shards * (copies + spare))


def machines_as_a_tensor(items, item_bytes, memory, asked, seconds_an_item, spare):
    shards = torch.tensor(items * item_bytes / memory, dtype=torch.float64).ceil()
    copies = (asked * seconds_an_item * items / shards).ceil()
    return (shards * (copies + spare)).long()


ALSO_RIGHT += [
    ("walk", walk_in_numpy),
    ("walk", walk_with_heaps),
    ("machines", machines_by_whole_division),
    ("machines", machines_as_a_tensor),
]


def _walk(beam_of=lambda beam: beam, out=lambda best, opened, beam: best, key=1, links=lambda row: row):
    def walk(query, vectors, neighbours, start, beam):
        seen, opened = {start: float(vectors[start] @ query)}, []
        while True:
            best = sorted(seen, key=seen.get, reverse=key > 0)
            closed = [row for row in best[: beam_of(beam)] if row not in opened]
            if not closed:
                return torch.tensor(out(best, opened, beam), dtype=torch.long)
            opened.append(closed[0])
            for row in links(neighbours[closed[0]].tolist()):
                seen[row] = float(vectors[row] @ query)

    return walk


def walk_greedy(query, vectors, neighbours, start, beam):
    here = start
    seen = [start]
    while True:
        around = neighbours[here]
        scores = vectors[around] @ query
        seen += around.tolist()
        if scores.max() <= vectors[here] @ query:
            break
        here = int(around[scores.argmax()])
    seen = torch.tensor(list(set(seen)))
    return seen[(vectors[seen] @ query).argsort(descending=True)]


def walk_opens_all(query, vectors, neighbours, start, beam):
    seen, todo = {start}, [start]
    while todo:
        for row in neighbours[todo.pop()].tolist():
            if row not in seen:
                seen.add(row)
                todo.append(row)
    rows = torch.tensor(sorted(seen))
    return rows[(vectors[rows] @ query).argsort(descending=True)]


def walk_beam_steps(query, vectors, neighbours, start, beam):
    seen, opened = {start: float(vectors[start] @ query)}, set()
    for _ in range(beam):
        closed = [row for row in sorted(seen, key=seen.get, reverse=True) if row not in opened]
        if not closed:
            break
        opened.add(closed[0])
        for row in neighbours[closed[0]].tolist():
            seen[row] = float(vectors[row] @ query)
    return torch.tensor(sorted(seen, key=seen.get, reverse=True))


def walk_counts_twice(query, vectors, neighbours, start, beam):
    """Rows that are seen twice are listed twice."""
    seen, opened = [start], set()
    while True:
        best = sorted(set(seen), key=lambda row: -float(vectors[row] @ query))
        closed = [row for row in best[:beam] if row not in opened]
        if not closed:
            return torch.tensor(sorted(seen, key=lambda row: -float(vectors[row] @ query)))
        opened.add(closed[0])
        seen += neighbours[closed[0]].tolist()


def walk_everything(query, vectors, neighbours, start, beam):
    return (vectors @ query).argsort(descending=True)


def machines_one_round(items, item_bytes, memory, asked, seconds_an_item, spare):
    return math.ceil(items * item_bytes / memory * (asked * seconds_an_item * items + spare))


def _machines(up=math.ceil, held=lambda items, shards: items / shards, last=lambda s, c, spare: s * (c + spare), use=1):
    def machines(items, item_bytes, memory, asked, seconds_an_item, spare):
        shards = up(items * item_bytes / memory)
        copies = up(asked * (seconds_an_item * held(items, shards)) ** use)
        return last(shards, copies, spare)

    return machines


def walk_steps_by_links(query, vectors, neighbours, start, beam):
    seen, opened = {start: float(vectors[start] @ query)}, set()
    for _ in range(neighbours.shape[1]):
        closed = [row for row in sorted(seen, key=seen.get, reverse=True)[:beam] if row not in opened]
        if closed:
            opened.add(closed[0])
            for row in neighbours[closed[0]].tolist():
                seen[row] = float(vectors[row] @ query)
    return torch.tensor(sorted(seen, key=seen.get, reverse=True))


WRONG |= {
    "walk": [
        (walk_steps_by_links, "so many steps are taken as there are links"),
        (walk_greedy, "ends at the first top"),
        (walk_opens_all, "the whole graph is walked through"),
        (walk_beam_steps, "so many items are opened as the beam holds"),
        (walk_counts_twice, "looked at twice stand there twice"),
        (walk_everything, "these are all items of the gallery"),
        (_walk(out=lambda best, opened, beam: best[:beam]), "this is the beam alone"),
        (_walk(out=lambda best, opened, beam: opened), "the opened items, in the order of opening"),
        (_walk(out=lambda best, opened, beam: best[::-1]), "worst first"),
        (_walk(out=lambda best, opened, beam: sorted(best)), "sorted by row"),
        (_walk(beam_of=lambda beam: beam + 1), "one item too large"),
        (_walk(links=lambda row: row[:1]), "only an opened item's first neighbour"),
        (_walk(key=-1), "the walk goes down"),
    ],
    "machines": [
        (machines_one_round, "this rounds once, at the end, where"),
        (_machines(up=int), "rounded down"),
        (_machines(up=round), "rounded to the nearest"),
        (_machines(held=lambda items, shards: items), "look at the whole gallery"),
        (_machines(last=lambda s, c, spare: s * c + spare), "spare machines are added at the end"),
        (_machines(last=lambda s, c, spare: s * c), "the spare copies are forgotten"),
        (_machines(last=lambda s, c, spare: s + c + spare), "shards and copies are added"),
        (_machines(last=lambda s, c, spare: c + spare), "these are the copies"),
        (_machines(use=-1), "divided by the seconds a query"),
    ],
}
