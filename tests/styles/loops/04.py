# %% unified-loss
import torch


def uto_loss(scores, mu, gamma, same_image, floor):
    total = 0
    for i in range(len(scores)):
        for row, belongs in ((scores[i], same_image[i]), (scores[:, i], same_image[:, i])):
            exponents = [torch.zeros_like(scores[0, 0])]
            for j in range(len(scores)):
                if not belongs[j]:
                    exponents.append(mu * (row[j] - gamma))
            total = total + torch.stack(exponents).logsumexp(0) / mu
        total = total - torch.log(1 + torch.clamp(scores[i, i], min=floor))
    return total / len(scores)


# %% unified-weights
import math

import torch


def uto_weights(scores, mu, gamma, same_image):
    weights = torch.zeros_like(scores)
    for i in range(len(scores)):
        exponents = []
        for j in range(len(scores)):
            exponents.append(-math.inf if same_image[i, j] else mu * (scores[i, j].item() - gamma))
        top = max(0.0, max(exponents))
        total = math.exp(-top)
        for x in exponents:
            total += math.exp(x - top)
        for j, x in enumerate(exponents):
            weights[i, j] = math.exp(x - top) / total
    return weights


# %% ring-buffer
import torch


class RingBuffer:
    def __init__(self, size, dim):
        self.size = size
        self.stored = torch.zeros(size, dim)
        self.owners = torch.full((size,), -1)
        self.came = 0

    def enqueue(self, keys, ids):
        for key, owner in zip(keys, ids):
            place = self.came % self.size
            self.stored[place] = key.detach()
            self.owners[place] = owner
            self.came += 1

    def oldest_first(self):
        places = []
        number = max(0, self.came - self.size)
        while number < self.came:
            places.append(number % self.size)
            number += 1
        return torch.tensor(places, dtype=torch.long)

    def keys(self):
        return self.stored[self.oldest_first()]

    def ids(self):
        return self.owners[self.oldest_first()]


# %% momentum-step
import torch


def momentum_step(target, source, momentum):
    leaders = dict(source.named_parameters())
    for name, weight in target.named_parameters():
        weight.data.mul_(momentum)
        weight.data.add_((1 - momentum) * leaders[name].data)
    for mine, other in zip(target.buffers(), source.buffers()):
        mine.copy_(other)


# %% choose-momentum
def choose_momentum(momenta, recalls, kept, share):
    highest = 0
    for recall in recalls:
        highest = max(highest, recall.item())
    best = None
    for place in range(len(momenta)):
        if recalls[place] < share * highest:
            continue
        if best is None or kept[place] > kept[best]:
            best = place
    return momenta[best].item()


# %% queue-loss
import torch


def queue_loss(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    terms = []
    for i in range(len(queries)):
        others = queue_keys[queue_ids != image_ids[i]]
        exponents = torch.cat([torch.zeros_like(queries[0, :1]), mu * (others @ queries[i] - gamma)])
        positive = torch.clamp(queries[i] @ positive_keys[i], min=floor)
        terms.append(exponents.logsumexp(0) / mu - torch.log1p(positive))
    return sum(terms) / len(terms)


# %% false-negatives
from collections import deque


def false_negatives(batches, size):
    queue, hits, asked = deque(maxlen=size), 0, 0
    for batch in batches:
        images = [int(image) for image in batch]
        if len(queue) == size:
            for image in images:
                asked += 1
                if image in queue:
                    hits += 1
        for image in images:
            queue.append(image)
    if asked == 0:
        return 0
    return 100 * hits / asked
