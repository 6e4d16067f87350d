"""The index against brute force, its files against damage, and what it refuses."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from itr_lib.encoders.tokens import GlobalTokens, Tokens
from itr_lib.evaluation import retrieval_metrics, two_stage_metrics
from itr_lib.search import Found, TwoStageIndex, alignments, file
from itr_lib.search.shortlists import first
from itr_lib.similarity import ATTENDED, CODE_POOLINGS, CODINGS, Alignment, cosine_scores, l2_normalise

SIDES = ("images", "captions")
ALIGNMENTS = [Alignment(*how, 0.3, 0.2) for how in itertools.product(ATTENDED, CODINGS, CODE_POOLINGS)]


def encodings(count, width=5, dim=8, seed=0, whole=6, kind=torch.float32) -> GlobalTokens:
    """Variable numbers of tokens, none at all among them; what stands in padding is NaN."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(count, width, generator=g) < 0.6
    mask[1:2] = False
    vectors = l2_normalise(torch.randn(count, width, dim, generator=g)).masked_fill(~mask[..., None], torch.nan)
    return GlobalTokens(3 * torch.randn(count, whole, generator=g).to(kind), vectors.to(kind), mask)


def some(encoded, rows):
    return encoded[rows] if isinstance(encoded, torch.Tensor) else type(encoded)(*(part[rows] for part in encoded))


def names(count, start=0):
    return [f"item {row}" for row in range(start, start + count)]


def index_of(items, side="images", **how) -> TwoStageIndex:
    index = TwoStageIndex(side, **how)
    index.add(names(len(items if isinstance(items, torch.Tensor) else items[0])), items)
    return index


def by_hand(items, queries, side):
    """Global and local scores (queries, items), pair by pair, from the definition."""
    local = torch.zeros(len(queries.whole), len(items.whole), dtype=torch.float64)
    for q in range(len(local)):
        for i in range(len(items.whole)):
            asked, kept = queries.vectors[q][queries.mask[q]].double(), items.vectors[i][items.mask[i]].double()
            regions, words = (kept, asked) if side == "images" else (asked, kept)
            for word in words.tolist() if len(regions) else []:
                local[q, i] += max(
                    math.fsum(a * b for a, b in zip(word, region, strict=True)) for region in regions.tolist()
                )
    return cosine_scores(queries.whole.double(), items.whole.double()), local


def brute_force(near, local, shortlist, top, weight):
    """Rows and scores for one query: sort by the global score, cut, sort the first part again; ties: first added."""
    near, local = near.tolist(), local.tolist()
    order = sorted(range(len(near)), key=lambda i: (-near[i], i))
    both = {i: near[i] + weight * local[i] for i in order[:shortlist]}
    found = sorted(both, key=lambda i: (-both[i], i)) + order[shortlist:]
    return found[:top], [both.get(i, near[i]) for i in found[:top]]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_brute_force(side, seed):
    rng = np.random.default_rng(seed)
    count, asked = int(rng.integers(1, 14)), int(rng.integers(1, 5))
    items, queries = encodings(count, 5, seed=seed), encodings(asked, 4, seed=seed + 100)
    index, (near, local) = index_of(items, side), by_hand(items, queries, side)
    for shortlist in range(1, count + 2):
        for top, weight in ((1, 1.0), (3, 0.4), (count + 5, 1.0), (count, -0.5)):
            found = index.query(queries, shortlist=shortlist, top=top, local_weight=weight)
            for q in range(asked):
                rows, scores = brute_force(near[q], local[q], shortlist, top, weight)
                assert found.rows[q].tolist() == rows and found.ids[q] == [f"item {row}" for row in rows]
                assert found.scores[q].tolist() == pytest.approx(scores, abs=1e-5)


