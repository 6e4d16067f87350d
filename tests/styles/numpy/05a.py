"""Appendix 05a in numpy."""

# %% structure-agreement
import numpy as np


def agreement(V, T):
    V, T = V.numpy(), T.numpy()
    above = np.triu_indices(len(V), 1)
    v, t = V[above] - V[above].mean(), T[above] - T[above].mean()
    length = np.linalg.norm(v) * np.linalg.norm(t)
    r = v @ t / length if length > 1e-9 else 0.0
    return np.array([np.abs(T - V).max(axis=0).mean(), r])


# %% local-weight
import numpy as np


def choose_weight(weights, global_scores, local_scores, truth):
    whole, local, own = global_scores.numpy(), local_scores.numpy(), truth.numpy()
    weights, found = np.sort(weights), []
    for weight in weights:
        scores = whole + weight * local
        match = scores[np.arange(len(own)), own][:, None]
        found.append(np.sum(np.sum(scores >= match, axis=1) == 1))
    return weights[np.argmax(found)]
