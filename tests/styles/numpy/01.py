# %% triplet-loop
import numpy as np


def triplet_loop(scores, margin):
    table = np.asarray(scores)
    positive = np.diag(table)
    costs = np.maximum(0, margin + table - positive[:, None])
    costs = costs + np.maximum(0, margin + table - positive[None, :])
    np.fill_diagonal(costs, 0)
    return costs.sum()


# %% unique-batches
import numpy as np


def unique_batches(image_of_caption, batch_size, rng):
    owner = np.asarray(image_of_caption)
    order = rng.permutation(len(owner))
    by_image = order[np.argsort(owner[order], kind="stable")]
    first = np.r_[True, np.diff(owner[by_image]) != 0]
    starts = np.flatnonzero(first)
    turn = np.arange(len(owner)) - starts[np.cumsum(first) - 1]
    batches = []
    for t in np.unique(turn):
        captions = rng.permutation(by_image[turn == t])
        batches.extend(captions[s : s + batch_size] for s in range(0, len(captions), batch_size))
    return batches


# %% triplet-hardest
import torch


def hardest_triplet(scores, margin, same_image):
    # a gradient is asked for, so torch in numpy's manner
    rows = torch.arange(len(scores), device=scores.device)
    others = scores.detach().clone()
    others[same_image] = -torch.inf
    caption, image = others.argmax(1), others.argmax(0)
    own = scores[rows, rows]
    costs = torch.stack([scores[rows, caption] - own, scores[image, rows] - own]) + margin
    alone = torch.stack([same_image.all(1), same_image.all(0)])
    return costs.clip(0)[~alone].sum()


# %% training-loop
import numpy as np
import torch


def training_loop(model, objective, batches_of, optimizer, schedule, epochs, validate):
    means = np.zeros(epochs)
    for epoch in range(epochs):
        losses = []
        model.train(True)
        for batch in batches_of(epoch):
            model.zero_grad()
            loss = objective(model, batch, epoch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.detach().cpu().numpy())
        means[epoch] = np.mean(losses)
        validate(epoch)
    return means


# %% warm-up
import torch


def warm_triplet(scores, margin, same_image, epoch, warmup_epochs):
    own = scores.diagonal()
    rows = (margin + scores - own.reshape(-1, 1)).clip(0) * ~same_image
    columns = (margin + scores - own.reshape(1, -1)).clip(0) * ~same_image
    if epoch < warmup_epochs:
        return (rows + columns).sum() / len(scores)
    return (rows.max(1).values + columns.max(0).values).mean()


# %% info-nce
import torch


def nce(scores, temperature, same_image):
    logits = scores / temperature
    left_out = same_image ^ torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    total = 0
    for table, gone in ((logits, left_out), (logits.T, left_out.T)):
        table = table - 1e9 * gone
        top = table.max(1, keepdim=True).values.detach()
        total = total + (torch.log(torch.exp(table - top).sum(1)) + top[:, 0] - logits.diagonal()).mean()
    return total / 2


# %% sorted-pool
import torch


def sorted_pool(tokens, mask, weights):
    filled = tokens + torch.where(mask, 0.0, 1e9).to(tokens.dtype)[..., None] * -1
    ordered = -torch.sort(-filled, 1).values
    counted = torch.where(weights[..., None] != 0, ordered, torch.zeros_like(ordered))
    return (weights[..., None] * counted).sum(1)


# %% twin-choices
import numpy as np


def twin_choices(scores):
    table = np.asarray(scores)
    j = np.arange(len(table))
    own, twin = table[j, j], table[j ^ 1, j]
    return 100 * np.mean((own > twin) + 0.5 * (own == twin))
