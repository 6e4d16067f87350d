# %% unified-loss
import torch


def one_side(scores, mu, gamma, same_image):
    zeros = torch.zeros_like(scores[:, :1])
    exponents = torch.where(same_image, -torch.inf, mu * (scores - gamma))
    return torch.logsumexp(torch.cat([zeros, exponents], dim=1), dim=1) / mu


def uto_loss(scores, mu, gamma, same_image, floor):
    own = torch.einsum("ii->i", scores)
    both = one_side(scores, mu, gamma, same_image)
    both = both + one_side(torch.einsum("ij->ji", scores), mu, gamma, torch.einsum("ij->ji", same_image))
    return (both - torch.log1p(torch.clamp(own, min=floor))).mean()


# %% unified-weights
import torch


def uto_weights(scores, mu, gamma, same_image):
    exponents = torch.where(same_image, -torch.inf, mu * (scores - gamma))
    top = torch.clamp(exponents.amax(dim=1), min=0)
    grown = torch.exp(exponents - top[:, None])
    below = torch.exp(-top) + torch.einsum("ij->i", grown)
    return torch.einsum("ij,i->ij", grown, 1 / below)


# %% ring-buffer
import torch


class RingBuffer:
    def __init__(self, size, dim):
        self.size = size
        self.stored = torch.zeros(size, dim)
        self.owners = torch.full((size,), -1)
        self.came = 0

    def enqueue(self, keys, ids):
        with torch.no_grad():
            numbers = torch.arange(self.came, self.came + len(keys))[-self.size :]
            self.stored.index_copy_(0, numbers % self.size, keys[-self.size :].detach())
            self.owners.index_copy_(0, numbers % self.size, ids[-self.size :])
        self.came += len(keys)

    def oldest_first(self):
        if self.came < self.size:
            return torch.arange(self.came)
        return torch.roll(torch.arange(self.size), -(self.came % self.size))

    def keys(self):
        return self.stored[self.oldest_first()]

    def ids(self):
        return self.owners[self.oldest_first()]


# %% momentum-step
import torch


@torch.no_grad()
def momentum_step(target, source, momentum):
    for k, q in zip(target.parameters(), source.parameters(), strict=True):
        k.mul_(momentum).add_(q, alpha=1 - momentum)
    for k, q in zip(target.buffers(), source.buffers(), strict=True):
        k.copy_(q)


# %% choose-momentum
import torch


def choose_momentum(momenta, recalls, kept, share):
    enough = recalls >= share * recalls.max()
    return momenta[torch.where(enough, kept, -torch.inf).argmax()]


# %% queue-loss
import torch


def queue_loss(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    scores = torch.einsum("bd,kd->bk", queries, queue_keys)
    exponents = torch.where(image_ids[:, None] == queue_ids[None], -torch.inf, mu * (scores - gamma))
    zeros = torch.zeros_like(queries[:, :1])
    negatives = torch.logsumexp(torch.cat([exponents, zeros], dim=1), dim=1) / mu
    positives = torch.einsum("bd,bd->b", queries, positive_keys)
    return (negatives - torch.log1p(torch.clamp(positives, min=floor))).mean()


# %% false-negatives
import torch


def false_negatives(batches, size):
    came, met = torch.zeros(0, dtype=torch.long), []
    for batch in batches:
        if len(came) >= size:
            own = batch[:, None] == came[None, -size:]
            met.append((torch.einsum("bk->b", own.int()) > 0).float())
        came = torch.cat([came, batch])
    return 100 * torch.cat(met).mean() if met else 0.0
