"""Lesson 07 in numpy."""

# %% product-codes
import numpy as np


def product_codes(vectors, codebooks):
    books = codebooks.numpy()
    codes = []
    for part, book in zip(np.split(vectors.numpy(), len(books), axis=1), books):
        codes.append((np.square(book).sum(axis=1) - 2 * part @ book.T).argmin(axis=1))
    return np.stack(codes, axis=1)


# %% code-scores
import numpy as np


def code_scores(query, codes, codebooks):
    books, codes = codebooks.numpy(), codes.numpy()
    parts = query.numpy().reshape(len(books), -1)
    scores = np.zeros(len(codes), dtype=parts.dtype)
    for part, book, column in zip(parts, books, codes.T):
        scores += (book @ part)[column]
    return scores


# %% search-cells
import numpy as np


def search_cells(query, vectors, starts, centroids, probes):
    query, starts = query.numpy(), starts.numpy()
    cells = np.argsort(-(centroids.numpy() @ query))[:probes]
    rows = np.concatenate([np.arange(starts[c], starts[c + 1]) for c in cells])
    return rows[np.argsort(-(vectors.numpy()[rows] @ query))]


# %% walk
import numpy as np


def walk(query, vectors, neighbours, start, beam):
    scores, links = vectors.numpy() @ query.numpy(), neighbours.numpy()
    seen, opened = np.array([start]), set()
    while True:
        seen = seen[np.argsort(-scores[seen])]
        closed = [row for row in seen[:beam] if row not in opened]
        if not closed:
            return seen
        opened.add(closed[0])
        seen = np.concatenate([seen, np.setdiff1d(links[closed[0]], seen)])


# %% machines
import numpy as np


def machines(items, item_bytes, memory, asked, seconds_an_item, spare):
    shards = np.ceil(items * item_bytes / memory)
    copies = np.ceil(asked * seconds_an_item * items / shards)
    return int(shards * (copies + spare))