def aligned(how, items, queries, side):
    """Local scores (queries, items) in 64 bits by ``alignment_scores``, which other tests hold against plain loops."""
    kept, asked = ((e.vectors.nan_to_num(0).double(), e.mask) for e in (items, queries))
    (regions, region_mask), (words, word_mask) = (kept, asked) if side == "images" else (asked, kept)
    scores = how.scores(regions, words, region_mask, word_mask)
    return scores.T if side == "images" else scores


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("how", ALIGNMENTS, ids=lambda how: f"{how.attend}-{how.coding}-{how.pooling}")
def test_a_shortlist_of_everything_is_the_exhaustive_ranking(how, side):
    items, queries = encodings(60, 7, seed=1), encodings(12, 6, seed=2)
    local = aligned(how, items, queries, side)
    both = cosine_scores(queries.whole.double(), items.whole.double()) + 0.7 * local
    index = index_of(items, side, alignment=how, local_weight=0.7)
    alone = index_of(items.tokens, side, alignment=how, local_weight=0.7)
    for found, expected in ((index.query(queries, shortlist=60, top=60), both), (alone.query(queries.tokens), local)):
        best = expected.sort(dim=1, descending=True).values[:, : found.scores.shape[1]]
        assert torch.allclose(found.scores.double(), best, rtol=1e-5, atol=1e-5)
        assert torch.allclose(expected.gather(1, found.rows), best, rtol=1e-5, atol=1e-5)
        assert all(len(set(rows)) == len(rows) for rows in found.rows.tolist())


@pytest.mark.parametrize("side", SIDES)
def test_alignments_are_told_from_each_other(side):
    """No two of them may come to the same, or the test before this one could not tell a wrong one.

    But for one pair: the best region of the best word is the best word of the best region.
    """
    items, queries = encodings(60, 7, seed=1).tokens, encodings(12, 6, seed=2).tokens
    different = [how for how in ALIGNMENTS if (how.attend, how.coding, how.pooling) != ("words", "hard", "max")]
    found = [index_of(items, side, alignment=how).query(queries, top=60).scores for how in different]
    assert all((a - b).abs().max() > 1e-3 for a, b in itertools.combinations(found, 2))


def test_the_ranks_are_those_of_two_stage_metrics():
    images, captions, owner = encodings(12, seed=3), encodings(24, 4, seed=4), np.repeat(np.arange(12), 2)
    near, local = by_hand(captions, images, "captions")
    expected = two_stage_metrics(near, local, owner, 5)
    i2t = index_of(captions, "captions").query(images, shortlist=5, top=24).rows.numpy()
    t2i = index_of(images, "images").query(captions, shortlist=5, top=12).rows.numpy()
    i2t_first = [int(np.flatnonzero(owner[rows] == i)[0]) for i, rows in enumerate(i2t)]
    # A missed image's rank counts false candidates only; there, what stands before its first caption is all false.
    assert 1 + np.mean(i2t_first) == pytest.approx(expected.i2t_meanr)
    t2i_first = [int(np.flatnonzero(rows == image)[0]) for image, rows in zip(owner, t2i, strict=True)]
    assert 1 + np.mean(t2i_first) == pytest.approx(expected.t2i_meanr)
    assert expected != retrieval_metrics(near + local, owner)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("budget", [1, 600, 2**22])
def test_batches_of_any_size_and_any_budget_find_the_same(side, budget, monkeypatch):
    items, queries = encodings(40, seed=5), encodings(9, 4, seed=6)
    expected = index_of(items, side).query(queries, shortlist=15, top=20)
    monkeypatch.setattr(alignments, "BUDGET", budget)
    index = index_of(items, side)
    for size in (1, 2, 4, 9):
        parts = [index.query(some(queries, slice(at, at + size)), shortlist=15, top=20) for at in range(0, 9, size)]
        assert torch.equal(torch.cat([part.rows for part in parts]), expected.rows)
        assert torch.allclose(torch.cat([part.scores for part in parts]), expected.scores, rtol=0, atol=1e-5)
        assert sum((part.ids for part in parts), []) == expected.ids


@pytest.mark.parametrize("side", SIDES)
def test_items_may_come_in_any_number_of_calls(side):
    items, queries = encodings(11, seed=7), encodings(3, seed=8)
    expected = index_of(items, side).query(queries, shortlist=6)
    index = TwoStageIndex(side)
    for start, stop in ((0, 0), (0, 4), (4, 5), (5, 11)):
        index.add(names(stop - start, start), some(items, slice(start, stop)))
        if stop:
            index.query(queries)  # between two calls too
    found = index.query(queries, shortlist=6)
    assert found.ids == expected.ids and torch.equal(found.scores, expected.scores)
    assert len(index) == 11 and index.ids == names(11)


