"""Size augmentation: other sets of regions and words at each step (CHAN, Pan et al., CVPR 2023; from VSE-infinity).

Randomness comes from torch's global generator of the batch's device, as dropout's does.
"""

from __future__ import annotations

import torch

from itr_lib.data.batches import CaptionBatch, ImageBatch

# Of the words that are chosen: VSE-infinity's released code masks half, replaces a tenth and drops the rest.
MASKED, REPLACED = 0.5, 0.1


def drop_regions(batch: ImageBatch, share: float = 0.2) -> ImageBatch:
    """Leave each region out with probability ``share``; an image keeps at least one."""
    _expect_share(share)
    lot = torch.rand(batch.mask.shape, device=batch.mask.device).masked_fill(~batch.mask, -1)
    kept = batch.mask & ((lot >= share) | (lot == lot.amax(dim=1, keepdim=True)))
    return batch._replace(mask=kept)


def corrupt_words(
    batch: CaptionBatch, share: float = 0.2, mask_token: int = 4, vocabulary_size: int = 8000
) -> CaptionBatch:
    """Mask, replace (by any entry of the vocabulary) or drop each word with probability ``share``.

    The first and the last real token of a caption, ``[CLS]`` and ``[SEP]``, stay. What follows a dropped word moves up.
    """
    _expect_share(share)
    ids, mask = batch
    lot = torch.rand(mask.shape, device=mask.device) / share if share else torch.full(mask.shape, 1.0)
    edge = mask.long().cumsum(dim=1) == mask.sum(dim=1, keepdim=True)
    edge[:, 0] = True
    chosen = mask & ~edge & (lot.to(mask.device) < 1)
    masked = chosen & (lot < MASKED)
    replaced = chosen & ~masked & (lot < MASKED + REPLACED)
    ids = torch.where(masked, mask_token, ids)
    ids = torch.where(replaced, torch.randint_like(ids, vocabulary_size), ids)
    kept = mask & ~(chosen & ~masked & ~replaced)
    order = (~kept).long().argsort(dim=1, stable=True)
    return CaptionBatch(ids.gather(1, order), kept.gather(1, order))


def _expect_share(share: float) -> None:
    if not 0 <= share < 1:
        raise ValueError(f"share is {share}, expected at least 0 and less than 1")
