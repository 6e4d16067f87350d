# %% triplet-loop
import torch


def triplet_loop(scores, margin):
    size = len(scores)
    positive = torch.einsum("ii->i", scores)
    negative = ~torch.eye(size, dtype=torch.bool, device=scores.device)
    rows = torch.relu(margin + scores - positive[:, None])
    columns = torch.relu(margin + scores - positive[None, :])
    return torch.einsum("ij,ij->", rows + columns, negative.to(scores.dtype))


# %% unique-batches
import numpy as np


def unique_batches(image_of_caption, batch_size, rng):
    order = rng.permutation(len(image_of_caption))
    earlier = np.zeros(len(order), dtype=int)
    seen = np.zeros(np.max(image_of_caption) + 1, dtype=int)
    for place, caption in enumerate(order):
        earlier[place] = seen[image_of_caption[caption]]
        seen[image_of_caption[caption]] += 1
    batches = []
    for turn in range(earlier.max() + 1):
        captions = rng.permutation(order[earlier == turn])
        batches += np.array_split(captions, -(-len(captions) // batch_size))
    return batches


# %% triplet-hardest
import torch


def hardest_triplet(scores, margin, same_image):
    positive = torch.einsum("ii->i", scores)
    others = torch.where(same_image, -torch.inf, scores)
    worst = torch.stack([others.max(dim=1).values, others.max(dim=0).values])
    return torch.einsum("di->", torch.relu(margin + worst - positive))


# %% training-loop
from torch.nn.utils import clip_grad_norm_


def training_loop(model, objective, batches_of, optimizer, schedule, epochs, validate):
    def step(batch, epoch):
        loss = objective(model, batch, epoch)
        loss.backward()
        clip_grad_norm_(model.parameters(), max_norm=2.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        return float(loss.detach())

    means = []
    for epoch in range(epochs):
        model.train()
        losses = [step(batch, epoch) for batch in batches_of(epoch)]
        validate(epoch)
        means.append(sum(losses) / len(losses))
    return means


# %% warm-up
import torch


def warm_triplet(scores, margin, same_image, epoch, warmup_epochs):
    positive = torch.einsum("ii->i", scores)
    costs = torch.stack([scores, scores.T]) - positive[None, :, None] + margin
    costs = torch.where(torch.stack([same_image, same_image.T]), 0.0, torch.relu(costs))
    kept = costs.sum(dim=-1) if epoch < warmup_epochs else costs.amax(dim=-1)
    return torch.einsum("di->", kept) / scores.shape[0]


# %% info-nce
import torch
import torch.nn.functional as F


def nce(scores, temperature, same_image):
    target = torch.arange(len(scores), device=scores.device)
    left_out = same_image.clone()
    left_out[target, target] = False
    logits = torch.where(left_out, -torch.inf, scores / temperature)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.mT, target))


# %% sorted-pool
import torch


def sorted_pool(tokens, mask, weights):
    filled = torch.where(mask[..., None], tokens, -torch.inf)
    ordered = filled.sort(dim=1, descending=True)[0]
    size = mask.sum(dim=1, keepdim=True)
    beyond = torch.arange(mask.shape[1], device=mask.device)[None] >= size
    ordered = torch.where(beyond[..., None], 0.0, ordered)
    return torch.einsum("bk,bkd->bd", weights.to(tokens.dtype), ordered)


# %% twin-choices
import torch


def twin_choices(scores):
    blocks = torch.stack([scores[k : k + 2, k : k + 2] for k in range(0, len(scores), 2)])
    own = torch.einsum("kii->ki", blocks)
    twin = torch.einsum("kii->ki", blocks.flip(1))
    return ((own > twin).double() + 0.5 * (own == twin).double()).mean() * 100