def test_the_second_stage_costs_as_many_alignments_as_the_shortlist_has_places(monkeypatch):
    items, queries, seen = encodings(50, seed=9), encodings(4, seed=10), []
    aligned = TwoStageIndex._alignments
    monkeypatch.setattr(
        TwoStageIndex,
        "_alignments",
        lambda self, queries, rows: (seen.append(rows.shape), aligned(self, queries, rows))[1],
    )
    index_of(items).query(queries, shortlist=7, top=30)
    assert seen == [(4, 7)]


@pytest.mark.parametrize("total", [5, 64, 300, 1000, 3001])
@pytest.mark.parametrize("levels", [2, 40, 10**6])
def test_the_first_of_many_are_those_of_a_stable_sort(total, levels):
    """With few levels nearly all are ties, within the few and at their edge; most totals leave a rest of the groups."""
    scores = torch.randint(levels, (6, total), generator=torch.Generator().manual_seed(total)).float()
    order = scores.sort(dim=1, descending=True, stable=True)
    for count in (1, 2, 3, total // 2 + 1, total):
        values, rows = first(scores, count)
        assert torch.equal(rows, order.indices[:, :count]) and torch.equal(values, order.values[:, :count])


# --- a model without a second stage ----------------------------------------------------------------------------------


def test_vectors_alone():
    items, queries = encodings(20, seed=11).whole, encodings(5, seed=12).whole
    index, scores = index_of(items, "captions"), cosine_scores(queries, items)
    for top in (1, 7, 20, 50):
        found = index.query(queries, shortlist=2, top=top)
        best = scores.topk(min(top, 20), dim=1)
        assert torch.equal(found.rows, best.indices)
        assert torch.allclose(found.scores, best.values, rtol=0, atol=1e-6)
    assert index.bytes_per_item == 4 * 6


# --- ties ------------------------------------------------------------------------------------------------------------


def test_equal_items_come_in_the_order_in_which_they_were_added():
    one = encodings(1, seed=13)
    one = one._replace(mask=torch.ones_like(one.mask), vectors=one.vectors.nan_to_num(0.5))
    items, queries = some(one, torch.zeros(30, dtype=torch.long)), encodings(3, seed=14)
    for side in SIDES:
        for shortlist in (1, 4, 30):
            found = index_of(items, side).query(queries, shortlist=shortlist, top=30)
            assert torch.equal(found.rows, torch.arange(30).expand(3, -1))
    assert index_of(items.whole).query(queries.whole, top=5).rows.tolist() == [[0, 1, 2, 3, 4]] * 3


def test_ties_at_the_edge_and_in_the_second_stage():
    whole = torch.eye(2)[[1, 0, 0, 0, 1]]
    tokens = torch.tensor([9.0, 0.0, 1.0, 5.0, 0.0])[:, None, None]
    index = index_of(GlobalTokens(whole, tokens, torch.ones(5, 1, dtype=torch.bool)))
    query = GlobalTokens(torch.eye(2)[:1], torch.ones(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))
    # Global 0 1 1 1 0. Two places: items 1 and 2, not 3, which would be first. Then 3, 0, 4 as they are.
    found = index.query(query, shortlist=2, top=5)
    assert found.rows.tolist() == [[2, 1, 3, 0, 4]] and found.scores.tolist() == [[2, 1, 1, 0, 0]]
    assert index.query(query, shortlist=4, top=2).rows.tolist() == [[0, 3]]
    assert index.query(query, shortlist=4, top=9, local_weight=0.0).rows.tolist() == [[1, 2, 3, 0, 4]]


def test_tokens_alone_are_aligned_all_and_ties_come_in_order():
    tokens = torch.tensor([9.0, 0.0, 9.0, 5.0, 0.0])[:, None, None]
    index = index_of(Tokens(tokens, torch.ones(5, 1, dtype=torch.bool)), local_weight=-1.0)
    query = Tokens(torch.ones(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))
    found = index.query(query, shortlist=1, top=5)  # one stage: neither a shortlist nor a weight takes part
    assert found.rows.tolist() == [[0, 2, 3, 1, 4]] and found.scores.tolist() == [[9, 9, 5, 0, 0]]
    assert index.query(query, top=2).ids == [["item 0", "item 2"]] and index.bytes_per_item == 4 + 8


# --- sides and sets that are empty -----------------------------------------------------------------------------------


def test_images_and_captions_are_not_the_same_side():
    regions = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]])
    words = torch.tensor([[[0.8, 0.6]]])
    whole, real = torch.ones(1, 1), lambda vectors: torch.ones(vectors.shape[:2], dtype=torch.bool)
    image, caption = GlobalTokens(whole, regions, real(regions)), GlobalTokens(whole, words, real(words))
    # One word: its best region scores 0.96. A sum over the regions would be 0.8 + 0.6 + 0.96.
    assert index_of(image, "images").query(caption).scores.item() == pytest.approx(1.96)
    assert index_of(caption, "captions").query(image).scores.item() == pytest.approx(1.96)


