"""Lesson 07 in einsum, where a product is to be written."""

# %% product-codes
import torch


def product_codes(vectors, codebooks):
    parts = vectors.unflatten(1, (len(codebooks), -1))
    dots = torch.einsum("nmw,mkw->nmk", parts, codebooks)
    squares = torch.einsum("mkw,mkw->mk", codebooks, codebooks)
    return (squares - 2 * dots).argmin(dim=-1)


# %% code-scores
import torch


def code_scores(query, codes, codebooks):
    table = torch.einsum("mw,mkw->mk", query.view(len(codebooks), -1), codebooks)
    return table.gather(1, codes.long().T).sum(dim=0)


# %% search-cells
import torch


def search_cells(query, vectors, starts, centroids, probes):
    near = torch.einsum("cd,d->c", centroids, query)
    cells = near.argsort(descending=True)[:probes]
    owner = torch.arange(len(centroids), device=query.device).repeat_interleave(starts.diff())
    rows = torch.isin(owner, cells).nonzero()[:, 0]
    scores = torch.einsum("nd,d->n", vectors[rows], query)
    return rows[scores.argsort(descending=True)]


# %% walk
import torch


def walk(query, vectors, neighbours, start, beam):
    seen, opened = torch.tensor([start], device=query.device), set()
    while True:
        scores = torch.einsum("nd,d->n", vectors[seen], query)
        seen = seen[scores.argsort(descending=True)]
        closed = [row for row in seen[:beam].tolist() if row not in opened]
        if not closed:
            return seen
        opened.add(closed[0])
        around = neighbours[closed[0]].unique()
        seen = torch.cat([seen, around[~torch.isin(around, seen)]])


# %% machines
import math


def machines(items, item_bytes, memory, asked, seconds_an_item, spare):
    shards = math.ceil(items * item_bytes / memory)
    load = asked * seconds_an_item * items / shards
    return shards * (math.ceil(load) + spare)
