"""Answers to the exercises of appendix 05a: right ones, and wrong ones with what each is told."""

from __future__ import annotations

import numpy as np
import torch


def agreement_in_numpy(V, T):
    v, t = V.numpy(), T.numpy()
    above = np.triu_indices(len(v), 1)
    flat = min(np.ptp(v[above]), np.ptp(t[above])) < 1e-6
    r = 0.0 if flat else np.corrcoef(v[above], t[above])[0, 1]
    return np.array([np.abs(t - v).max(axis=0).mean(), r])


def agreement_in_loops(V, T):
    size = len(V)
    gap = sum(max(abs(float(T[i, j] - V[i, j])) for i in range(size)) for j in range(size)) / size
    x = torch.stack([V[i, j] for i in range(size) for j in range(i)])
    y = torch.stack([T[i, j] for i in range(size) for j in range(i)])
    x, y = x - x.mean(), y - y.mean()
    length = float(x.norm() * y.norm())
    return [gap, float(x @ y) / length if length > 1e-9 else 0.0]


def weight_in_numpy(weights, global_scores, local_scores, truth):
    whole, local, own = (values.numpy() for values in (global_scores, local_scores, truth))
    found = {}
    for weight in sorted(weights):
        scores = whole + weight * local
        match = scores[np.arange(len(own)), own]
        found[weight] = np.sum((scores >= match[:, None]).sum(axis=1) == 1)
    return max(found, key=found.get)


def weight_in_loops(weights, global_scores, local_scores, truth):
    best, chosen = -1, None
    for weight in weights:
        found = 0
        for q in range(len(truth)):
            scores = global_scores[q] + weight * local_scores[q]
            others = [scores[n] for n in range(len(scores)) if n != truth[q]]
            found += all(scores[truth[q]] > other for other in others)
        if found > best or (found == best and weight < chosen):
            best, chosen = found, weight
    return chosen


ALSO_RIGHT = [
    ("structure-agreement", agreement_in_numpy),
    ("structure-agreement", agreement_in_loops),
    ("local-weight", weight_in_numpy),
    ("local-weight", weight_in_loops),
]


def _pairs(V, T, offset=1):
    return (matrix[torch.triu_indices(len(V), len(V), offset).unbind()] for matrix in (V, T))


def _pearson(x, y):
    x, y = x - x.mean(), y - y.mean()
    length = x.norm() * y.norm()
    return x @ y / length if length > 1e-9 else 0 * length


def _agreement(gap=lambda V, T: (T - V).abs().amax(0).mean(), r=lambda V, T: _pearson(*_pairs(V, T))):
    return lambda V, T: torch.stack([gap(V, T), r(V, T)])


def agreement_not_guarded(V, T):
    x, y = _pairs(V, T)
    x, y = x - x.mean(), y - y.mean()
    return torch.stack([(T - V).abs().amax(0).mean(), (x / x.norm()) @ (y / y.norm())])


def _weight(
    found=lambda scores, own: int(((scores >= own).sum(1) == 1).sum()), mix=lambda x, y, w: x + w * y, pick=None
):
    def choose(weights, global_scores, local_scores, truth):
        told = {}
        for weight in weights:
            scores = mix(global_scores, local_scores, weight)
            told[weight] = found(scores, scores.gather(1, truth[:, None]))
        if pick:
            return pick(told)
        return min(weight for weight, number in told.items() if number == max(told.values()))

    return choose


def weight_returns_inside(weights, global_scores, local_scores, truth):
    best, chosen = -1, None
    for weight in weights:
        scores = global_scores + weight * local_scores
        found = int(((scores >= scores.gather(1, truth[:, None])).sum(1) == 1).sum())
        if found > best:
            best, chosen = found, weight
        return chosen


def weight_by_argmax(weights, global_scores, local_scores, truth):
    hits = [((global_scores + w * local_scores).argmax(1) == truth).double().mean() for w in weights]
    best = max(hits)
    return min(w for w, hit in zip(weights, hits, strict=True) if hit == best)


def weight_adds_up(weights, global_scores, local_scores, truth):
    """The caller's matrix grows."""
    chosen = _weight()(weights, global_scores, local_scores, truth)
    global_scores += chosen * local_scores
    return chosen


WRONG = {
    "structure-agreement": [
        (_agreement(gap=lambda V, T: (T - V).abs().mean()), "gap is the mean over all i and j"),
        (_agreement(gap=lambda V, T: (T - V).abs().max()), "gap is the largest disagreement of all"),
        (_agreement(gap=lambda V, T: (T - V).abs().amax(0).sum()), "gap is the sum over j"),
        (_agreement(gap=lambda V, T: (T - V).amax(0).mean()), "the absolute value is missing"),
        (_agreement(gap=lambda V, T: (T - V).square().amax(0).mean()), "gap is squared"),
        (_agreement(gap=lambda V, T: (T - V).abs().triu(1).amax(0).mean()), "gap compares only i < j"),
        (_agreement(r=lambda V, T: _pearson(V.flatten(), T.flatten())), "correlation counts the diagonal"),
        (_agreement(r=lambda V, T: _pearson(*_pairs(V, T, 0))), "triu(1), not i <= j"),
        (_agreement(r=lambda V, T: _pearson(V.triu(1).flatten(), T.triu(1).flatten())), "zeros below the diagonal"),
        (_agreement(r=lambda V, T: _pearson(*_pairs(V, T)).abs()), "lost its sign"),
        (_agreement(r=lambda V, T: _pearson(*_pairs(V, T)) ** 2), "the correlation is squared"),
        (agreement_not_guarded, "0 / 0"),
        (lambda V, T: _agreement()(V, T).flip(0), "the two are exchanged"),
        (lambda V, T: _agreement()(V, T)[0], "this is the gap alone"),
    ],
    "local-weight": [
        (_weight(mix=lambda x, y, w: w * x + y), "the weight stands at the global score"),
        (_weight(mix=lambda x, y, w: (1 - w) * x + w * y), "shared out"),
        (_weight(mix=lambda x, y, w: w * y), "the global score is left out"),
        (_weight(found=lambda scores, own: int(((scores > own).sum(1) == 0).sum())), "a tie counts as found"),
        (_weight(found=lambda scores, own: float(own.mean())), "the mean score of the matches"),
        (_weight(pick=lambda told: max(told, key=told.get)), "the first in the list"),
        (_weight(pick=lambda told: max(w for w in told if told[w] == max(told.values()))), "this is the largest"),
        (_weight(pick=lambda told: max(told.values())), "the number of queries found"),
        (_weight(pick=lambda told: min(w for w in told if told[w] == min(told.values()))), "the lowest R@1"),
        (weight_returns_inside, "a return inside the loop"),
        (weight_by_argmax, "by the order of the candidates"),
        (weight_adds_up, "changes its input global_scores"),
    ],
}