@pytest.mark.parametrize("side", SIDES)
def test_an_empty_side_scores_0(side):
    items, queries = encodings(6, seed=15), encodings(2, seed=16)
    for masks in ((False, True), (True, False), (False, False)):
        less = [e if keep else e._replace(mask=e.mask & False) for e, keep in zip((items, queries), masks, strict=True)]
        index = index_of(less[0], side)
        found = index.query(less[1], top=6)
        expected = cosine_scores(queries.whole, items.whole).sort(dim=1, descending=True)
        assert torch.equal(found.rows, expected.indices) and torch.allclose(found.scores, expected.values, atol=1e-6)
    no_places = GlobalTokens(items.whole, torch.zeros(6, 0, 8), torch.zeros(6, 0, dtype=torch.bool))
    assert torch.allclose(index_of(no_places, side).query(queries, top=6).scores, expected.values, atol=1e-6)


def test_no_query_at_all_finds_nothing():
    found = index_of(encodings(4)).query(encodings(0), top=3)
    assert found.ids == [] and found.rows.shape == found.scores.shape == (0, 3)


def test_a_zero_vector_scores_0():
    items = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [2.0, 0.0]])
    found = index_of(items).query(torch.tensor([[5.0, 0.0], [0.0, 0.0]]))
    assert found.rows.tolist() == [[2, 1, 0], [0, 1, 2]] and found.scores.tolist() == [[1, 0, -1], [0, 0, 0]]


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_no_padding_is_kept():
    items = encodings(10, 50, seed=17)
    elements = int(items.mask.sum())
    for kind, size in ((torch.float32, 4), (torch.float16, 2)):
        index = index_of(items, token_dtype=kind)
        assert index.bytes_per_item == (10 * 6 * 4 + elements * 8 * size + 10 * 8) / 10
    assert TwoStageIndex("images").bytes_per_item == 0


def test_tokens_in_16_bits_score_as_their_rounded_values():
    items, queries = encodings(30, seed=18), encodings(4, seed=19)
    rounded = items._replace(vectors=items.vectors.half().float())
    found = index_of(items, token_dtype=torch.float16).query(queries, shortlist=30, top=30)
    expected = index_of(rounded).query(queries, shortlist=30, top=30)
    assert torch.equal(found.rows, expected.rows) and torch.equal(found.scores, expected.scores)
    assert not torch.equal(found.scores, index_of(items).query(queries, shortlist=30, top=30).scores)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.int8])
def test_smaller_tokens_score_as_what_is_left_of_them(side, kind, tmp_path):
    """In 8 bits a token's largest number is 127 steps, and each other one the nearest step."""
    items, queries = encodings(30, seed=18), encodings(4, seed=19)
    step = items.vectors.nan_to_num(0).abs().amax(dim=-1, keepdim=True) / 127
    left = items.vectors.bfloat16().float() if kind == torch.bfloat16 else (items.vectors / step).round() * step
    expected = index_of(items._replace(vectors=left), side).query(queries, shortlist=30, top=30)
    index = index_of(items, side, token_dtype=kind)
    index.save(tmp_path / "index")
    for some_index in (index, TwoStageIndex.load(tmp_path / "index")):
        found = some_index.query(queries, shortlist=30, top=30)
        assert torch.equal(found.rows, expected.rows)
        assert torch.allclose(found.scores, expected.scores, rtol=0, atol=1e-5)
    assert not torch.equal(found.scores, index_of(items, side).query(queries, shortlist=30, top=30).scores)
    elements, size = int(items.mask.sum()), 8 * kind.itemsize + (4 if kind == torch.int8 else 0)
    assert index.bytes_per_item == (30 * 6 * 4 + elements * size + 30 * 8) / 30


