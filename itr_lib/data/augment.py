"""Size augmentation: other sets of regions and words at each step (CHAN, Pan et al., CVPR 2023; from VSE-infinity).

Randomness comes from torch's global generator of the batch's device, as dropout's does.
"""

from __future__ import annotations

import torch
from torch.nn.functional import dropout

from itr_lib.data.batches import Batch, CaptionBatch, ImageBatch, words_only

# Of the words that are chosen: VSE-infinity's released code masks half, replaces a tenth and drops the rest.
MASKED, REPLACED = 0.5, 0.1


def drop_regions(batch: ImageBatch, share: float) -> ImageBatch:
    """Leave each region out with probability ``share``; an image keeps at least one."""
    _expect_share(share)
    lot = torch.rand(batch.mask.shape, device=batch.mask.device).masked_fill(~batch.mask, -1)
    kept = batch.mask & ((lot >= share) | (lot == lot.amax(dim=1, keepdim=True)))
    return batch._replace(mask=kept)


def drop_features(batch: ImageBatch, share: float) -> ImageBatch:
    """Dropout on what comes in: each feature is 0 with probability ``share``, for all regions of an image alike.

    What stays is scaled up, so that sums keep their size.
    """
    _expect_share(share)
    ones = torch.ones_like(batch.features[:, :1])  # a lot a feature, not one a feature and region: cheap, and as good
    return batch._replace(features=batch.features * dropout(ones, share))


def seen_in_part(batch: Batch, regions: float, features: float) -> Batch:
    """A batch whose images lose these shares of their regions and features; at 0 nothing is drawn."""
    images = drop_regions(batch.images, regions) if regions else batch.images
    return batch._replace(images=drop_features(images, features) if features else images)


def corrupt_words(batch: CaptionBatch, share: float, mask_token: int, vocabulary_size: int) -> CaptionBatch:
    """Mask, replace (by any entry of the vocabulary) or drop each word piece with probability ``share``.

    A caption's first and last real token, ``[CLS]`` and ``[SEP]``, stay. What follows a dropped piece moves up.
    """
    _expect_share(share)
    ids, mask = batch
    lot = torch.rand(mask.shape, device=mask.device)
    chosen = words_only(mask) & (lot < share)
    masked = chosen & (lot < MASKED * share)
    replaced = chosen & ~masked & (lot < (MASKED + REPLACED) * share)
    ids = torch.where(masked, mask_token, ids)
    ids = torch.where(replaced, torch.randint_like(ids, vocabulary_size), ids)
    kept = mask & ~(chosen & ~masked & ~replaced)
    order = (~kept).long().argsort(dim=1, stable=True)
    return CaptionBatch(ids.gather(1, order), kept.gather(1, order))


def _expect_share(share: float) -> None:
    if not 0 <= share < 1:
        raise ValueError(f"share is {share}, expected at least 0 and less than 1")
