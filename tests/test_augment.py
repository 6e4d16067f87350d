"""Size augmentation: what may change, how often, and what must stay."""

from __future__ import annotations

import pytest
import torch

from itr_lib.data.augment import corrupt_words, drop_features, drop_regions, seen_in_part
from itr_lib.data.batches import Batch, CaptionBatch, ImageBatch

SHARE, MASK, VOCABULARY = 0.2, 4, 1000


def images(rows=400, width=36, real=30):
    mask = torch.arange(width).expand(rows, width) < real
    return ImageBatch(torch.zeros(rows, width, 2), torch.zeros(rows, width, 4), mask, torch.ones(rows, 3))


def captions(rows=2000, words=10, padding=3):
    ids = torch.arange(5, 5 + words).expand(rows, words)
    ids = torch.cat([torch.full((rows, 1), 2), ids, torch.full((rows, 1), 3)], dim=1)
    ids = torch.cat([ids, torch.zeros(rows, padding, dtype=torch.long)], dim=1)
    return CaptionBatch(ids, torch.arange(ids.shape[1]).expand(rows, -1) < words + 2)


def test_a_fifth_of_the_regions_goes_and_padding_never_comes_back():
    torch.manual_seed(0)
    batch = images()
    kept = drop_regions(batch, SHARE).mask
    assert not (kept & ~batch.mask).any()
    share = 1 - kept.sum() / batch.mask.sum()
    assert abs(share - SHARE) < 5 * (SHARE * (1 - SHARE) / 12000) ** 0.5


def test_a_feature_goes_for_all_regions_of_an_image_and_sums_keep_their_size():
    torch.manual_seed(0)
    batch = ImageBatch(torch.ones(200, 5, 64), torch.zeros(200, 5, 4), torch.ones(200, 5, dtype=torch.bool))
    seen = drop_features(batch, 0.25).features
    assert (seen == seen[:, :1]).all()
    assert torch.isin(seen, torch.tensor([0.0, 1 / 0.75])).all()
    assert abs((seen[:, 0] == 0).float().mean() - 0.25) < 5 * (0.25 * 0.75 / 12800) ** 0.5
    assert (seen[0, 0] != seen[1, 0]).any()  # each image loses its own
    assert (batch.features == 1).all()


def test_nothing_is_drawn_for_a_batch_that_is_seen_whole():
    batch = Batch(images(4), captions(4), torch.arange(4))
    before = torch.get_rng_state()
    whole = seen_in_part(batch, 0.0, 0.0)
    assert whole.images is batch.images and (torch.get_rng_state() == before).all()
    part = seen_in_part(batch, 0.5, 0.5)
    assert part.images.mask.sum() < batch.images.mask.sum() and part.captions is batch.captions


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    for drop in (drop_regions, drop_features):
        with pytest.raises(ValueError, match="share is"):
            drop(images(2), share)


def test_an_image_keeps_a_region_and_an_empty_one_stays_empty():
    torch.manual_seed(0)
    assert (drop_regions(images(2000, 3, 1), 0.9).mask.sum(dim=1) == 1).all()
    assert not drop_regions(images(5, 3, 0), 0.9).mask.any()


def test_words_are_masked_replaced_and_dropped_in_their_shares():
    torch.manual_seed(0)
    ids, mask = corrupt_words(captions(), SHARE, MASK, VOCABULARY)
    total = 20000
    masked = ((ids == MASK) & mask).sum() / total
    dropped = 1 - (mask.sum() - 2 * len(ids)) / total
    replaced = ((ids > 14) & mask).sum() / total
    for found, expected in ((masked, 0.1), (dropped, 0.08), (replaced, 0.02)):
        assert abs(found - expected) < 5 * (expected * (1 - expected) / total) ** 0.5 + 0.001


def test_frame_and_order_stay_and_gaps_close():
    torch.manual_seed(0)
    for row, real in zip(*corrupt_words(captions(), 0.6, MASK, 5), strict=True):  # replacements are below 5
        words = row[real]
        assert real[: len(words)].all() and words[0] == 2 and words[-1] == 3
        own = words[words >= 5]
        assert (own.diff() > 0).all()


@pytest.mark.parametrize("augment", [lambda b: drop_regions(b[0], 0.0), lambda b: corrupt_words(b[1], 0.0, 4, 9)])
def test_no_share_changes_nothing(augment):
    both = images(3), captions(3)
    after = augment(both)
    before = both[0] if isinstance(after, ImageBatch) else both[1]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_is_less_than_one(share):
    with pytest.raises(ValueError, match="share is"):
        drop_regions(images(2), share)
    with pytest.raises(ValueError, match="share is"):
        corrupt_words(captions(2), share, MASK, VOCABULARY)


def test_everything_stays_on_the_batchs_device():
    batch = CaptionBatch(*(tensor.to("meta") for tensor in captions(3)))
    assert corrupt_words(batch, 0.0, MASK, VOCABULARY).ids.device.type == "meta"
    assert drop_regions(ImageBatch(*(tensor.to("meta") for tensor in images(3))), 0.2).mask.device.type == "meta"