def test_a_token_of_zeros_fits_into_8_bits():
    items = GlobalTokens(torch.ones(2, 1), torch.zeros(2, 1, 3), torch.ones(2, 1, dtype=torch.bool))
    assert index_of(items, token_dtype=torch.int8).query(items).scores.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_encodings_of_any_kind_of_float(kind):
    items, queries = encodings(9, seed=20, kind=kind), encodings(3, seed=21, kind=kind)
    wide = [e._replace(whole=e.whole.float(), vectors=e.vectors.float()) for e in (items, queries)]
    assert torch.equal(index_of(items).query(queries).scores, index_of(wide[0]).query(wide[1]).scores)


def test_inputs_are_not_changed_and_not_shared():
    items, queries = encodings(5, seed=22), encodings(2, seed=23)
    items.whole.requires_grad_(True), items.vectors.requires_grad_(True)
    index = index_of(items)
    before = index.query(queries)
    assert not before.scores.requires_grad
    fresh = encodings(5, seed=22)
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(items, fresh, strict=True))
    with torch.no_grad():
        for part in items:
            part.zero_()
    assert torch.equal(index.query(queries).scores, before.scores)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, None])
@pytest.mark.parametrize("side", SIDES)
def test_a_loaded_index_answers_alike(tmp_path, side, kind):
    items, queries = encodings(15, seed=24), encodings(4, seed=25)
    if kind is None:
        items, queries, kind = items.whole, queries.whole, torch.float32
    index = TwoStageIndex(side, token_dtype=kind)
    odd = ["a/b.jpg#0", "ü 😀", "", *names(12)]
    for rows in (slice(0, 7), slice(7, 15)):
        index.add(odd[rows], some(items, rows))
    path = tmp_path / "gallery.safetensors"
    index.save(path)
    again = TwoStageIndex.load(str(path))
    assert (again.side, again.ids, len(again), again.token_dtype) == (side, odd, 15, kind)
    assert again.bytes_per_item == index.bytes_per_item
    first, second = (which.query(queries, shortlist=5, top=12) for which in (index, again))
    assert first.ids == second.ids and torch.equal(first.rows, second.rows) and torch.equal(first.scores, second.scores)
    again.add(["new"], some(items, slice(0, 1)))  # and it grows as the first does
    index.add(["new"], some(items, slice(0, 1)))
    assert torch.equal(again.query(queries, shortlist=16).scores, index.query(queries, shortlist=16).scores)
    for name in ("new", "item 3"):
        with pytest.raises(ValueError, match="in the index already"):
            again.add([name], some(items, slice(0, 1)))


def test_a_file_keeps_how_its_items_are_aligned(tmp_path):
    items, queries = encodings(15, seed=27), encodings(4, seed=28)
    for how, weight in zip(ALIGNMENTS, itertools.cycle((1.0, 0.1, -2.5)), strict=False):
        for encoded, asked in ((items, queries), (items.tokens, queries.tokens)):
            index = index_of(encoded, "captions", alignment=how, local_weight=weight)
            index.save(tmp_path / "index")
            again = TwoStageIndex.load(tmp_path / "index")
            assert (again.alignment, again.local_weight) == (how, weight)
            first, second = (which.query(asked, shortlist=5, top=12) for which in (index, again))
            assert torch.equal(first.rows, second.rows) and torch.equal(first.scores, second.scores)
    index_of(items.whole, alignment=None).save(tmp_path / "index")
    assert TwoStageIndex.load(tmp_path / "index").alignment is None


def test_the_weight_of_the_index_counts_unless_a_query_has_its_own():
    items, queries = encodings(15, seed=29), encodings(4, seed=30)
    light, heavy = (index_of(items, local_weight=weight) for weight in (0.25, 4.0))
    found = [light.query(queries), heavy.query(queries), heavy.query(queries, local_weight=0.25)]
    assert torch.equal(found[0].scores, found[2].scores) and not torch.equal(found[0].scores, found[1].scores)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "gallery.safetensors"
    index_of(encodings(3, 2, dim=2, whole=2)).save(path)
    return path


