# %% cosine-scores
import numpy as np


def cosine_scores(images, captions):
    images, captions = np.asarray(images), np.asarray(captions)
    images = images / np.maximum(np.linalg.norm(images, axis=1, keepdims=True), 1e-8)
    captions = captions / np.maximum(np.linalg.norm(captions, axis=1, keepdims=True), 1e-8)
    return images @ captions.T


# %% caption-ranks
import numpy as np


def caption_ranks(scores, image_of_caption):
    scores, owner = np.asarray(scores), np.asarray(image_of_caption)
    own = owner[None, :] == np.arange(len(scores))[:, None]
    best = np.where(own, scores, -np.inf).max(axis=1, keepdims=True)
    return 1 + np.logical_and(scores >= best, ~own).sum(axis=1)


# %% image-ranks
import numpy as np


def image_ranks(scores, image_of_caption):
    scores, owner = np.asarray(scores), np.asarray(image_of_caption)
    return (scores >= scores[owner, np.arange(len(owner))]).sum(axis=0)


# %% recall-at-k
import numpy as np


def recall_at_k(ranks, k):
    return 100 * np.mean(np.asarray(ranks) <= k)


# %% chance-recall
import numpy as np


def chance_recall(images, captions_per_image, k):
    total = images * captions_per_image
    left = total - np.arange(min(k, total))
    return 100 * (1 - np.prod(np.maximum(left - captions_per_image, 0) / left))


# %% find-the-flaw
import numpy as np


def find_the_flaw(evaluate):
    def honest(scores, owner):
        true = scores[owner, np.arange(len(owner))]
        return 100 * np.mean((scores >= true).sum(axis=0) == 1)

    each, perfect = np.arange(20), np.eye(20)
    cases = [
        ("misses", -perfect, each),
        ("folds", perfect + 2 * np.roll(perfect, 9, axis=0), each),
        ("ties", np.zeros((20, 20)), each),
        ("one caption", np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]), np.array([0, 0, 1])),
    ]
    for flaw, scores, owner in cases:
        if not np.isclose(evaluate(scores, owner), honest(scores, owner)):
            return flaw
    return "none"


# %% ndcg
import numpy as np


def ndcg(scores, relevance, k):
    scores, relevance = np.asarray(scores), np.asarray(relevance)
    ranked = np.take_along_axis(relevance, np.argsort(-scores, axis=1), axis=1)[:, :k]
    best = -np.sort(-relevance, axis=1)[:, :k]
    discount = np.log2(np.arange(ranked.shape[1]) + 2)
    return np.mean((ranked / discount).sum(axis=1) / (best / discount).sum(axis=1))
