# %% triplet-loop
def triplet_loop(scores, margin):
    total = 0.0
    for i in range(len(scores)):
        for j in range(len(scores)):
            if j == i:
                continue
            total += max(0.0, float(margin + scores[i, j] - scores[i, i]))
            total += max(0.0, float(margin + scores[j, i] - scores[i, i]))
    return total


# %% unique-batches
def unique_batches(image_of_caption, batch_size, rng):
    left = {}
    for caption in rng.permutation(len(image_of_caption)).tolist():
        left.setdefault(int(image_of_caption[caption]), []).append(caption)
    batches = []
    while left:
        images = list(left)
        rng.shuffle(images)
        batch = []
        for image in images:
            batch.append(left[image].pop())
            if not left[image]:
                del left[image]
            if len(batch) == batch_size:
                batches.append(batch)
                batch = []
        if batch:
            batches.append(batch)
    return batches


# %% triplet-hardest
import torch


def hardest_triplet(scores, margin, same_image):
    total = torch.zeros((), dtype=scores.dtype, device=scores.device)
    for i in range(len(scores)):
        worst_caption = worst_image = total * 0
        for j in range(len(scores)):
            if not same_image[i, j]:
                worst_caption = torch.maximum(worst_caption, margin + scores[i, j] - scores[i, i])
            if not same_image[j, i]:
                worst_image = torch.maximum(worst_image, margin + scores[j, i] - scores[i, i])
        total = total + worst_caption + worst_image
    return total


# %% training-loop
import torch


def training_loop(model, objective, batches_of, optimizer, schedule, epochs, validate):
    history = []
    for epoch in range(epochs):
        model.train()
        total, count = 0.0, 0
        for batch in batches_of(epoch):
            optimizer.zero_grad()
            loss = objective(model, batch, epoch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
            count += 1
        history.append(total / count)
        validate(epoch)
    return history


# %% warm-up
import torch


def warm_triplet(scores, margin, same_image, epoch, warmup_epochs):
    total = torch.zeros((), dtype=scores.dtype, device=scores.device)
    for i in range(len(scores)):
        for asked, same in ((scores[i], same_image[i]), (scores[:, i], same_image[:, i])):
            costs = [torch.relu(margin + asked[j] - scores[i, i]) for j in range(len(scores)) if not same[j]]
            if not costs:
                continue
            total = total + (sum(costs) if epoch < warmup_epochs else torch.stack(costs).max())
    return total / len(scores)


# %% info-nce
import torch


def nce(scores, temperature, same_image):
    losses = []
    for i in range(len(scores)):
        for asked, same in ((scores[i], same_image[i]), (scores[:, i], same_image[:, i])):
            logits = [asked[j] / temperature for j in range(len(scores)) if j == i or not same[j]]
            losses.append(torch.logsumexp(torch.stack(logits), dim=0) - scores[i, i] / temperature)
    return sum(losses) / len(losses)


# %% sorted-pool
import torch


def sorted_pool(tokens, mask, weights):
    pooled = []
    for b in range(len(tokens)):
        columns = []
        for d in range(tokens.shape[2]):
            values, _ = torch.sort(tokens[b, mask[b], d], descending=True)
            total = 0
            for k in range(len(values)):
                total = total + weights[b, k] * values[k]
            columns.append(total)
        pooled.append(torch.stack(columns))
    return torch.stack(pooled)


# %% twin-choices
def twin_choices(scores):
    points = 0
    for k in range(0, len(scores), 2):
        for own, twin in ((k, k + 1), (k + 1, k)):
            if scores[own, own] > scores[twin, own]:
                points += 1
            elif scores[own, own] == scores[twin, own]:
                points += 0.5
    return 100 * points / len(scores)