def test_saving_replaces_the_file_in_one_step(saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(file.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("the disk is gone")))
    with pytest.raises(OSError, match="the disk is gone"):
        index_of(encodings(5)).save(saved)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]
    monkeypatch.undo()
    index_of(encodings(5)).save(saved)
    assert len(TwoStageIndex.load(saved)) == 5 and list(saved.parent.iterdir()) == [saved]


def test_a_folder_is_made_and_one_that_cannot_be_is_named(tmp_path, monkeypatch):
    index_of(encodings(2)).save(tmp_path / "new" / "folder" / "index")
    assert len(TwoStageIndex.load(tmp_path / "new" / "folder" / "index")) == 2

    def full(*_):
        raise file.SafetensorError("no space left on device")

    monkeypatch.setattr(file, "save_file", full)
    with pytest.raises(OSError, match="other cannot be written: no space left"):
        index_of(encodings(2)).save(tmp_path / "other")


def test_a_loaded_index_can_be_saved_over_its_own_file(saved):
    index, queries = TwoStageIndex.load(saved), encodings(2, 2, dim=2, whole=2, seed=1)
    before = index.query(queries)
    index.save(saved)
    assert torch.equal(TwoStageIndex.load(saved).query(queries).scores, before.scores)
    assert torch.equal(index.query(queries).scores, before.scores)


def test_every_changed_byte_is_noticed(saved):
    """Wherever it stands: in the header, the ids or the numbers."""
    whole = saved.read_bytes()
    for place in range(len(whole)):
        for flip in (0x01, 0x20):
            saved.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            with pytest.raises(ValueError, match="gallery.safetensors"):
                TwoStageIndex.load(saved)


def test_an_index_that_stays_in_its_file_answers_alike(saved):
    queries = encodings(2, 2, dim=2, whole=2, seed=1)
    mapped, expected = TwoStageIndex.load(saved, mapped=True), TwoStageIndex.load(saved).query(queries)
    assert mapped.query(queries).ids == expected.ids and torch.equal(mapped.query(queries).scores, expected.scores)
    mapped.add(["new"], some(encodings(3, 2, dim=2, whole=2), slice(0, 1)))
    mapped.save(saved)  # over the file that it reads
    assert TwoStageIndex.load(saved).query(queries).ids == mapped.query(queries).ids
    saved.write_bytes(saved.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cannot be read as an index"):
        TwoStageIndex.load(saved, mapped=True)


def test_a_file_cut_short_or_too_long_is_refused(saved):
    whole = saved.read_bytes()
    for size in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="cannot be read as an index"):
            TwoStageIndex.load(saved)
    saved.write_bytes(whole + b"0")
    with pytest.raises(ValueError, match="cannot be read as an index"):
        TwoStageIndex.load(saved)


def test_foreign_files_are_refused(tmp_path, saved):
    path = tmp_path / "other"
    for content in (b"", b"no index at all", json.dumps({"ids": []}).encode(), b"\x80\x05K\x01."):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="other cannot be read as an index"):
            TwoStageIndex.load(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="other holds no index"):
        TwoStageIndex.load(path)
    with pytest.raises(ValueError, match="cannot be read as an index, it is missing"):
        TwoStageIndex.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="cannot be read as an index"):
        TwoStageIndex.load(tmp_path)


@pytest.mark.parametrize("version", ["1", "3"])
def test_another_version_is_refused(tmp_path, monkeypatch, version):
    monkeypatch.setattr(file, "VERSION", version)
    index_of(encodings(3)).save(tmp_path / "other")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=f"holds an index of version {version}, expected 2: make the index again"):
        TwoStageIndex.load(tmp_path / "other")


# --- on anything: numbers that are exact in 32 bits, so that ties are ties -------------------------------------------


@st.composite
def exact_encodings(draw, least=1):
    count, width = draw(st.integers(least, 6)), draw(st.integers(0, 3))

    def drawn(values, *shape):
        size = math.prod(shape)
        return torch.tensor(draw(st.lists(values, min_size=size, max_size=size))).reshape(shape)

    corner = drawn(st.integers(0, 3), count).long()
    vectors = drawn(st.integers(-2, 2), count, width, 2).float()
    whole = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])[corner]
    return GlobalTokens(whole, vectors, drawn(st.booleans(), count, width).bool())


