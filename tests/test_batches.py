"""Batches: every caption once, no false negatives, padding cut and masked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import toy_data

from itr_lib.checks.unique_batches import batch_properties
from itr_lib.data import tokenise, train_tokenizer
from itr_lib.data.batches import caption_batch, epoch_order, image_batch, pair_batch, steps_per_epoch
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.tokenisation import TokenisedCaptions


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=20), st.integers(2, 9), st.integers(0, 5), st.booleans())
def test_every_caption_once_and_no_image_twice(counts, size, seed, shuffled):
    owner = np.repeat(np.arange(len(counts)), counts)
    owner = np.random.default_rng(seed).permutation(owner) if shuffled else owner
    batches = list(epoch_order(owner, size, np.random.default_rng(seed)))
    assert sorted(np.concatenate(batches)) == list(range(len(owner)))
    assert all(len(b) <= size and len(set(owner[b])) == len(b) for b in batches)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20).filter(any), st.integers(2, 9), st.booleans())
def test_the_steps_of_an_epoch_are_known_before_the_walk(counts, size, unique):
    """Whatever images have how many captions, those without any included."""
    owner = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    walked = len(list(epoch_order(owner, size, np.random.default_rng(1), unique)))
    assert steps_per_epoch(owner, size, unique) == walked
    assert isinstance(steps_per_epoch(owner, size, unique), int)


def test_the_exercises_property_check_agrees():
    owner = np.repeat(np.arange(30), 5)

    def run(rng=None):
        return list(epoch_order(owner, 8, rng or np.random.default_rng(0)))

    batch_properties({"image_of_caption": owner, "batch_size": 8}, run)


def test_batches_of_a_round_are_alike_in_size():
    sizes = [len(b) for b in epoch_order(np.repeat(np.arange(130), 5), 64, np.random.default_rng(0))]
    assert sizes == [44, 43, 43] * 5


def test_order_depends_on_the_generator_alone():
    owner = np.repeat(np.arange(30), 5)
    first, again, other = (
        np.concatenate(list(epoch_order(owner, 8, np.random.default_rng(seed)))) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_captions_as_they_come_hold_false_negatives_and_the_mask_knows():
    data = toy_data(images=12, captions=5)
    tokens = tokenise(train_tokenizer(data.captions), data.captions)
    drawn = next(iter(epoch_order(data.image_of_caption, 30, np.random.default_rng(0), unique_images=False)))
    batch = pair_batch(data, tokens, drawn)
    owners = data.image_of_caption[drawn]
    assert batch.same_image.sum() > len(drawn)
    assert np.array_equal(batch.same_image.numpy(), owners[:, None] == owners[None, :])


def test_padding_is_cut_to_what_the_batch_needs():
    data = toy_data(images=4)
    data.region_mask[:, 3:] = False
    batch = image_batch(data, np.array([2, 0]))
    assert batch.features.shape[:2] == (2, 3) and batch.features.dtype == torch.float32
    assert torch.equal(batch.features, torch.from_numpy(data.features[[2, 0], :3]).float())
    tokens = TokenisedCaptions(
        np.arange(12, dtype=np.int32).reshape(3, 4), np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1] * 4], bool)
    )
    captions = caption_batch(tokens, np.array([0, 1]))
    assert captions.ids.tolist() == [[0, 1, 2], [4, 5, 6]] and captions.mask.tolist() == [[1, 1, 0], [1, 1, 1]]


def test_a_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="batch_size is 1"):
        next(epoch_order(np.arange(4), 1, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="batch_size is 0"):
        steps_per_epoch(np.arange(4), 0)


def test_take_keeps_captions_with_their_images():
    data = toy_data(images=6, captions=3)
    part = data.take(np.array([4, 1]), "part")
    assert part.split == "part" and part.image_ids == (data.image_ids[4], data.image_ids[1])
    assert part.captions_of(0) == data.captions_of(4) and part.captions_of(1) == data.captions_of(1)
    assert np.array_equal(part.features, data.features[[4, 1]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_of_caption": np.zeros(3, int)}, "image_of_caption"),
        ({"image_of_caption": np.r_[np.zeros(11, int), 9]}, "outside 0..3"),
        ({"image_of_caption": np.zeros(12, int)}, "has no caption"),
        ({"image_ids": ("a", "a", "b", "c")}, "twice"),
        ({"boxes": np.zeros((4, 2, 4))}, "boxes"),
        ({"features": np.zeros((4, 3, 8))}, "features"),
    ],
)
def test_a_split_that_does_not_fit_together(change, message):
    data = toy_data(images=4, captions=3)
    fields = {name: getattr(data, name) for name in RetrievalData.__dataclass_fields__}
    with pytest.raises(ValueError, match=message):
        RetrievalData(**{**fields, **change})
