"""Answers to the exercises of lesson 05: right ones, other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from itr_lib import objectives
from itr_lib.encoders.tokens import GlobalTokens
from itr_lib.evaluation.two_stage import two_stage_ranks
from itr_lib.search import TwoStageIndex
from itr_lib.similarity import alignment_scores, cosine_scores, l2_normalise

# --- right: by the library -------------------------------------------------------------------------------------------


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


RIGHT = {
    "token-guidance": guidance_right,
    "consistency": lambda V, T, margin: objectives.consistency_loss(V, T, margin=margin),
    "cmc": lambda images, captions, margin, intra_margin: objectives.cmc_loss(
        images, captions, margin=margin, intra_margin=intra_margin
    ),
    "two-stage-search": search_right,
    "honest-rank": ranks_right,
    "pareto-front": pareto_right,
}

# --- other ways to be right ------------------------------------------------------------------------------------------


def guidance_plainly(tokens, mask, on_top, detach):
    if detach:
        tokens = tokens.detach()
    out = on_top(tokens, src_key_padding_mask=~mask)
    return F.normalize(out[:, 0], dim=-1)


def guidance_all_lengths(tokens, mask, on_top, detach):
    out = on_top(tokens.detach() if detach else tokens, None, mask.logical_not())
    return (out / out.norm(dim=2, keepdim=True).clamp(min=1e-8))[:, 0]


def consistency_rows(V, T, margin):
    """Rows say what columns say, and a hinge before the max what one after it says."""
    return F.relu((V - T).abs() - margin).max(dim=1).values.sum()


def consistency_without_diagonal(V, T, margin):
    gap = (T - V).abs().masked_fill(torch.eye(len(V), dtype=torch.bool, device=V.device), -torch.inf)
    return torch.clamp(gap.amax(0) - margin, min=0).sum()


def cmc_plainly(images, captions, margin, intra_margin):
    v, t = F.normalize(images, dim=1), F.normalize(captions, dim=1)
    scores = v @ t.T
    negatives = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool, device=scores.device), -torch.inf)
    positives = scores.diagonal()
    rows = (margin + negatives.amax(1) - positives).relu().sum()
    columns = (margin + negatives.amax(0) - positives).relu().sum()
    return rows + columns + consistency_rows(v @ v.T, t @ t.T, intra_margin)


def cmc_below_every_cosine(images, captions, margin, intra_margin):
    """The diagonal lowered by more than any cosine can be; the library's consistency."""
    scores = cosine_scores(images, captions)
    others = scores - 3 * torch.eye(len(scores), dtype=scores.dtype, device=scores.device)
    inter = sum(torch.clamp(margin + others.amax(dim) - scores.diag(), min=0).sum() for dim in (0, 1))
    sides = cosine_scores(images, images), cosine_scores(captions, captions)
    return inter + objectives.consistency_loss(*sides, margin=intra_margin)


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