EXACT = st.sampled_from([Alignment(attend, "hard", pooling) for attend in ATTENDED for pooling in ("sum", "max")])
ANYTHING = (st.sampled_from(SIDES), EXACT, exact_encodings(), exact_encodings())


@settings(max_examples=150, deadline=None)
@given(*ANYTHING, st.integers(1, 7), st.integers(1, 7), st.sampled_from([1.0, 0.5, 0.0, -1.0]))
def test_any_index_agrees_with_brute_force(side, how, items, queries, shortlist, top, weight):
    index = index_of(items, side, alignment=how, local_weight=weight)
    found = index.query(queries, shortlist=shortlist, top=top)
    alone = index_of(items.tokens, side, alignment=how).query(queries.tokens, top=top)
    near, local = cosine_scores(queries.whole.double(), items.whole.double()), aligned(how, items, queries, side)
    for q in range(len(near)):
        expected = brute_force(near[q], local[q], shortlist, top, weight)
        assert (found.rows[q].tolist(), found.scores[q].tolist()) == expected
        expected = brute_force(0 * near[q], local[q], len(local[q]), top, 1.0)
        assert (alone.rows[q].tolist(), alone.scores[q].tolist()) == expected


@settings(max_examples=100, deadline=None)
@given(*ANYTHING, st.data())
def test_any_cut_of_the_items_into_calls_makes_the_same_index(side, how, items, queries, data):
    count = len(items.whole)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    index = TwoStageIndex(side, alignment=how)
    for start, stop in itertools.pairwise([0, *cuts, count]):
        index.add(names(stop - start, start), some(items, slice(start, stop)))
    once = index_of(items, side, alignment=how)
    found, expected = (which.query(queries, shortlist=3) for which in (index, once))
    assert index.ids == once.ids and index.bytes_per_item == once.bytes_per_item
    assert found.ids == expected.ids and torch.equal(found.scores, expected.scores)


@settings(max_examples=100, deadline=None)
@given(*ANYTHING, st.data())
def test_any_order_of_the_items_gives_each_the_same_score(side, how, items, queries, data):
    count = len(items.whole)
    order = data.draw(st.permutations(range(count)))
    moved = TwoStageIndex(side, alignment=how)
    moved.add([f"item {row}" for row in order], some(items, torch.tensor(order)))
    found, expected = (w.query(queries, shortlist=count) for w in (moved, index_of(items, side, alignment=how)))
    for ids, scores, *others in zip(found.ids, found.scores, expected.ids, expected.scores, strict=True):
        assert dict(zip(ids, scores.tolist(), strict=True)) == dict(zip(others[0], others[1].tolist(), strict=True))
    assert torch.equal(found.scores, expected.scores)


@settings(max_examples=100, deadline=None)
@given(*ANYTHING, st.data())
def test_any_padding_is_as_none(side, how, items, queries, data):
    """Wider by some places, wherever they are put among the real ones; and what stands there does not matter."""

    def wider(encoded):
        width = encoded.mask.shape[1]
        place = sorted(data.draw(st.permutations(range(width + 2)))[:width])
        mask = torch.zeros(len(encoded.mask), width + 2, dtype=torch.bool)
        vectors = torch.full((len(encoded.mask), width + 2, 2), torch.nan)
        mask[:, place], vectors[:, place] = encoded.mask, encoded.vectors
        return encoded._replace(vectors=vectors, mask=mask)

    found = index_of(wider(items), side, alignment=how).query(wider(queries), shortlist=3)
    expected = index_of(items, side, alignment=how).query(queries, shortlist=3)
    assert found.ids == expected.ids and torch.equal(found.scores, expected.scores)


# --- what is refused -------------------------------------------------------------------------------------------------


def changed(encoded, **parts):
    return encoded._replace(**parts)


