"""Lesson 06 in numpy."""

# %% whole-picture
import numpy as np


def whole_picture(output, class_token, registers):
    output = output.numpy()
    if output.ndim == 4:
        return output.mean(axis=(2, 3))
    return output[:, 0] if class_token else np.mean(output[:, registers:], axis=1)


# %% pool-boxes
import numpy as np


def pool_boxes(cells, boxes):
    cells, boxes = cells.numpy(), boxes.numpy()

    def shared(low, high, count):
        edges = np.linspace(0, 1, count + 1)
        inside = np.clip(edges, low[:, None], high[:, None])
        return np.diff(inside, axis=1)

    x = shared(boxes[:, 0], boxes[:, 2], cells.shape[1])
    y = shared(boxes[:, 1], boxes[:, 3], cells.shape[0])
    weights = y[:, :, None] * x[:, None, :]
    return np.tensordot(weights, cells, axes=2) / weights.sum(axis=(1, 2))[:, None]


# %% fold-recall
import numpy as np


def fold_recall(scores, image_of_caption, folds, k):
    scores, owner = scores.numpy(), image_of_caption.numpy()
    recalls = []
    for rows in np.split(np.arange(len(scores)), folds):
        captions = np.flatnonzero(np.isin(owner, rows))
        block = scores[np.ix_(rows, captions)]
        ranks = np.sum(block >= scores[owner[captions], captions], axis=0)
        recalls.append(100 * np.mean(ranks <= k))
    return np.mean(recalls)


# %% corrected-recall
import numpy as np


def corrected_recall(recall, fits):
    p, n, z2 = np.mean(fits.numpy()), len(fits), 1.96**2
    half = np.sqrt(z2 * (n * p * (1 - p) + z2 / 4)) / (n + z2)
    centre = (n * p + z2 / 2) / (n + z2)
    return recall + (100 - recall) * np.array([centre - half, p, centre + half])


# %% recall-by-cause
import re

import numpy as np


def recall_by_cause(captions, hits, causes):
    words, hits = [set(re.findall(r"\w+", caption.lower())) for caption in captions], hits.numpy()
    inside = {c: np.array([not some.isdisjoint(own) for own in words]) for c, some in causes.items()}
    inside["none"] = np.sum([np.zeros(len(words)), *inside.values()], axis=0) == 0
    return {c: (100 * np.mean(hits[some]), np.sum(some)) for c, some in inside.items() if np.any(some)}


# %% parameter-groups
def parameter_groups(model, rate, share):
    known = {id(p): p for p in model.pretrained.parameters()}
    groups = [{"params": [p for p in model.parameters() if id(p) not in known], "lr": rate}]
    if share:
        groups.append({"params": [*known.values()], "lr": share * rate})
    else:
        model.pretrained.eval()
        for p in known.values():
            p.requires_grad_(False)
    return groups