ALSO_RIGHT = [
    ("token-guidance", guidance_plainly),
    ("token-guidance", guidance_all_lengths),
    ("consistency", consistency_rows),
    ("consistency", consistency_without_diagonal),
    ("cmc", cmc_plainly),
    ("cmc", cmc_below_every_cosine),
    ("two-stage-search", search_plainly),
    ("two-stage-search", search_in_loops),
    ("two-stage-search", search_by_the_engine),
    ("honest-rank", ranks_in_loops),
    ("honest-rank", ranks_by_lifting),
    ("pareto-front", pareto_in_loops),
    ("pareto-front", pareto_by_cost),
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


# --- wrong: consistency and cmc --------------------------------------------------------------------------------------


def consistency_in_one_max(V, T, margin):
    return ((T - V).abs().max() - margin).relu()


def consistency_one_side_detached(V, T, margin):
    return objectives.consistency_loss(V.detach(), T, margin=margin)


def consistency_of_items(V, T, margin):
    """A max of Python numbers."""
    return sum(max(0.0, max((T[:, j] - V[:, j]).abs().tolist()) - margin) for j in range(len(V)))


def consistency_hinge_of_sum(V, T, margin):
    return F.relu(((T - V).abs().amax(dim=0) - margin).sum())


def consistency_not_summed(V, T, margin):
    return ((T - V).abs().amax(dim=0) - margin).relu()


def consistency_max_first(V, T, margin):
    return ((T.amax(dim=0) - V.amax(dim=0)).abs() - margin).relu().sum()


def _inter(scores, margin, negatives):
    """Both directions; ``negatives`` has what stands for the positives."""
    positives = scores.diagonal()
    return sum((margin + negatives.amax(dim) - positives).relu().sum() for dim in (0, 1))


def _others(scores, fill=-torch.inf):
    return scores.masked_fill(torch.eye(len(scores), dtype=torch.bool, device=scores.device), fill)


def _intra(v, t, margin):
    return ((v - t).abs().amax(dim=0) - margin).relu().sum()


def cmc_of_raw_vectors(images, captions, margin, intra_margin):
    scores = images @ captions.T
    return _inter(scores, margin, _others(scores)) + _intra(images @ images.T, captions @ captions.T, intra_margin)


def _cmc_of(images, captions, margin, intra_margin, dim=1):
    v, t = F.normalize(images, dim=dim), F.normalize(captions, dim=dim)
    scores = v @ t.T
    return _inter(scores, margin, _others(scores)), _intra(v @ v.T, t @ t.T, intra_margin), scores, v @ v.T, t @ t.T


def cmc_over_batch(images, captions, margin, intra_margin):
    inter, intra, *_ = _cmc_of(images, captions, margin, intra_margin, dim=0)
    return inter + intra


def cmc_all_negatives(images, captions, margin, intra_margin):
    _, intra, scores, *_ = _cmc_of(images, captions, margin, intra_margin)
    return objectives.triplet_loss(scores, margin=margin, negatives="all") + intra


def cmc_one_direction(images, captions, margin, intra_margin):
    _, intra, scores, *_ = _cmc_of(images, captions, margin, intra_margin)
    return (margin + _others(scores).amax(1) - scores.diag()).relu().sum() + intra


def cmc_twice_one_direction(images, captions, margin, intra_margin):
    _, intra, scores, *_ = _cmc_of(images, captions, margin, intra_margin)
    return 2 * (margin + _others(scores).amax(1) - scores.diag()).relu().sum() + intra


def cmc_without_intra(images, captions, margin, intra_margin):
    return _cmc_of(images, captions, margin, intra_margin)[0]


def cmc_one_margin(images, captions, margin, intra_margin):
    return cmc_plainly(images, captions, margin, margin)


def cmc_margins_exchanged(images, captions, margin, intra_margin):
    return cmc_plainly(images, captions, intra_margin, margin)


def cmc_positives_stay(images, captions, margin, intra_margin):
    _, intra, scores, *_ = _cmc_of(images, captions, margin, intra_margin)
    return _inter(scores, margin, scores) + intra


def cmc_positives_as_zero(images, captions, margin, intra_margin):
    _, intra, scores, *_ = _cmc_of(images, captions, margin, intra_margin)
    return _inter(scores, margin, _others(scores, 0.0)) + intra


def cmc_mean(images, captions, margin, intra_margin):
    return cmc_plainly(images, captions, margin, intra_margin) / len(images)


def cmc_mean_of_inter(images, captions, margin, intra_margin):
    inter, intra, *_ = _cmc_of(images, captions, margin, intra_margin)
    return inter / len(images) + intra


def cmc_across(images, captions, margin, intra_margin):
    inter, _, scores, v, _ = _cmc_of(images, captions, margin, intra_margin)
    return inter + _intra(v, scores, intra_margin)


def cmc_subtracted(images, captions, margin, intra_margin):
    inter, intra, *_ = _cmc_of(images, captions, margin, intra_margin)
    return inter - intra


def cmc_raw_intra(images, captions, margin, intra_margin):
    inter = _cmc_of(images, captions, margin, intra_margin)[0]
    return inter + _intra(images @ images.T, captions @ captions.T, intra_margin)


def cmc_captions_detached(images, captions, margin, intra_margin):
    return cmc_plainly(images, captions.detach(), margin, intra_margin)


def cmc_in_place(images, captions, margin, intra_margin):
    with torch.no_grad():
        images /= images.norm(dim=1, keepdim=True)
    return cmc_plainly(images, captions, margin, intra_margin)


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


def search_of_list(**inputs):
    return search_plainly(**inputs).tolist()


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


WRONG = {
    "token-guidance": [
        (guidance_without_mask, "padded tokens take part"),
        (guidance_mask_as_it_is, "the mask is turned round"),
        (guidance_positional_mask, "is another mask"),
        (guidance_zeroed, "padded tokens became zeros"),
        (guidance_mean, "the mean of all tokens"),
        (guidance_mean_of_real, "the mean of the real tokens"),
        (guidance_last, "the last token, which may be padding"),
        (guidance_first_sequence, "all tokens of the first sequence"),
        (guidance_any_length, "do not have length 1"),
        (guidance_over_batch, "over the batch (dim=0)"),
        (guidance_over_tokens, "over the tokens (dim=1)"),
        (guidance_never_detaches, "the gradient still reaches tokens"),
        (guidance_always_detaches, "come to on_top without their gradient"),
        (guidance_detaches_wrongly, "come to on_top without their gradient"),
        (guidance_output_detached, "its gradient by on_top is not"),
        (guidance_without_gradient, "no gradient reaches on_top"),
        (guidance_raw_token, "on_top has not seen it"),
        (guidance_one_token, "on_top saw only the first token"),
        (guidance_all_tokens, "has shape (4, 4, 3), expected (4, 3)"),
    ],
    "consistency": [
        (lambda V, T, margin: ((T - V).abs().mean(0) - margin).relu().sum(), "the mean over i"),
        (lambda V, T, margin: ((T - V).abs().sum(0) - margin).relu().sum(), "the sum over i"),
        (lambda V, T, margin: ((T - V).abs() - margin).relu().sum(), "every disagreement beyond the margin counts"),
        (consistency_in_one_max, "one disagreement counts"),
        (lambda V, T, margin: ((T - V).amax(0) - margin).relu().sum(), "only where T is above V"),
        (lambda V, T, margin: ((V - T).amax(1) - margin).relu().sum(), "only where V is above T"),
        (lambda V, T, margin: (T - V).abs().amax(0).relu().sum(), "the margin is missing"),
        (lambda V, T, margin: ((T - V).abs().amax(0) + margin).relu().sum(), "the margin is added"),
        (lambda V, T, margin: ((T - V).abs().amax(0) - margin).relu().mean(), "the mean over j"),
        (lambda V, T, margin: (((T - V) ** 2).amax(0) - margin).relu().sum(), "the difference is squared"),
        (lambda V, T, margin: ((T - V).abs().amax(0) - margin).relu().square().sum(), "beyond the margin is squared"),
        (lambda V, T, margin: ((T - V).abs().amax(0) - margin).sum(), "counts as less than nothing"),
        (consistency_hinge_of_sum, "[...]+ stands inside the sum"),
        (lambda V, T, margin: 2 * consistency_rows(V, T, margin), "the loss twice"),
        (consistency_max_first, "0 whatever the matrices are"),
        (consistency_one_side_detached, "gradient by V"),
        (consistency_of_items, "gradient by V"),
        (consistency_not_summed, "expected a number"),
    ],
    "cmc": [
        (cmc_of_raw_vectors, "plain dot products"),
        (cmc_over_batch, "over the batch (dim=0)"),
        (cmc_all_negatives, "every negative costs"),
        (cmc_one_direction, "only images ask"),
        (cmc_twice_one_direction, "images ask twice"),
        (cmc_without_intra, "is left out: add it"),
        (cmc_one_margin, "the consistency has the margin of the hinge"),
        (cmc_margins_exchanged, "the two margins are exchanged"),
        (cmc_positives_stay, "the positive is among its own negatives"),
        (cmc_positives_as_zero, "the positives became a score of 0"),
        (cmc_mean, "this is the mean over the batch"),
        (cmc_mean_of_inter, "the hinge is the mean over the batch"),
        (cmc_across, "compared with image-caption cosines"),
        (cmc_subtracted, "the consistency is subtracted"),
        (cmc_raw_intra, "the consistency compares plain dot products"),
        (cmc_captions_detached, "gradient by captions"),
        (cmc_in_place, "changes its input images in place"),
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
        (search_by_topk, "stopped with RuntimeError: selected index k out of range"),
        (search_of_list, "returned list, expected a tensor"),
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
    ],
}