GOOD = encodings(2, seed=26)
BAD_ENCODINGS = {
    "NaN in a vector": (changed(GOOD, whole=GOOD.whole * torch.nan), r"encoded\.whole holds NaN"),
    "NaN in a token": (changed(GOOD, mask=torch.ones_like(GOOD.mask)), r"encoded\.vectors holds NaN"),
    "an infinite vector": (changed(GOOD, whole=GOOD.whole / 0), r"encoded\.whole holds NaN or infinite"),
    "another width": (encodings(2, whole=7), "encoded has vectors of 7 numbers, expected 6"),
    "another width of tokens": (encodings(2, dim=9), "encoded has token vectors of 9 numbers, expected 8"),
    "vectors alone": (GOOD.whole, "has a vector each, expected a vector and tokens each as the items"),
    "tokens alone": (Tokens(*GOOD[1:]), "has tokens each, expected a vector and tokens each as the items"),
    "a list": ([[1.0]], "encoded is a list"),
    "too few token rows": (changed(GOOD, vectors=GOOD.vectors[:1]), r"encoded\.vectors has shape"),
    "another mask": (changed(GOOD, mask=GOOD.mask[:, :1]), r"encoded\.mask has shape"),
    "a mask of numbers": (changed(GOOD, mask=GOOD.mask.float()), r"encoded\.mask holds"),
    "tokens of integers": (changed(GOOD, vectors=GOOD.vectors.nan_to_num().long()), r"encoded\.vectors holds"),
    "a vector for all": (changed(GOOD, whole=GOOD.whole[0]), r"encoded\.whole has shape"),
    "integers": (changed(GOOD, whole=GOOD.whole.long()), r"encoded\.whole holds"),
}


@pytest.mark.parametrize("what", BAD_ENCODINGS)
def test_bad_encodings_are_refused_and_leave_no_trace(what):
    encoded, message = BAD_ENCODINGS[what]
    index = index_of(encodings(3))
    with pytest.raises(ValueError, match=message):
        index.query(encoded)
    with pytest.raises(ValueError, match=message):
        index.add(["x", "y"], encoded)
    assert len(index) == 3 and index.bytes_per_item == index_of(encodings(3)).bytes_per_item
    index.add(["x", "y"], GOOD)


def test_tokens_against_an_index_of_vectors():
    index = index_of(encodings(3).whole)
    for call in (index.query, lambda encoded: index.add(["x", "y"], encoded)):
        with pytest.raises(ValueError, match=r"expected a vector each as the items .* have: give encoded\.whole"):
            call(GOOD)
    with pytest.raises(ValueError, match=r"expected tokens each as the items .* have: give encoded\.tokens"):
        index_of(GOOD.tokens).query(GOOD)


def test_a_token_too_large_for_16_bits_is_refused():
    large = changed(GOOD, vectors=1e6 * GOOD.vectors)
    with pytest.raises(ValueError, match="holds NaN or infinite numbers, at least as torch.float16"):
        index_of(large, token_dtype=torch.float16)
    index_of(large)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["item 1", "x"], "'item 1', which is in the index already"),
        (["x", "x"], "'x', which is twice"),
        (["x"], "ids holds 1 names, expected 2"),
        (["x", 3], "holds 3, expected strings"),
        ("xy", "ids is 'xy', expected a list of strings"),
    ],
)
def test_bad_ids_are_refused_and_leave_no_trace(ids, message):
    index = index_of(encodings(3))
    with pytest.raises(ValueError, match=message):
        index.add(ids, GOOD)
    assert index.ids == names(3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shortlist": 0}, "shortlist is 0"),
        ({"shortlist": 2.5}, "shortlist is 2.5"),
        ({"top": 0}, "top is 0"),
        ({"top": None}, "top is None"),
        ({"local_weight": math.nan}, "local_weight is nan"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        index_of(encodings(3)).query(GOOD, **settings)


def test_an_empty_index_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the index is empty: add items"):
        TwoStageIndex("images").query(GOOD)
    with pytest.raises(ValueError, match="nothing to save"):
        TwoStageIndex("images").save(tmp_path / "empty")
    with pytest.raises(ValueError, match="side is 'image'"):
        TwoStageIndex("image")
    with pytest.raises(ValueError, match="token_dtype is torch.int16"):
        TwoStageIndex("images", token_dtype=torch.int16)
    with pytest.raises(ValueError, match="alignment is 'MrSw', expected an itr_lib.similarity.Alignment"):
        TwoStageIndex("images", alignment="MrSw")
    with pytest.raises(ValueError, match="local_weight is inf"):
        TwoStageIndex("images", local_weight=math.inf)


def test_what_is_found_has_names():
    found = index_of(encodings(3)).query(GOOD, top=2)
    assert isinstance(found, Found) and found._fields == ("ids", "rows", "scores")
    assert found.rows.dtype == torch.long and found.scores.dtype == torch.float32
