"""Answers to the exercises of lesson 05: right ones, other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from itr_lib.encoders.tokens import GlobalTokens
from itr_lib.evaluation.two_stage import two_stage_ranks
from itr_lib.search import TwoStageIndex
from itr_lib.similarity import alignment_scores, cosine_scores, l2_normalise

# --- right -----------------------------------------------------------------------------------------------------------


def guidance_right(tokens, mask, on_top, detach):
    """As TGDT reads it; its own shortcut for the first token looks into torch's layers, which the stand-in has not."""
    tokens = tokens.detach() if detach else tokens
    return l2_normalise(on_top(tokens, src_key_padding_mask=~mask)[:, 0])


def search_right(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    """The index refuses NaN, so what lies outside the shortlist becomes 0 here."""
    index = TwoStageIndex("images")
    index.add([str(n) for n in range(len(wholes))], GlobalTokens(wholes, torch.nan_to_num(regions), mask))
    real = torch.ones(1, len(query_words), dtype=torch.bool)
    query = GlobalTokens(query_whole[None], query_words[None], real)
    return index.query(query, shortlist=shortlist, top=len(wholes), local_weight=local_weight).rows[0]


def ranks_right(global_scores, local_scores, truth, shortlist, local_weight):
    return torch.from_numpy(two_stage_ranks(global_scores, local_scores, truth[:, None], shortlist, local_weight))


def pareto_right(cost, recall):
    no_worse = (cost[:, None] <= cost) & (recall[:, None] >= recall)
    better = (cost[:, None] < cost) | (recall[:, None] > recall)
    return ~(no_worse & better).any(dim=0)


def guidance_plainly(tokens, mask, on_top, detach):
    if detach:
        tokens = tokens.detach()
    out = on_top(tokens, src_key_padding_mask=~mask)
    return F.normalize(out[:, 0], dim=-1)


def guidance_all_lengths(tokens, mask, on_top, detach):
    out = on_top(tokens.detach() if detach else tokens, None, mask.logical_not())
    return (out / out.norm(dim=2, keepdim=True).clamp(min=1e-8))[:, 0]


def cmc_plainly(images, captions, pair_loss, margin):
    """Rows say what columns say, and a hinge before the max what one after it says."""
    v, t = F.normalize(images, dim=1), F.normalize(captions, dim=1)
    intra = F.relu((v @ v.T - t @ t.T).abs() - margin).max(dim=1).values.sum()
    return pair_loss(v @ t.T) + intra


def cmc_without_diagonal(images, captions, pair_loss, margin):
    """With an epsilon, in einsum, and without the diagonal, where nothing disagrees."""
    v, t = (side / (side.norm(dim=1, keepdim=True) + 1e-8) for side in (images, captions))
    gap = (torch.einsum("id,jd->ij", t, t) - torch.einsum("id,jd->ij", v, v)).abs()
    gap = gap.masked_fill(torch.eye(len(v), dtype=torch.bool, device=v.device), -torch.inf)
    return pair_loss(torch.einsum("id,jd->ij", v, t)) + torch.clamp(gap.amax(0) - margin, min=0).sum()


def cmc_in_loops(images, captions, pair_loss, margin):
    total = pair_loss(cosine_scores(images, captions)).reshape(1)
    for j in range(len(images)):
        worst = torch.zeros(1, dtype=images.dtype, device=images.device)
        for i in range(len(images)):
            V = F.cosine_similarity(images[i], images[j], dim=0)
            T = F.cosine_similarity(captions[i], captions[j], dim=0)
            worst = torch.maximum(worst, (T - V).abs())
        total = total + torch.clamp(worst - margin, min=0)
    return total


def search_plainly(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    scores = wholes @ query_whole
    order = scores.argsort(descending=True)
    first, others = order[:shortlist], order[shortlist:]
    cosines = torch.einsum("nre,we->nrw", regions[first], query_words)
    local = cosines.masked_fill(~mask[first][:, :, None], -torch.inf).amax(dim=1).sum(dim=1)
    final = scores[first] + local_weight * local
    return torch.cat([first[final.argsort(descending=True)], others])


def search_in_loops(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    scores = {n: float(whole @ query_whole) for n, whole in enumerate(wholes)}
    order = sorted(scores, key=scores.get, reverse=True)
    for n in order[:shortlist]:
        local = (regions[n][mask[n]] @ query_words.T).max(dim=0).values.sum()
        scores[n] += 1000 + local_weight * local.item()
    return torch.tensor(sorted(scores, key=scores.get, reverse=True))


def search_by_the_engine(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    scores = F.linear(wholes, query_whole[None])[:, 0]
    rows = scores.topk(min(shortlist, len(scores))).indices
    local = alignment_scores(regions.index_select(0, rows), query_words[None], region_mask=mask[rows])[:, 0]
    rows = rows[(scores[rows] + local_weight * local).sort(descending=True).indices]
    rest = torch.tensor([n for n in scores.sort(descending=True).indices.tolist() if n not in rows.tolist()])
    return torch.cat([rows, rest.long().to(rows.device)])


def ranks_in_loops(global_scores, local_scores, truth, shortlist, local_weight):
    ranks = torch.zeros(len(truth), dtype=torch.long)
    for q, own in enumerate(truth):
        order = global_scores[q].argsort(descending=True)
        first = order[:shortlist]
        final = global_scores[q, first] + local_weight * local_scores[q, first]
        order = torch.cat([first[final.argsort(descending=True)], order[shortlist:]])
        ranks[q] = (order == own).nonzero().item() + 1
    return ranks


def ranks_by_lifting(global_scores, local_scores, truth, shortlist, local_weight):
    """The shortlist is lifted above all the others, then one sort; as floats."""
    places = global_scores.argsort(1, descending=True).argsort(1)
    lifted = torch.where(places < shortlist, 1e3 + global_scores + local_weight * local_scores, global_scores)
    return 1.0 + (lifted > lifted.gather(1, truth[:, None])).sum(1)


def pareto_in_loops(cost, recall):
    kept = torch.ones(len(cost), dtype=torch.bool)
    for i in range(len(cost)):
        for j in range(len(cost)):
            no_worse = cost[j] <= cost[i] and recall[j] >= recall[i]
            if no_worse and (cost[j] < cost[i] or recall[j] > recall[i]):
                kept[i] = False
    return kept


def pareto_by_cost(cost, recall):
    """Once through the methods by cost, the best recall first among those of one cost."""
    kept, best = torch.zeros(len(cost)).bool(), (np.inf, -np.inf)
    for i in sorted(range(len(cost)), key=lambda n: (float(cost[n]), -float(recall[n]))):
        if recall[i] > best[1] or (cost[i], recall[i]) == best:
            kept[i], best = True, (cost[i], recall[i])
    return kept


def choose_by_sorting(lengths, recall, milliseconds, candidates, budget, tolerated):
    allowed = sorted(
        (k, r) for k, r, ms in zip(lengths, recall, milliseconds, strict=True) if k <= candidates and ms <= budget
    )
    enough = max((r for _, r in allowed), default=0) - tolerated
    for k, r in allowed:
        if r >= enough:
            return k
    return 0


def choose_in_numpy(lengths, recall, milliseconds, candidates, budget, tolerated):
    lengths, recall, milliseconds = map(np.array, (lengths, recall, milliseconds))
    allowed = (lengths <= candidates) & (milliseconds <= budget)
    if not allowed.any():
        return 0
    return lengths[allowed & (recall >= recall[allowed].max() - tolerated)].min()


ALSO_RIGHT = [
    ("token-guidance", guidance_right),
    ("token-guidance", guidance_plainly),
    ("token-guidance", guidance_all_lengths),
    ("cmc", cmc_plainly),
    ("cmc", cmc_without_diagonal),
    ("cmc", cmc_in_loops),
    ("two-stage-search", search_right),
    ("two-stage-search", search_plainly),
    ("two-stage-search", search_in_loops),
    ("two-stage-search", search_by_the_engine),
    ("two-stage-search", lambda **inputs: search_plainly(**inputs).tolist()),
    ("honest-rank", ranks_right),
    ("honest-rank", ranks_in_loops),
    ("honest-rank", ranks_by_lifting),
    ("pareto-front", pareto_right),
    ("pareto-front", pareto_in_loops),
    ("pareto-front", pareto_by_cost),
    ("pareto-front", lambda cost, recall: pareto_in_loops(cost, recall).tolist()),
    ("choose-k", choose_by_sorting),
    ("choose-k", choose_in_numpy),
]

# --- wrong: token-guidance -------------------------------------------------------------------------------------------


def guidance_without_mask(tokens, mask, on_top, detach):
    return F.normalize(on_top(tokens.detach() if detach else tokens)[:, 0], dim=-1)


def guidance_mask_as_it_is(tokens, mask, on_top, detach):
    return F.normalize(on_top(tokens.detach() if detach else tokens, src_key_padding_mask=mask)[:, 0], dim=-1)


def guidance_positional_mask(tokens, mask, on_top, detach):
    return F.normalize(on_top(tokens.detach() if detach else tokens, ~mask)[:, 0], dim=-1)


def guidance_zeroed(tokens, mask, on_top, detach):
    tokens = tokens.masked_fill(~mask[..., None], 0)
    return F.normalize(on_top(tokens.detach() if detach else tokens)[:, 0], dim=-1)


def _out(tokens, mask, on_top, detach):
    return on_top(tokens.detach() if detach else tokens, src_key_padding_mask=~mask)


def guidance_mean(tokens, mask, on_top, detach):
    return F.normalize(_out(tokens, mask, on_top, detach).mean(dim=1), dim=-1)


def guidance_mean_of_real(tokens, mask, on_top, detach):
    out = _out(tokens, mask, on_top, detach).masked_fill(~mask[..., None], 0)
    return F.normalize(out.sum(dim=1) / mask.sum(dim=1)[:, None], dim=-1)


def guidance_last(tokens, mask, on_top, detach):
    return F.normalize(_out(tokens, mask, on_top, detach)[:, -1], dim=-1)


def guidance_first_sequence(tokens, mask, on_top, detach):
    return F.normalize(_out(tokens, mask, on_top, detach)[0], dim=-1)


def guidance_any_length(tokens, mask, on_top, detach):
    return _out(tokens, mask, on_top, detach)[:, 0]


def guidance_over_batch(tokens, mask, on_top, detach):
    return F.normalize(_out(tokens, mask, on_top, detach)[:, 0], dim=0)


def guidance_over_tokens(tokens, mask, on_top, detach):
    return F.normalize(_out(tokens, mask, on_top, detach))[:, 0]


def guidance_never_detaches(tokens, mask, on_top, detach):
    return guidance_plainly(tokens, mask, on_top, False)


def guidance_always_detaches(tokens, mask, on_top, detach):
    return guidance_plainly(tokens, mask, on_top, True)


def guidance_detaches_wrongly(tokens, mask, on_top, detach):
    return guidance_plainly(tokens, mask, on_top, not detach)


def guidance_output_detached(tokens, mask, on_top, detach):
    out = on_top(tokens, src_key_padding_mask=~mask)
    return F.normalize((out.detach() if detach else out)[:, 0], dim=-1)


def guidance_without_gradient(tokens, mask, on_top, detach):
    with torch.set_grad_enabled(not detach):
        return guidance_plainly(tokens, mask, on_top, False)


def guidance_raw_token(tokens, mask, on_top, detach):
    return F.normalize((tokens.detach() if detach else tokens)[:, 0], dim=-1)


def guidance_one_token(tokens, mask, on_top, detach):
    tokens = tokens.detach() if detach else tokens
    return F.normalize(on_top(tokens[:, :1], src_key_padding_mask=~mask[:, :1])[:, 0], dim=-1)


def guidance_all_tokens(tokens, mask, on_top, detach):
    return F.normalize(_out(tokens, mask, on_top, detach), dim=-1)


# --- wrong: cmc ------------------------------------------------------------------------------------------------------


def _cosines(images, captions, dim=1):
    v, t = F.normalize(images, dim=dim), F.normalize(captions, dim=dim)
    return v @ t.T, v @ v.T, t @ t.T


def _intra(V, T, margin):
    return ((T - V).abs().amax(dim=0) - margin).relu().sum()


def _cmc(intra):
    """The pairs are right; ``intra``: (S, V, T, margin) -> what is added."""

    def loss(images, captions, pair_loss, margin):
        S, V, T = _cosines(images, captions)
        return pair_loss(S) + intra(S, V, T, margin)

    return loss


def cmc_of_raw_vectors(images, captions, pair_loss, margin):
    return pair_loss(images @ captions.T) + _intra(images @ images.T, captions @ captions.T, margin)


def cmc_raw_pairs(images, captions, pair_loss, margin):
    _, V, T = _cosines(images, captions)
    return pair_loss(images @ captions.T) + _intra(V, T, margin)


def cmc_over_batch(images, captions, pair_loss, margin):
    S, V, T = _cosines(images, captions, dim=0)
    return pair_loss(S) + _intra(V, T, margin)


def cmc_transposed(images, captions, pair_loss, margin):
    return cmc_plainly(captions, images, pair_loss, margin)


def cmc_mean(images, captions, pair_loss, margin):
    return cmc_plainly(images, captions, pair_loss, margin) / len(images)


def cmc_captions_detached(images, captions, pair_loss, margin):
    return cmc_plainly(images, captions.detach(), pair_loss, margin)


def cmc_in_place(images, captions, pair_loss, margin):
    with torch.no_grad():
        images /= images.norm(dim=1, keepdim=True)
    return cmc_plainly(images, captions, pair_loss, margin)


def cmc_returns_inside(images, captions, pair_loss, margin):
    S, V, T = _cosines(images, captions)
    total = pair_loss(S)
    for j in range(len(V)):
        total = total + ((T[:, j] - V[:, j]).abs().max() - margin).relu()
        return total


def cmc_of_items(images, captions, pair_loss, margin):
    """A max of Python numbers."""
    S, V, T = _cosines(images, captions)
    extra = sum(max(0.0, max((T[:, j] - V[:, j]).abs().tolist()) - margin) for j in range(len(V)))
    return pair_loss(S) + extra


def cmc_later_only(images, captions, pair_loss, margin):
    S, V, T = _cosines(images, captions)
    total = pair_loss(S)
    for i in range(len(V)):
        worst = S.new_zeros(())
        for j in range(i + 1, len(V)):
            worst = torch.maximum(worst, (T[i, j] - V[i, j]).abs())
        total = total + (worst - margin).relu()
    return total


# --- wrong: two-stage-search -----------------------------------------------------------------------------------------


def _stages(query_whole, query_words, wholes, regions, mask, shortlist, local):
    """Global scores, the shortlist, its local scores, the others; ``local`` turns (n, R, W) cosines into scores."""
    scores = wholes @ query_whole
    order = scores.argsort(descending=True)
    first = order[:shortlist]
    return scores, first, local(regions[first] @ query_words.T, mask[first]), order[shortlist:]


def _mrsw(cosines, mask):
    return cosines.masked_fill(~mask[..., None], -torch.inf).amax(dim=1).sum(dim=1)


def _searched(arrange, local=_mrsw):
    def search(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
        scores, first, aligned, others = _stages(query_whole, query_words, wholes, regions, mask, shortlist, local)
        return arrange(scores, first, aligned, others, local_weight)

    return search


def _usual(scores, first, aligned, others, weight):
    return torch.cat([first[(scores[first] + weight * aligned).argsort(descending=True)], others])


search_local_only = _searched(
    lambda scores, first, aligned, others, weight: torch.cat([first[aligned.argsort(descending=True)], others])
)
search_without_weight = _searched(
    lambda scores, first, aligned, others, weight: _usual(scores, first, aligned, others, 1.0)
)
search_with_padding = _searched(_usual, lambda cosines, mask: cosines.amax(dim=1).sum(dim=1))
search_zero_padding = _searched(_usual, lambda cosines, mask: (cosines * mask[..., None]).amax(dim=1).sum(dim=1))
search_mwsr = _searched(_usual, lambda cosines, mask: (cosines.amax(dim=2) * mask).sum(dim=1))
search_mean = _searched(_usual, lambda cosines, mask: _mrsw(cosines, mask) / cosines.shape[2])
search_shortlist_only = _searched(
    lambda scores, first, aligned, others, weight: _usual(scores, first, aligned, others[:0], weight)
)
search_by_row = _searched(
    lambda scores, first, aligned, others, weight: _usual(scores, first, aligned, others.sort().values, weight)
)
search_ascending = _searched(
    lambda scores, first, aligned, others, weight: torch.cat(
        [first[(scores[first] + weight * aligned).argsort()], others]
    )
)
search_places = _searched(
    lambda scores, first, aligned, others, weight: torch.cat(
        [(scores[first] + weight * aligned).argsort(descending=True), others]
    )
)
search_ranks = _searched(
    lambda scores, first, aligned, others, weight: _usual(scores, first, aligned, others, weight).argsort()
)


def search_added_in(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    """The local scores added where they are, and then one sort of all."""
    scores, first, aligned, _ = _stages(query_whole, query_words, wholes, regions, mask, shortlist, _mrsw)
    scores[first] += local_weight * aligned
    return scores.argsort(descending=True)


def search_global(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    return (wholes @ query_whole).argsort(descending=True)


def search_exhaustive(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    local = _mrsw(regions @ query_words.T, mask)
    return (wholes @ query_whole + local_weight * local).argsort(descending=True)


def _after_all(query_whole, wholes, local, shortlist, local_weight):
    scores = wholes @ query_whole
    order = scores.argsort(descending=True)
    first = order[:shortlist]
    return torch.cat([first[(scores + local_weight * local)[first].argsort(descending=True)], order[shortlist:]])


def search_looks_up(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    """Right rows, and every item aligned."""
    cosines = torch.einsum("nre,we->nrw", regions, query_words)
    return _after_all(query_whole, wholes, _mrsw(cosines, mask), shortlist, local_weight)


def search_looks_up_by_product(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    cosines = (regions[:, :, None] * query_words).sum(-1)
    return _after_all(query_whole, wholes, _mrsw(cosines, mask), shortlist, local_weight)


def search_looks_up_by_matrix(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    cosines = (query_words @ regions.mT).mT
    return _after_all(query_whole, wholes, _mrsw(cosines, mask), shortlist, local_weight)


def search_loops_over_all(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    local = torch.stack([(r[m] @ query_words.T).amax(0).sum() for r, m in zip(regions, mask, strict=True)])
    return _after_all(query_whole, wholes, local, shortlist, local_weight)


def search_by_the_engine_for_all(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    local = alignment_scores(regions, query_words[None], region_mask=mask)[:, 0]
    return _after_all(query_whole, wholes, local, shortlist, local_weight)


def search_by_topk(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    (wholes @ query_whole).topk(shortlist)
    return search_plainly(query_whole, query_words, wholes, regions, mask, shortlist, local_weight)


def search_off_by_one(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    return search_plainly(query_whole, query_words, wholes, regions, mask, shortlist - 1, local_weight)


def search_mask_cut(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    scores = wholes @ query_whole
    order = scores.argsort(descending=True)
    first = order[:shortlist]
    local = _mrsw(regions[first] @ query_words.T, mask[:shortlist])
    return torch.cat([first[(scores[first] + local_weight * local).argsort(descending=True)], order[shortlist:]])


def search_of_floats(**inputs):
    return search_plainly(**inputs).float()


def search_argsort_twice(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    scores, first, aligned, others = _stages(query_whole, query_words, wholes, regions, mask, shortlist, _mrsw)
    places = (scores[first] + local_weight * aligned).argsort(descending=True).argsort()
    return torch.cat([first[places], others])


# --- wrong: honest-rank ----------------------------------------------------------------------------------------------


def _ranked(missed=None, final=lambda whole, local, weight: whole + weight * local):
    """As evaluations are written: a loop over the queries, the match looked for in the shortlist."""

    def ranks(global_scores, local_scores, truth, shortlist, local_weight):
        found = []
        for whole, local, own in zip(global_scores, local_scores, truth, strict=True):
            order = whole.argsort(descending=True)
            first = order[:shortlist]
            first = first[final(whole, local, local_weight)[first].argsort(descending=True)]
            outside = int((order == own).nonzero()) + 1 if missed is None else missed(shortlist, len(whole))
            found.append(int((first == own).nonzero()) + 1 if own in first else outside)
        return torch.tensor([rank for rank in found if rank is not None])

    return ranks


def ranks_as_released(global_scores, local_scores, truth, shortlist, local_weight):
    """The released evaluation: zeros, set where the match is found in the shortlist, with places from 0."""
    places = torch.zeros(len(truth), dtype=torch.long)
    for q, own in enumerate(truth):
        first = global_scores[q].argsort(descending=True)[:shortlist]
        final = global_scores[q, first] + local_weight * local_scores[q, first]
        hit = (first[final.argsort(descending=True)] == own).nonzero()
        if len(hit):
            places[q] = hit[0, 0]
    return places + 1


def ranks_zeros(global_scores, local_scores, truth, shortlist, local_weight):
    ranks = ranks_in_loops(global_scores, local_scores, truth, shortlist, local_weight)
    return ranks.masked_fill(ranks > shortlist, 0)


def ranks_infinite(global_scores, local_scores, truth, shortlist, local_weight):
    ranks = ranks_in_loops(global_scores, local_scores, truth, shortlist, local_weight)
    return ranks.double().masked_fill(ranks > shortlist, torch.inf)


def ranks_from_zero(**inputs):
    return ranks_in_loops(**inputs) - 1


def ranks_of_everything(global_scores, local_scores, truth, shortlist, local_weight):
    return ranks_in_loops(global_scores + local_weight * local_scores, local_scores, truth, shortlist, 0.0)


def ranks_global(global_scores, local_scores, truth, shortlist, local_weight):
    return ranks_in_loops(global_scores, local_scores, truth, shortlist, 0.0)


def ranks_against_all(global_scores, local_scores, truth, shortlist, local_weight):
    """Inside the shortlist, but counted over all candidates."""
    final = global_scores + local_weight * local_scores
    first = (global_scores > global_scores.gather(1, truth[:, None])).sum(1) + 1
    again = (final > final.gather(1, truth[:, None])).sum(1) + 1
    return torch.where(first <= shortlist, again, first)


def ranks_ascending(global_scores, local_scores, truth, shortlist, local_weight):
    ranks = torch.zeros(len(truth), dtype=torch.long)
    for q, own in enumerate(truth):
        order = global_scores[q].argsort()
        final = (global_scores[q] + local_weight * local_scores[q])[order[:shortlist]]
        order = torch.cat([order[:shortlist][final.argsort()], order[shortlist:]])
        ranks[q] = (order == own).nonzero().item() + 1
    return ranks


def ranks_shortlist_ascending(global_scores, local_scores, truth, shortlist, local_weight):
    return _ranked(final=lambda whole, local, weight: -(whole + weight * local))(
        global_scores, local_scores, truth, shortlist, local_weight
    )


def ranks_of_the_diagonal(global_scores, local_scores, truth, shortlist, local_weight):
    own = torch.arange(len(global_scores)).clamp(max=global_scores.shape[1] - 1)
    return ranks_in_loops(global_scores, local_scores, own, shortlist, local_weight)


def ranks_added_in(global_scores, local_scores, truth, shortlist, local_weight):
    """The local scores added where they are, and then one sort of all."""
    edge = global_scores.topk(min(shortlist, global_scores.shape[1]), dim=1).values[:, -1:]
    final = torch.where(global_scores >= edge, global_scores + local_weight * local_scores, global_scores)
    return (final > final.gather(1, truth[:, None])).sum(1) + 1


def ranks_of_one_argsort(global_scores, local_scores, truth, shortlist, local_weight):
    places = global_scores.argsort(dim=1, descending=True)
    final, own = global_scores + local_weight * local_scores, truth[:, None]
    inside = places < shortlist
    again = (inside & (final > final.gather(1, own))).sum(dim=1) + 1
    return torch.where(inside.gather(1, own)[:, 0], again, places.gather(1, own)[:, 0] + 1)


def ranks_counting_oneself(global_scores, local_scores, truth, shortlist, local_weight):
    places = global_scores.argsort(dim=1, descending=True).argsort(dim=1)
    final, own = global_scores + local_weight * local_scores, truth[:, None]
    inside = places < shortlist
    again = (inside & (final >= final.gather(1, own))).sum(dim=1) + 1
    return torch.where(inside.gather(1, own)[:, 0], again, places.gather(1, own)[:, 0] + 1)


def _ranks_cut(change):
    def ranks(global_scores, local_scores, truth, shortlist, local_weight):
        return ranks_in_loops(global_scores, local_scores, truth, change(shortlist), local_weight)

    return ranks


# --- wrong: choose-k -------------------------------------------------------------------------------------------------


def choose_longest(lengths, recall, milliseconds, candidates, budget, tolerated):
    some = zip(lengths, recall, milliseconds, strict=True)
    allowed = [(k, r) for k, r, ms in some if k <= candidates and ms <= budget]
    enough = max((r for _, r in allowed), default=0) - tolerated
    return max((k for k, r in allowed if r >= enough), default=0)


def choose_best(lengths, recall, milliseconds, candidates, budget, tolerated):
    some = zip(lengths, recall, milliseconds, strict=True)
    allowed = [(r, -k) for k, r, ms in some if k <= candidates and ms <= budget]
    return -max(allowed)[1] if allowed else 0


def choose_against_all(lengths, recall, milliseconds, candidates, budget, tolerated):
    some = zip(lengths, recall, milliseconds, strict=True)
    fits = [k for k, r, ms in some if k <= candidates and ms <= budget and r >= max(recall) - tolerated]
    return min(fits, default=0)


def choose_place(lengths, recall, milliseconds, candidates, budget, tolerated):
    chosen = choose_by_sorting(lengths, recall, milliseconds, candidates, budget, tolerated)
    return lengths.index(chosen) if chosen else 0


def choose_without_guard(lengths, recall, milliseconds, candidates, budget, tolerated):
    some = list(zip(lengths, recall, milliseconds, strict=True))
    best = max(r for k, r, ms in some if k <= candidates and ms <= budget)
    return min(k for k, r, ms in some if k <= candidates and ms <= budget and r >= best - tolerated)


def choose_first(lengths, recall, milliseconds, candidates, budget, tolerated):
    some = list(zip(lengths, recall, milliseconds, strict=True))
    allowed = [(k, r) for k, r, ms in some if k <= candidates and ms <= budget]
    for k, r in allowed:
        if r >= max(found for _, found in allowed) - tolerated:
            return k
    return 0


def choose_in_place(lengths, recall, milliseconds, candidates, budget, tolerated):
    answer = choose_by_sorting(lengths, recall, milliseconds, candidates, budget, tolerated)
    lengths.sort()
    return answer


def _chosen(candidates=lambda n: n, budget=lambda b: b, tolerated=lambda t: t):
    def choose(**inputs):
        changed = {"candidates": candidates, "budget": budget, "tolerated": tolerated}
        return choose_by_sorting(**inputs | {name: change(inputs[name]) for name, change in changed.items()})

    return choose


# --- wrong: pareto-front ---------------------------------------------------------------------------------------------


def pareto_no_worse(cost, recall):
    """Everything beats itself."""
    return ~((cost[:, None] <= cost) & (recall[:, None] >= recall)).any(dim=0)


def pareto_kills_equals(cost, recall):
    kept = []
    for i in range(len(cost)):
        kept.append(not any(cost[j] <= cost[i] and recall[j] >= recall[i] for j in range(len(cost)) if j != i))
    return torch.tensor(kept)


def pareto_both_strict(cost, recall):
    return ~((cost[:, None] < cost) & (recall[:, None] > recall)).any(dim=0)


def pareto_strict_recall(cost, recall):
    return ~((cost[:, None] <= cost) & (recall[:, None] > recall)).any(dim=0)


def pareto_strict_cost(cost, recall):
    return ~((cost[:, None] < cost) & (recall[:, None] >= recall)).any(dim=0)


def pareto_either(cost, recall):
    return ~((cost[:, None] < cost) | (recall[:, None] > recall)).any(dim=0)


def pareto_neighbours(cost, recall):
    order = cost.argsort(stable=True)
    kept = torch.ones(len(cost), dtype=torch.bool, device=cost.device)
    kept[order[1:]] = recall[order[1:]] > recall[order[:-1]]
    return kept


def _running(cost, recall, beats):
    kept, best = torch.zeros(len(cost), dtype=torch.bool), -torch.inf
    for i in cost.argsort(stable=True).tolist():
        if beats(float(recall[i]), best):
            kept[i], best = True, float(recall[i])
    return kept


def pareto_running(cost, recall):
    return _running(cost, recall, lambda own, best: own > best)


def pareto_running_equal(cost, recall):
    return _running(cost, recall, lambda own, best: own >= best)


def pareto_once(cost, recall):
    """By cost and then by falling recall, without equals."""
    kept, best = torch.zeros(len(cost), dtype=torch.bool), -torch.inf
    for i in sorted(range(len(cost)), key=lambda n: (float(cost[n]), -float(recall[n]))):
        if recall[i] > best:
            kept[i], best = True, float(recall[i])
    return kept


def search_all_without_mask(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    g = wholes @ query_whole
    A = torch.einsum("we,nre->nwr", query_words, regions)
    return (g + local_weight * A.amax(2).sum(1)).argsort(descending=True)


def ranks_others_anew(global_scores, local_scores, truth, shortlist, local_weight):
    places = global_scores.argsort(1, descending=True).argsort(1)
    final = global_scores + local_weight * local_scores
    inside, own = places < shortlist, truth[:, None]
    higher = final > final.gather(1, own)
    again = (inside & higher).sum(1) + 1
    rest = shortlist + (~inside & higher).sum(1) + 1
    return torch.where(inside.gather(1, own)[:, 0], again, rest)


def ranks_shortlist_by_final(global_scores, local_scores, truth, shortlist, local_weight):
    final = global_scores + local_weight * local_scores
    places = final.argsort(1, descending=True).argsort(1)
    own = truth[:, None]
    g = global_scores.argsort(1, descending=True).argsort(1).gather(1, own)[:, 0] + 1
    f = places.gather(1, own)[:, 0] + 1
    return torch.where(f <= shortlist, f, g)


def ranks_places_in_front(global_scores, local_scores, truth, shortlist, local_weight):
    out = []
    for whole, local, t in zip(global_scores, local_scores, truth, strict=True):
        order = whole.argsort(descending=True)
        head = (whole + local_weight * local)[order[:shortlist]].argsort(descending=True)
        ranked = torch.cat([head, order[shortlist:]])
        out.append(int((ranked == t).nonzero()[0, 0]) + 1 if (ranked == t).any() else shortlist + 1)
    return torch.tensor(out)


def choose_strict_and_fastest(lengths, recall, milliseconds, candidates, budget, tolerated):
    ok = [
        (ms, k, r) for k, r, ms in zip(lengths, recall, milliseconds, strict=True) if k <= candidates and ms <= budget
    ]
    if not ok:
        return 0
    best = max(r for _, _, r in ok)
    return min((ms, k) for ms, k, r in ok if r > best - tolerated or r == best)[1]


def choose_second_pass_over_all(lengths, recall, milliseconds, candidates, budget, tolerated):
    ok = [(k, r) for k, r, ms in zip(lengths, recall, milliseconds, strict=True) if k <= candidates and ms <= budget]
    if not ok:
        return 0
    best = max(r for _, r in ok)
    return min(k for k, r in zip(lengths, recall, strict=True) if r >= best - tolerated)


def front_beside_the_one_before(cost, recall):
    out = torch.ones(len(cost), dtype=torch.bool)
    for i in range(1, len(cost)):
        if cost[i - 1] <= cost[i] and recall[i - 1] > recall[i]:
            out[i] = False
    return out


def cmc_pairs_times_batch(images, captions, pair_loss, margin):
    v, t = F.normalize(images, dim=1), F.normalize(captions, dim=1)
    return len(v) * pair_loss(v @ t.T) + torch.relu((t @ t.T - v @ v.T).abs().amax(0) - margin).sum()


def guidance_last_of_mask(tokens, mask, on_top, detach):
    x = tokens.detach() if detach else tokens
    out = on_top(x, src_key_padding_mask=~mask)
    return F.normalize(out[torch.arange(len(out)), mask.sum(1) - 1], dim=-1)


def guidance_max_of_real(tokens, mask, on_top, detach):
    x = tokens.detach() if detach else tokens
    out = on_top(x, src_key_padding_mask=~mask).masked_fill(~mask[..., None], -1e9)
    return F.normalize(out.amax(1), dim=-1)


def search_mean_and_zero(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    g = wholes @ query_whole
    order = g.argsort(descending=True)
    rows, rest = order[:shortlist], order[shortlist:]
    A = torch.einsum("we,kre->kwr", query_words, regions[rows]).masked_fill(~mask[rows][:, None], 0)
    final = g[rows] + local_weight * A.amax(2).mean(1)
    return torch.cat([rows[final.argsort(descending=True)], rest])


def guidance_switches_off(tokens, mask, on_top, detach):
    if detach:
        tokens.requires_grad_(False)
    return F.normalize(on_top(tokens, src_key_padding_mask=~mask)[:, 0], dim=-1)


def choose_times_length(lengths, recall, milliseconds, candidates, budget, tolerated):
    rows = zip(lengths, recall, milliseconds, strict=True)
    some = [(k, r) for k, r, ms in rows if k <= candidates and ms * k <= budget]
    if not some:
        return 0
    best = max(r for _, r in some)
    return min(k for k, r in some if r >= best - tolerated)


def pareto_in_the_order_of_the_list(cost, recall):
    best, out = -1.0, []
    for r in recall.tolist():
        out.append(r > best)
        best = max(best, r)
    return torch.tensor(out)


def pareto_sorted_by_both(cost, recall):
    order = sorted(range(len(cost)), key=lambda i: (float(cost[i]), -float(recall[i])))
    best, out = -1.0, []
    for i in order:
        out.append(float(recall[i]) > best)
        best = max(best, float(recall[i]))
    return torch.tensor(out)


def pareto_without_the_dearest(cost, recall):
    no_worse = (cost[:, None] <= cost) & (recall[:, None] >= recall)
    better = (cost[:, None] < cost) & (recall[:, None] > recall)
    return ~(no_worse & better).any(dim=0) & (cost < cost.max())


WRONG = {
    "token-guidance": [
        (guidance_without_mask, "padded tokens take part"),
        (guidance_mask_as_it_is, "the mask is turned round"),
        (guidance_positional_mask, "is another mask"),
        (guidance_zeroed, "padded tokens became zeros"),
        (guidance_mean, "the sum of all tokens"),
        (guidance_mean_of_real, "the sum of the real tokens"),
        (guidance_last, "the last token, which may be padding"),
        (guidance_first_sequence, "all tokens of the first sequence"),
        (guidance_any_length, "do not have length 1"),
        (guidance_over_batch, "over the batch (dim=0)"),
        (guidance_over_tokens, "over the tokens (dim=1)"),
        (guidance_never_detaches, "tokens come to on_top with their gradient"),
        (guidance_always_detaches, "come to on_top without their gradient"),
        (guidance_detaches_wrongly, "come to on_top without their gradient"),
        (guidance_output_detached, "tokens come to on_top with their gradient"),
        (guidance_without_gradient, "no gradient reaches on_top"),
        (guidance_raw_token, "on_top has not seen it"),
        (guidance_one_token, "on_top saw only the first token"),
        (guidance_all_tokens, "these are all tokens"),
        (guidance_last_of_mask, "the last real one"),
        (guidance_max_of_real, "the largest number of the real tokens"),
        (guidance_switches_off, "switches off the gradient of its input tokens"),
    ],
    "cmc": [
        (cmc_of_raw_vectors, "plain dot products"),
        (cmc_raw_pairs, "pair_loss gets plain dot products"),
        (cmc_over_batch, "over the batch (dim=0)"),
        (cmc_transposed, "the scores that pair_loss gets are turned"),
        (_cmc(lambda S, V, T, margin: 0 * V.sum()), "left out, or always 0"),
        (_cmc(lambda S, V, T, margin: ((T.amax(0) - V.amax(0)).abs() - margin).relu().sum()), "always 0"),
        (_cmc(lambda S, V, T, margin: -_intra(V, T, margin)), "the consistency is subtracted"),
        (_cmc(lambda S, V, T, margin: _intra(V, S, margin)), "compared with image-caption cosines"),
        (_cmc(lambda S, V, T, margin: ((T - V).abs().mean(0) - margin).relu().sum()), "the mean over i"),
        (_cmc(lambda S, V, T, margin: ((T - V).abs().sum(0) - margin).relu().sum()), "the sum over i"),
        (_cmc(lambda S, V, T, margin: ((T - V).abs() - margin).relu().sum()), "every disagreement beyond the margin"),
        (_cmc(lambda S, V, T, margin: ((T - V).abs().max() - margin).relu()), "one disagreement counts"),
        (_cmc(lambda S, V, T, margin: ((T - V).amax(0) - margin).relu().sum()), "only where T is above V"),
        (_cmc(lambda S, V, T, margin: ((V - T).amax(1) - margin).relu().sum()), "only where V is above T"),
        (_cmc(lambda S, V, T, margin: _intra(V, T, 0)), "the margin is missing"),
        (_cmc(lambda S, V, T, margin: _intra(V, T, -margin)), "the margin is added"),
        (_cmc(lambda S, V, T, margin: _intra(V, T, margin) / len(V)), "the mean over j"),
        (_cmc(lambda S, V, T, margin: ((T - V).abs().amax(0) - margin).sum()), "counts as less than nothing"),
        (_cmc(lambda S, V, T, margin: ((T - V).abs().amax(0).relu() - margin).sum()), "stands inside the bracket"),
        (_cmc(lambda S, V, T, margin: ((T - V).abs().amax(0).sum() - margin).relu()), "once, from the sum"),
        (_cmc(lambda S, V, T, margin: ((T - V).abs().triu(1).amax(0) - margin).relu().sum()), "i before j"),
        (cmc_later_only, "j before i"),
        (cmc_returns_inside, "a return inside the loop"),
        (cmc_mean, "divided by the size of the batch"),
        (cmc_of_items, "gradient by images"),
        (cmc_captions_detached, "gradient by captions"),
        (cmc_in_place, "changes its input images"),
        (_cmc(lambda S, V, T, margin: ((T - V).abs().amax(dim=0) - margin).relu()), "expected a number"),
        (cmc_pairs_times_batch, "multiplied by the size of the batch"),
    ],
    "two-stage-search": [
        (search_local_only, "by the local score alone"),
        (search_without_weight, "local_weight is missing"),
        (search_with_padding, "padded regions take part in the max"),
        (search_zero_padding, "padding became a dot product of 0"),
        (search_mwsr, "(MwSr)"),
        (search_mean, "the mean over the words"),
        (search_shortlist_only, "only the shortlist is returned"),
        (search_by_row, "by their place in the gallery"),
        (search_ascending, "the shortlist is worst first"),
        (search_places, "places within the shortlist"),
        (search_ranks, "the places that each item gets"),
        (search_added_in, "are sorted among the others"),
        (search_global, "the shortlist is not ordered anew"),
        (search_exhaustive, "all items are aligned and ordered anew"),
        (search_looks_up, "you aligned items that are not in the shortlist"),
        (search_looks_up_by_product, "you aligned items that are not in the shortlist"),
        (search_looks_up_by_matrix, "you aligned items that are not in the shortlist"),
        (search_loops_over_all, "you aligned items that are not in the shortlist"),
        (search_by_the_engine_for_all, "you aligned items that are not in the shortlist"),
        (search_by_topk, "where the shortlist is longer than the gallery"),
        (search_off_by_one, "one too short"),
        (search_mask_cut, "the mask is that of the first pictures"),
        (search_of_floats, "cannot serve as an index"),
        (search_argsort_twice, "once too often"),
        (search_all_without_mask, "all items are aligned and ordered anew"),
        (search_mean_and_zero, "two things"),
    ],
    "honest-rank": [
        (ranks_as_released, "it has rank 1, as if it came first"),
        (ranks_zeros, "its rank stayed 0"),
        (_ranked(lambda shortlist, candidates: -1), "has rank -1"),
        (_ranked(lambda shortlist, candidates: shortlist + 1), "that is the least it can be"),
        (_ranked(lambda shortlist, candidates: candidates), "the last rank"),
        (_ranked(lambda shortlist, candidates: candidates + 1), "behind all candidates"),
        (ranks_infinite, "an infinite rank"),
        (_ranked(lambda shortlist, candidates: None), "are left out: a rank for every query"),
        (ranks_from_zero, "ranks count from 0"),
        (ranks_of_everything, "all candidates are ordered anew"),
        (ranks_against_all, "with the new scores of all candidates"),
        (ranks_global, "these are the global ranks"),
        (_ranked(final=lambda whole, local, weight: local), "by the local score alone"),
        (_ranked(final=lambda whole, local, weight: whole + local), "local_weight is missing"),
        (ranks_ascending, "ranks from the bottom"),
        (ranks_shortlist_ascending, "the shortlist is worst first"),
        (ranks_of_the_diagonal, "taken to be candidate i"),
        (ranks_added_in, "are sorted among the others"),
        (ranks_of_one_argsort, "one argsort is taken for places"),
        (ranks_counting_oneself, "the match counts itself"),
        (_ranks_cut(lambda shortlist: shortlist - 1), "one too short"),
        (_ranks_cut(lambda shortlist: shortlist + 1), "one too long"),
        (ranks_others_anew, "outside the shortlist candidates are ordered anew"),
        (ranks_shortlist_by_final, "the final score decides who is in the shortlist"),
        (ranks_places_in_front, "comes behind the shortlist"),
    ],
    "choose-k": [
        (_chosen(candidates=lambda n: 10**9), "above the number of candidates is taken"),
        (_chosen(candidates=lambda n: n - 1), "a shortlist of all candidates is out"),
        (_chosen(budget=lambda b: float("inf")), "the budget is ignored"),
        (_chosen(tolerated=lambda t: 0), "nothing may be lost here"),
        (_chosen(tolerated=lambda t: -t), "tolerated is added"),
        (choose_longest, "the longest that comes near"),
        (choose_best, "nothing may be lost here"),
        (choose_against_all, "that of all lengths"),
        (choose_place, "a place in the list"),
        (choose_without_guard, "fails where nothing is allowed"),
        (choose_first, "the first in the list"),
        (choose_in_place, "changes its input lengths"),
        (choose_strict_and_fastest, "but for the best itself"),
        (choose_second_pass_over_all, "then one is chosen among all"),
        (choose_times_length, "multiplied by the length"),
    ],
    "pareto-front": [
        (lambda cost, recall: recall == recall.max(), "only the highest recall stays"),
        (lambda cost, recall: cost == cost.min(), "only the cheapest stay"),
        (lambda cost, recall: pareto_right(cost, -recall), "the front for low recall"),
        (lambda cost, recall: pareto_right(-cost, recall), "the front for high cost:"),
        (lambda cost, recall: pareto_right(-cost, -recall), "high cost and low recall"),
        (lambda cost, recall: ~pareto_right(cost, recall), "True and False are exchanged"),
        (pareto_no_worse, "beaten by itself"),
        (pareto_kills_equals, "equal points beat each other"),
        (pareto_both_strict, "equal in one and worse in the other stays"),
        (pareto_strict_recall, "costs more for the same recall stays"),
        (pareto_strict_cost, "finds less at the same cost stays"),
        (pareto_either, "better in one of the two"),
        (pareto_neighbours, "only with its neighbour"),
        (pareto_running, "what exceeds the best recall so far"),
        (pareto_running_equal, "what reaches the best recall so far"),
        (pareto_once, "of equal points only the first stays"),
        (lambda cost, recall: pareto_right(cost, recall).nonzero()[:, 0], "True or False for every method"),
        (front_beside_the_one_before, "only with the one before it in the list"),
        (pareto_in_the_order_of_the_list, "finds more than all before it"),
        (pareto_sorted_by_both, "the second of two equal points"),
        (pareto_without_the_dearest, "is beaten by"),
    ],
}
