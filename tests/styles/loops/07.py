"""Lesson 07 in plain loops."""

# %% product-codes
import torch


def product_codes(vectors, codebooks):
    width = codebooks.shape[2]
    books = codebooks.tolist()
    codes = []
    for vector in vectors.tolist():
        own = []
        for m, book in enumerate(books):
            part = vector[m * width : (m + 1) * width]
            far = [sum((x - y) ** 2 for x, y in zip(part, centroid)) for centroid in book]
            own.append(far.index(min(far)))
        codes.append(own)
    return torch.tensor(codes)


# %% code-scores
import torch


def code_scores(query, codes, codebooks):
    width = codebooks.shape[2]
    table = []
    for m, book in enumerate(codebooks.tolist()):
        part = query[m * width : (m + 1) * width].tolist()
        table.append([sum(x * y for x, y in zip(part, centroid)) for centroid in book])
    scores = [sum(row[code] for row, code in zip(table, own)) for own in codes.tolist()]
    return torch.tensor(scores, dtype=query.dtype, device=query.device)


# %% search-cells
import torch


def search_cells(query, vectors, starts, centroids, probes):
    near = [float(centroid @ query) for centroid in centroids]
    cells = sorted(range(len(near)), key=lambda cell: -near[cell])[:probes]
    found = []
    for cell in cells:
        for row in range(int(starts[cell]), int(starts[cell + 1])):
            found.append((float(vectors[row] @ query), row))
    found.sort(key=lambda pair: -pair[0])
    return torch.tensor([row for _, row in found], dtype=torch.long)


# %% walk
import torch


def walk(query, vectors, neighbours, start, beam):
    def score(row):
        return sum(float(q) * float(v) for q, v in zip(query, vectors[row]))

    seen, opened = {start: score(start)}, []
    while True:
        best = sorted(seen, key=lambda row: -seen[row])
        chosen = None
        for row in best[:beam]:
            if row not in opened:
                chosen = row
                break
        if chosen is None:
            return torch.tensor(best)
        opened.append(chosen)
        for row in neighbours[chosen].tolist():
            if row not in seen:
                seen[row] = score(row)


# %% machines
def machines(items, item_bytes, memory, asked, seconds_an_item, spare):
    shards = 1
    while shards * memory < items * item_bytes:
        shards += 1
    copies = 0
    while copies < asked * seconds_an_item * items / shards:
        copies += 1
    return shards * (copies + spare)
