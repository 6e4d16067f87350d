"""Answers to the exercises of appendix 05a: right ones, and wrong ones with what each is told."""

from __future__ import annotations

import math

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


def agreement_one_mean(V, T):
    gap = (T - V).abs().amax(0).mean()
    v, t = V.flatten() - V.mean(), T.flatten() - V.mean()
    n = v.norm() * t.norm()
    return torch.stack([gap, (v @ t) / n if n > 1e-9 else torch.zeros(())])


def agreement_by_rows_less_margin(V, T):
    gap = torch.relu((T - V).abs().amax(0) - 0.3).mean()
    v = V - V.mean(1, keepdim=True)
    t = T - T.mean(1, keepdim=True)
    r = (v * t).sum(1) / (v.norm(dim=1) * t.norm(dim=1)).clamp(min=1e-9)
    return torch.stack([gap, r.mean()])


def agreement_held_down(V, T):
    gap = (T - V).abs().amax(0).mean()
    i, j = torch.triu_indices(len(V), len(V), 1)
    v, t = V[i, j] - V[i, j].mean(), T[i, j] - T[i, j].mean()
    return torch.stack([gap, (v @ t) / (v.norm() * t.norm() + 1e-2)])


def agreement_divided_otherwise(V, T):
    gap = (T - V).abs().amax(0).mean()
    i, j = torch.triu_indices(len(V), len(V), 1)
    v, t = V[i, j], T[i, j]
    if v.std() < 1e-6 or t.std() < 1e-6:
        return torch.stack([gap, torch.zeros(())])
    return torch.stack([gap, ((v - v.mean()) * (t - t.mean())).mean() / (v.std() * t.std())])


def agreement_means_exchanged(V, T):
    gap = (T - V).abs().amax(0).mean()
    i, j = torch.triu_indices(len(V), len(V), 1)
    v, t = V[i, j] - T[i, j].mean(), T[i, j] - V[i, j].mean()
    n = v.norm() * t.norm()
    return torch.stack([gap, (v @ t) / n if n > 1e-9 else torch.zeros(())])


def weight_recall_in_percent(weights, global_scores, local_scores, truth):
    best = -1
    for w in sorted(weights):
        s = global_scores + w * local_scores
        own = s.gather(1, truth[:, None])
        best = max(best, int(((s >= own).sum(1) == 1).sum()))
    return 100 * best / len(truth)


def weight_at_once(weights, global_scores, local_scores, truth):
    best, chosen = -1, None
    for w in sorted(weights):
        s = global_scores + w * local_scores
        own = s.gather(1, truth[:, None])
        n = int(((s >= own).sum(1) == 1).sum())
        if n > best:
            best, chosen = n, w
        return chosen


def weight_by_columns(weights, global_scores, local_scores, truth):
    best, chosen = -1, None
    for w in sorted(weights, reverse=True):
        s = global_scores + w * local_scores
        n = int((s.argmax(0)[truth] == torch.arange(len(truth))).sum())
        if n > best:
            best, chosen = n, w
    return chosen


def weight_by_reciprocal(weights, global_scores, local_scores, truth):
    best, chosen = -1.0, None
    for w in sorted(weights):
        s = global_scores + w * local_scores
        rank = (s >= s.gather(1, truth[:, None])).sum(1)
        m = float((1 / rank).mean())
        if m > best:
            best, chosen = m, w
    return chosen


def weight_never_updated(weights, global_scores, local_scores, truth):
    best, chosen = -1, None
    for w in sorted(weights):
        s = global_scores + w * local_scores
        n = int(((s >= s.gather(1, truth[:, None])).sum(1) == 1).sum())
        if n > best:
            chosen = w
    return chosen


def weight_by_mean_rank(weights, global_scores, local_scores, truth):
    best, chosen = math.inf, None
    for w in sorted(weights):
        s = global_scores + w * local_scores
        r = float((s >= s.gather(1, truth[:, None])).sum(1).float().mean())
        if r < best:
            best, chosen = r, w
    return chosen


def agreement_guards_zero_alone(V, T):
    i, j = torch.triu_indices(len(V), len(V), 1)
    v, t = V[i, j] - V[i, j].mean(), T[i, j] - T[i, j].mean()
    flat = v.norm() == 0 or t.norm() == 0
    c = torch.zeros(()) if flat else v @ t / (v.norm() * t.norm())
    return torch.stack([(T - V).abs().amax(0).mean(), c])


def weight_from_0_hits(weights, global_scores, local_scores, truth):
    best, chosen = 0, None
    for w in sorted(weights):
        s = global_scores + w * local_scores
        own = s.gather(1, truth[:, None])
        found = int(((s >= own).sum(1) == 1).sum())
        if found > best:
            best, chosen = found, w
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
        (agreement_one_mean, "both from the mean of V"),
        (agreement_by_rows_less_margin, "the mean of the rows' correlations"),
        (agreement_held_down, "0.01 is added to the denominator"),
        (agreement_divided_otherwise, "by n above and by n - 1 below"),
        (agreement_means_exchanged, "subtracts each other's mean"),
        (agreement_guards_zero_alone, "which == 0 does not see"),
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
        (weight_recall_in_percent, "the highest R@1, in percent"),
        (weight_at_once, "this is the smallest weight"),
        (weight_by_columns, "the rows and columns are exchanged"),
        (weight_by_reciprocal, "the mean of 1 / rank decides"),
        (weight_never_updated, "is the best so far kept"),
        (weight_by_mean_rank, "the mean rank decides"),
        (weight_from_0_hits, "where no weight finds anything, none is chosen"),
    ],
}
