"""Packed sets against plain lists, over any sizes: empty sets, empty widths, sets of one element."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from itr_lib.similarity.packing import Sets, pack

# A mask, row by row; every row as wide as the first.
MASKS = st.tuples(st.integers(0, 6), st.integers(0, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.booleans(), min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
    )
)
any_mask = given(rows=MASKS, width=st.integers(0, 3))
quick = settings(max_examples=150, deadline=None)


def padded(rows: list[list[bool]], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors that tell where they stand, and the mask; no row at all has the given width."""
    mask = torch.tensor(rows, dtype=torch.bool).reshape(len(rows), len(rows[0]) if rows else width)
    return torch.arange(mask.numel() * 2.0, dtype=torch.float64).reshape(*mask.shape, 2), mask


def unpacked(sets: Sets) -> dict[int, list]:
    """The elements of each packed set, under the place where it stood before."""
    parts = sets.vectors.split(list(sets.sizes))
    return {place: part.tolist() for place, part in zip(sets.places.tolist(), parts, strict=True)}


def holds(packer: Callable[..., Sets], rows: list[list[bool]], width: int) -> bool:
    """Whether what was packed is a permutation of the real elements, and says rightly which."""
    vectors, mask = padded(rows, width)
    sets = packer(vectors, mask)
    truth = {i: v[m].tolist() for i, (v, m) in enumerate(zip(vectors, mask, strict=True)) if m.any()}
    return (
        sum(sets.sizes) == len(sets.vectors)
        and unpacked(sets) == truth
        and list(sets.sizes) == sorted(sets.sizes)
        and sets.starts.tolist() == [sum(sets.sizes[:i]) for i in range(len(sets.sizes))]
        and sets.places.dtype == sets.starts.dtype == torch.long
        and sets.total == len(rows)
    )


@quick
@example(rows=[], width=3)
@example(rows=[[], []], width=0)
@example(rows=[[False, False], [False, True]], width=0)
@any_mask
def test_packing_keeps_every_real_element_and_nothing_else(rows, width):
    assert holds(pack, rows, width)


@quick
@any_mask
def test_no_mask_packs_everything_as_it_lies(rows, width):
    vectors, mask = padded(rows, width)
    bare, full = pack(vectors), pack(vectors, torch.ones_like(mask))
    assert torch.equal(bare.vectors, vectors.flatten(0, 1)) and unpacked(bare) == unpacked(full)
    assert bare[1:2] == full[1:2] and bare.total == full.total == len(rows)


def pads_left(vectors, mask):
    return pack(vectors.flip(1), mask.flip(1))


def takes_padding_for_real(vectors, mask):
    return pack(vectors, mask | mask.any(dim=1, keepdim=True))


def takes_the_first_elements(vectors, mask):
    return pack(vectors, mask.sort(dim=1, descending=True).values)


def forgets_the_empty(vectors, mask):
    return pack(vectors[mask.any(dim=1)], mask[mask.any(dim=1)])


def counts_places_among_the_sorted(vectors, mask):
    sets = pack(vectors, mask)
    return sets._replace(places=torch.arange(len(sets.sizes)))


def starts_with_the_end(vectors, mask):
    sets = pack(vectors, mask)
    return sets._replace(starts=torch.tensor(sets.sizes, dtype=torch.long).cumsum(0))


def keeps_the_order_of_sets(vectors, mask):
    some = mask.any(dim=1).nonzero()[:, 0]
    sizes = mask[some].sum(dim=1)
    return Sets(vectors[mask], tuple(sizes.tolist()), sizes.cumsum(0) - sizes, some, len(mask))


WRONG = [pads_left, takes_padding_for_real, takes_the_first_elements, forgets_the_empty]
WRONG += [counts_places_among_the_sorted, starts_with_the_end, keeps_the_order_of_sets]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_packers_are_told_from_it(wrong):
    rows = [[True, True, False], [False, False, False], [False, False, True], [False, True, True]]
    assert holds(pack, rows, 0) and not holds(wrong, rows, 0)


@quick
@any_mask
def test_gradients_reach_the_real_elements_once_and_padding_never(rows, width):
    vectors, mask = padded(rows, width)
    pack(vectors.requires_grad_(), mask).vectors.sum().backward()
    assert torch.equal(vectors.grad, mask[..., None].expand_as(vectors).double())


@quick
@given(rows=MASKS, limit=st.integers(1, 12))
def test_blocks_are_the_sets_in_their_order_and_within_the_limit(rows, limit):
    vectors, mask = padded(rows, 2)
    sets = pack(vectors, mask)
    blocks = list(sets.blocks(limit))
    assert [size for block in blocks for size in block.sizes] == list(sets.sizes)
    assert torch.equal(torch.cat([sets.vectors[:0], *(block.vectors for block in blocks)]), sets.vectors)
    together = {}
    for block in blocks:
        together |= unpacked(block)
        assert len(block.vectors) <= limit or len(block.sizes) == 1
        assert block.total == sets.total
        assert block.starts.tolist() == [sum(block.sizes[:i]) for i in range(len(block.sizes))]
    assert together == unpacked(sets)
    for one, after in zip(blocks, blocks[1:], strict=False):  # none is smaller than it need be
        assert len(one.vectors) + after.sizes[0] > limit


@quick
@any_mask
def test_each_calls_with_one_size_at_a_time_along_either_axis(rows, width):
    sets = pack(*padded(rows, width))
    if not sets.sizes:
        return
    expected = torch.stack([part.prod(dim=0) for part in sets.vectors.split(list(sets.sizes))])
    assert torch.equal(sets.each(lambda part: part.prod(dim=1), sets.vectors), expected)
    assert torch.equal(sets.each(lambda part: part.prod(dim=2), sets.vectors.T, dim=1), expected.T)
    both = sets.each(lambda one, other: (one * other).sum(dim=1), sets.vectors, sets.vectors + 1)
    assert torch.equal(both, torch.stack([(p * (p + 1)).sum(dim=0) for p in sets.vectors.split(list(sets.sizes))]))
