"""Lesson 05 in plain loops."""

# %% two-stage-search
import torch


def two_stage_search(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    whole_scores = []
    for n in range(len(wholes)):
        whole_scores.append(float(wholes[n] @ query_whole))
    order = sorted(range(len(wholes)), key=lambda n: whole_scores[n], reverse=True)
    final = {}
    for n in order[:shortlist]:
        local = 0.0
        for word in query_words:
            best = -float("inf")
            for region, real in zip(regions[n], mask[n]):
                if real and float(region @ word) > best:
                    best = float(region @ word)
            local += best
        final[n] = whole_scores[n] + local_weight * local
    first = sorted(final, key=lambda n: final[n], reverse=True)
    return torch.tensor(first + order[shortlist:])


# %% honest-rank
import torch


def two_stage_ranks(global_scores, local_scores, truth, shortlist, local_weight):
    ranks = []
    for whole, local, own in zip(global_scores.tolist(), local_scores.tolist(), truth.tolist()):
        order = sorted(range(len(whole)), key=lambda n: whole[n], reverse=True)
        final = sorted(order[:shortlist], key=lambda n: whole[n] + local_weight * local[n], reverse=True)
        ranks.append((final + order[shortlist:]).index(own) + 1)
    return torch.tensor(ranks)


# %% token-guidance
import torch


def global_vectors(tokens, mask, on_top, detach):
    if detach:
        tokens = tokens.detach()
    out = on_top(tokens, src_key_padding_mask=~mask)
    rows = []
    for sequence in out:
        first = sequence[0]
        rows.append(first / (first * first).sum().sqrt())
    return torch.stack(rows)


# %% cmc
import torch


def cmc(images, captions, pair_loss, margin):
    images = torch.stack([row / row.norm() for row in images])
    captions = torch.stack([row / row.norm() for row in captions])
    total = pair_loss(images @ captions.T)
    for j in range(len(images)):
        worst = torch.zeros_like(total)
        for i in range(len(images)):
            gap = (captions[i] @ captions[j] - images[i] @ images[j]).abs()
            if gap > worst:
                worst = gap
        if worst > margin:
            total = total + worst - margin
    return total


# %% choose-k
def choose_k(lengths, recall, milliseconds, candidates, budget, tolerated):
    best = None
    for length, found, cost in zip(lengths, recall, milliseconds):
        if length <= candidates and cost <= budget and (best is None or found > best):
            best = found
    chosen = 0
    for length, found, cost in zip(lengths, recall, milliseconds):
        near = length <= candidates and cost <= budget and found >= best - tolerated
        if near and (chosen == 0 or length < chosen):
            chosen = length
    return chosen


# %% pareto-front
def pareto_front(cost, recall):
    kept = []
    for i in range(len(cost)):
        beaten = False
        for j in range(len(cost)):
            no_worse = cost[j] <= cost[i] and recall[j] >= recall[i]
            if no_worse and (cost[j] < cost[i] or recall[j] > recall[i]):
                beaten = True
        kept.append(not beaten)
    return kept
