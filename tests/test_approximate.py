"""Codes, cells, walks, fewer tokens, machines: lesson 07's part of the library, beside plain loops and faiss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from itr_lib.encoders.tokens import Tokens
from itr_lib.lessons import collection
from itr_lib.search.capacity import machines
from itr_lib.search.cells import search_cells, sorted_by_cell
from itr_lib.search.codes import code_scores, k_means, nearest, product_codes, train_codebooks
from itr_lib.search.fewer_tokens import first_ones, merged
from itr_lib.search.graph import neighbour_graph, opened_on_the_way, walk
from itr_lib.similarity import l2_normalise

VECTORS = collection.made_vectors(600, dim=16, seed=3)
QUERY = VECTORS[7] + 0.2 * VECTORS[8]


def squared_error(vectors: torch.Tensor, centroids: torch.Tensor) -> float:
    return float((vectors - centroids[nearest(vectors, centroids)]).square().sum())


# --- codes -----------------------------------------------------------------------------------------------------------


def test_nearest_is_nearest_beside_all_distances_and_the_first_of_equals():
    centroids = 2 * torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(nearest(VECTORS, centroids), torch.cdist(VECTORS, centroids).argmin(dim=1))
    assert nearest(torch.zeros(1, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist() == [0]


def test_each_round_of_k_means_lowers_the_error_and_equal_input_gives_equal_centroids():
    errors = [squared_error(VECTORS, k_means(VECTORS, 12, seed=1, rounds=n)) for n in range(6)]
    assert all(later <= earlier + 1e-4 for earlier, later in zip(errors, errors[1:], strict=False))
    assert errors[5] < 0.95 * errors[0]
    assert torch.equal(k_means(VECTORS, 12, seed=1), k_means(VECTORS, 12, seed=1))
    assert not torch.equal(k_means(VECTORS, 12, seed=1), k_means(VECTORS, 12, seed=2))


def test_k_means_ends_at_the_means_of_its_own_cells_and_survives_equal_vectors():
    centroids = k_means(VECTORS, 5, rounds=200)
    own = nearest(VECTORS, centroids)
    means = torch.stack([VECTORS[own == c].mean(dim=0) for c in range(5)])
    torch.testing.assert_close(centroids, means, atol=1e-5, rtol=0)
    assert k_means(torch.ones(9, 3), 4).isfinite().all()


def test_k_means_is_as_good_as_faiss():
    faiss = pytest.importorskip("faiss", reason="of the extra scale")
    theirs = faiss.Kmeans(16, 12, niter=10, seed=1)
    theirs.train(VECTORS.numpy())
    ours = min(squared_error(VECTORS, k_means(VECTORS, 12, seed=s)) for s in range(3))
    assert ours < 1.03 * squared_error(VECTORS, torch.from_numpy(theirs.centroids))


def test_codes_and_their_scores_are_those_of_faiss():
    faiss = pytest.importorskip("faiss", reason="of the extra scale")
    pq = faiss.ProductQuantizer(16, 4, 8)
    pq.train(VECTORS.numpy())
    books = torch.from_numpy(faiss.vector_to_array(pq.centroids).reshape(4, 256, 4))
    codes = product_codes(VECTORS, books)
    np.testing.assert_array_equal(codes.numpy(), pq.compute_codes(VECTORS.numpy()))
    rebuilt = torch.from_numpy(pq.decode(pq.compute_codes(VECTORS.numpy())))
    torch.testing.assert_close(code_scores(QUERY, codes.to(torch.uint8), books), rebuilt @ QUERY)


def test_codes_of_centroids_are_their_own_numbers_and_their_scores_exact():
    books = train_codebooks(VECTORS, 4, size=9, seed=2)
    whole = torch.cat(list(books), dim=1)  # vector k: the k-th centroid of every part
    codes = product_codes(whole, books)
    assert torch.equal(codes, torch.arange(9)[:, None].expand(9, 4))
    torch.testing.assert_close(code_scores(QUERY, codes, books), whole @ QUERY)
    assert code_scores(QUERY, codes[:0], books).shape == (0,)


@pytest.mark.parametrize(("call", "told"), [
    (lambda: k_means(VECTORS, 601), "600 vectors cannot have 601 centroids"),
    (lambda: k_means(VECTORS, 0), "cannot have 0 centroids"),
    (lambda: train_codebooks(VECTORS, 3), "parts is 3, expected a number that divides"),
    (lambda: train_codebooks(VECTORS, 4, size=700), "600 vectors cannot have 700"),
    (lambda: neighbour_graph(VECTORS, 600, 1), "near is 600, expected 1 to 599"),
    (lambda: walk(QUERY, VECTORS, neighbour_graph(VECTORS, 2, 1), 600, 3), "start 600, expected .* 0 to 599"),
    (lambda: walk(QUERY, VECTORS, neighbour_graph(VECTORS, 2, 1), 0, 0), "beam is 0"),
    (lambda: merged(Tokens(VECTORS[None], torch.ones(1, 600, dtype=torch.bool)), 0), "keep"),
    (lambda: collection.made_vectors(0), "count"),
    (lambda: machines(10, 8, 4, 1, 1, 0), "an item takes 8 of 4 bytes"),
    (lambda: machines(10, 8, 40, 1, 1, -1), "spare is -1"),
    (lambda: machines(10, 8, 40, 0, 1, 1), "asked"),
])  # fmt: skip
def test_bad_input_meets_a_sentence(call, told):
    with pytest.raises(ValueError, match=told):
        call()


# --- cells -----------------------------------------------------------------------------------------------------------


def test_cells_hold_everything_once_each_where_its_centroid_is_nearest():
    centroids = torch.cat([k_means(VECTORS, 8), 100 * torch.ones(1, 16)])  # nobody is near the last one
    order, starts = sorted_by_cell(VECTORS, centroids)
    assert sorted(order.tolist()) == list(range(600)) and starts[-2] == starts[-1] == 600
    for cell in range(8):
        rows = order[starts[cell] : starts[cell + 1]]
        assert (torch.cdist(VECTORS[rows], centroids).argmin(dim=1) == cell).all()


def test_with_all_cells_a_search_is_exact_and_more_probes_find_no_less():
    centroids = l2_normalise(k_means(VECTORS, 12))
    order, starts = sorted_by_cell(VECTORS, centroids)
    exact = (VECTORS @ QUERY).argsort(descending=True)
    assert torch.equal(order[search_cells(QUERY, VECTORS[order], starts, centroids, 99)], exact)
    seen = [set(search_cells(QUERY, VECTORS[order], starts, centroids, n).tolist()) for n in range(1, 13)]
    assert all(fewer < more for fewer, more in zip(seen, seen[1:], strict=False))


# --- graph -----------------------------------------------------------------------------------------------------------


def test_neighbours_are_the_most_alike_others_then_some_anywhere():
    links = neighbour_graph(VECTORS, 5, 3, seed=1)
    scores = (VECTORS @ VECTORS.T).fill_diagonal_(-math.inf)
    assert links.shape == (600, 8)
    torch.testing.assert_close(scores.gather(1, links[:, :5]), scores.topk(5).values)
    assert torch.equal(links, neighbour_graph(VECTORS, 5, 3, seed=1))


def test_a_wide_beam_sees_all_that_can_be_reached_and_a_wider_one_no_less():
    links = neighbour_graph(VECTORS, 4, 2)
    reached, todo = {0}, [0]
    while todo:
        new = set(links[todo.pop()].tolist()) - reached
        reached, todo = reached | new, todo + list(new)
    exact = [row for row in (VECTORS @ QUERY).argsort(descending=True).tolist() if row in reached]
    assert walk(QUERY, VECTORS, links, 0, 600).tolist() == exact
    sizes = [len(walk(QUERY, VECTORS, links, 0, beam)) for beam in (1, 2, 5, 10, 20)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_what_is_seen_are_the_start_and_the_neighbours_of_what_is_opened():
    links = neighbour_graph(VECTORS, 4, 1)
    opened = opened_on_the_way(QUERY, VECTORS, links, 11, 6)
    assert opened[0] == 11 and len(set(opened)) == len(opened)
    assert set(walk(QUERY, VECTORS, links, 11, 6).tolist()) == {11} | set(links[opened].flatten().tolist())


# --- tokens ----------------------------------------------------------------------------------------------------------


def merged_in_loops(vectors: list[torch.Tensor], keep: int) -> list[torch.Tensor]:
    """Sums of what belongs together, the most alike pair first."""
    sums = list(vectors)
    while len(sums) > keep:
        pairs = [(i, j) for i in range(len(sums)) for j in range(i + 1, len(sums))]
        i, j = max(pairs, key=lambda p: float(torch.cosine_similarity(sums[p[0]], sums[p[1]], dim=0)))
        sums = [*sums[:i], sums[i] + sums[j], *sums[i + 1 : j], *sums[j + 1 :]]
    return [l2_normalise(one) for one in sums]


@pytest.mark.parametrize("keep", [1, 2, 3, 5, 9])
def test_merged_tokens_are_those_of_loops_whatever_the_padding(keep):
    g = torch.Generator().manual_seed(keep)
    vectors = l2_normalise(torch.randn(6, 7, 5, generator=g))
    mask = torch.rand(6, 7, generator=g) < 0.7
    mask[0], mask[1] = True, False  # everything real; nothing
    few = merged(Tokens(torch.where(mask[..., None], vectors, 9.0), mask), keep)
    for i in range(6):
        expected = merged_in_loops(list(vectors[i][mask[i]]), keep)
        own = few.vectors[i][few.mask[i]]
        assert len(own) == len(expected) == min(keep, int(mask[i].sum()))
        for one in expected:
            assert not len(own) or float((own - one).norm(dim=1).min()) < 1e-5


def test_the_first_tokens_are_the_first_real_ones():
    vectors = torch.arange(8.0).view(2, 4, 1)
    mask = torch.tensor([[False, True, True, True], [True, False, False, False]])
    few = first_ones(Tokens(vectors, mask), 2)
    assert few.vectors[0].flatten().tolist() == [1, 2] and few.mask.tolist() == [[True, True], [True, False]]
    assert few.vectors[1, 0].item() == 4


# --- the made gallery ------------------------------------------------------------------------------------------------


def test_a_longer_gallery_begins_with_a_shorter_one_and_its_variance_falls_along_its_axes(monkeypatch):
    monkeypatch.setattr(collection, "BLOCK", 100)
    long = collection.made_vectors(450, dim=16, seed=3)
    assert torch.equal(collection.made_vectors(230, dim=16, seed=3), long[:230])
    torch.testing.assert_close(long.norm(dim=1), torch.ones(450))
    spread = torch.linalg.svdvals(long)
    assert spread[0] > 2 * spread[-1] and torch.unique(long, dim=0).shape[0] == 450


def test_a_query_is_its_match_and_more_so_the_less_it_is_blurred():
    match = torch.tensor([5, 9])
    near, far = (collection.made_queries(VECTORS, match, blur=blur) for blur in (0.1, 3.0))
    assert ((near @ VECTORS.T).argmax(dim=1) == match).all()
    assert ((near * VECTORS[match]).sum(dim=1) > (far * VECTORS[match]).sum(dim=1)).all()


# --- machines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given, right", [
    ((1000, 64, 64_000, 1, 2**-10, 0), 1),  # fits to the byte, and is busy for 1000/1024 of a second
    ((1001, 64, 64_000, 1, 2**-10, 0), 2),  # one item more: another shard
    ((1024, 64, 64_000, 2, 2**-10, 0), 2),  # two shards of half a second each, asked twice: one copy
    ((1024, 64, 64_000, 3, 2**-10, 0), 4),  # asked three times: two copies
    ((1024, 64, 64_000, 3, 2**-10, 2), 8),  # and two to spare
])  # fmt: skip
def test_machines_by_hand(given, right):
    assert machines(*given) == right


def test_float64_is_as_good():
    vectors = VECTORS.double()
    links, books = neighbour_graph(vectors, 4, 1), train_codebooks(vectors, 4, size=9)
    assert walk(QUERY.double(), vectors, links, 0, 5).tolist() == walk(QUERY, VECTORS, links, 0, 5).tolist()
    scores = code_scores(QUERY.double(), product_codes(vectors, books), books)
    assert scores.dtype == torch.float64
