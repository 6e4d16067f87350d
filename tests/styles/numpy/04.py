# %% unified-loss
import torch


def uto_loss(scores, mu, gamma, same_image, floor):
    # gradients are asked for, so torch, with numpy's way of saying it
    exponents = mu * (scores - gamma)
    exponents[same_image] = -torch.inf
    zeros = torch.zeros((len(scores), 1), dtype=scores.dtype, device=scores.device)
    rows = torch.hstack([zeros, exponents]).logsumexp(1)
    columns = torch.vstack([zeros.T, exponents]).logsumexp(0)
    own = torch.diag(scores).clip(floor, None)
    return ((rows + columns) / mu - torch.log(1 + own)).mean()


# %% unified-weights
import numpy as np


def uto_weights(scores, mu, gamma, same_image):
    exponents = np.where(same_image.cpu().numpy(), -np.inf, mu * (scores.cpu().numpy() - gamma))
    top = np.maximum(exponents.max(axis=1, keepdims=True), 0)
    grown = np.exp(exponents - top)
    return grown / (np.exp(-top) + grown.sum(axis=1, keepdims=True))


# %% ring-buffer
import numpy as np
import torch


class RingBuffer:
    def __init__(self, size, dim):
        self.size = size
        self.stored = np.zeros((size, dim), dtype=np.float32)
        self.owners = np.full(size, -1)
        self.came = 0

    def enqueue(self, keys, ids):
        new = min(len(keys), self.size)
        self.came += len(keys)
        places = np.arange(self.came - new, self.came) % self.size
        self.stored[places] = keys.detach().cpu().numpy()[len(keys) - new :]
        self.owners[places] = ids.cpu().numpy()[len(ids) - new :]

    def oldest_first(self):
        return np.arange(max(0, self.came - self.size), self.came) % self.size

    def keys(self):
        return torch.from_numpy(self.stored[self.oldest_first()])

    def ids(self):
        return torch.from_numpy(self.owners[self.oldest_first()])


# %% momentum-step
import numpy as np
import torch


def momentum_step(target, source, momentum):
    with torch.no_grad():
        for k, q in zip(target.parameters(), source.parameters()):
            k.copy_(torch.from_numpy(np.asarray(momentum * k.cpu().numpy() + (1 - momentum) * q.cpu().numpy())))
        for k, q in zip(target.buffers(), source.buffers()):
            k.copy_(torch.from_numpy(np.array(q.cpu().numpy())))


# %% choose-momentum
import numpy as np


def choose_momentum(momenta, recalls, kept, share):
    momenta, recalls, kept = np.asarray(momenta), np.asarray(recalls), np.asarray(kept)
    enough = np.flatnonzero(recalls >= share * recalls.max())
    return momenta[enough[np.argmax(kept[enough])]]


# %% queue-loss
import torch


def queue_loss(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    # gradients are asked for, so torch
    exponents = mu * (queries @ queue_keys.T - gamma)
    exponents = exponents - 1e9 * (image_ids.reshape(-1, 1) == queue_ids.reshape(1, -1))
    exponents = torch.hstack([0 * queries[:, :1], exponents])
    own = torch.diag(queries @ positive_keys.T).clip(floor, None)
    return torch.mean(torch.logsumexp(exponents, 1) / mu - torch.log(1 + own))


# %% false-negatives
import numpy as np


def false_negatives(batches, size):
    came, met = np.zeros(0, dtype=int), []
    for batch in batches:
        if len(came) >= size:
            met.append(np.isin(batch.numpy(), came[-size:]))
        came = np.concatenate([came, batch.numpy()])
    return 100 * np.mean(np.concatenate(met)) if met else 0.0
