"""Appendix 05a in plain loops."""

# %% structure-agreement
import torch


def agreement(V, T):
    size = len(V)
    gap = 0.0
    for j in range(size):
        gap += max(abs(float(T[i, j]) - float(V[i, j])) for i in range(size)) / size
    pairs = [(float(V[i, j]), float(T[i, j])) for i in range(size) for j in range(i + 1, size)]
    mean_v = sum(v for v, _ in pairs) / len(pairs)
    mean_t = sum(t for _, t in pairs) / len(pairs)
    together = sum((v - mean_v) * (t - mean_t) for v, t in pairs)
    spread_v = sum((v - mean_v) ** 2 for v, _ in pairs)
    spread_t = sum((t - mean_t) ** 2 for _, t in pairs)
    r = together / (spread_v * spread_t) ** 0.5 if min(spread_v, spread_t) > 1e-9 else 0.0
    return torch.tensor([gap, r])


# %% local-weight
def choose_weight(weights, global_scores, local_scores, truth):
    best, chosen = -1, None
    for weight in sorted(weights):
        found = 0
        for whole, local, own in zip(global_scores.tolist(), local_scores.tolist(), truth.tolist()):
            scores = [x + weight * y for x, y in zip(whole, local)]
            others = scores[:own] + scores[own + 1 :]
            if all(scores[own] > score for score in others):
                found += 1
        if found > best:
            best, chosen = found, weight
    return chosen
