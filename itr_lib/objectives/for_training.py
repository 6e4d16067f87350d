"""What the training loop calls: from a model and a batch to one loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from itr_lib.data.batches import Batch
from itr_lib.objectives.losses import consistency_loss, info_nce, triplet_loss, unified_loss, unified_queue_loss

# A torch module that keeps the contract of itr_lib.models.contract, which stands a floor higher.
Model = Any
Objective = Callable[[Model, Batch, int], Tensor]


@dataclass(frozen=True)
class TripletObjective:
    """Hinge loss: all negatives in the first ``warmup_epochs``, then the hardest, which can collapse a new model."""

    margin: float = 0.2
    warmup_epochs: int = 1
    mask_same_image: bool = True

    def __call__(self, model: Model, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        """Loss of one batch in the given epoch (counted from 0), per query."""
        scores = _scores(model, batch)
        negatives = "all" if epoch < self.warmup_epochs else "hardest"
        same_image = batch.same_image if self.mask_same_image else None
        return triplet_loss(scores, margin=self.margin, negatives=negatives, same_image=same_image) / len(scores)


@dataclass(frozen=True)
class InfoNCEObjective:
    """Symmetric cross-entropy at a fixed temperature; None: at the one that the model learns."""

    temperature: float | None = 0.05
    mask_same_image: bool = True

    def __call__(self, model: Model, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        """Loss of one batch. Raises ``ValueError`` where no temperature is given and the model learns none."""
        temperature = getattr(model, "temperature", None) if self.temperature is None else self.temperature
        if temperature is None:
            raise ValueError("temperature is None, expected a number, or a model with learnt_temperature=True (a vse)")
        same_image = batch.same_image if self.mask_same_image else None
        return info_nce(_scores(model, batch), temperature=temperature, same_image=same_image)


@dataclass(frozen=True)
class UnifiedObjective:
    """USER's: the unified objective in the batch, ``batch_weight`` times, and once against each of the model's queues.

    A model without queues trains on the batch alone. ``group``: pairs are negatives of each other only inside groups
    of so many of the batch; lesson 04 counts negatives with it. None: the whole batch. ``floor``: see
    :func:`itr_lib.objectives.unified_loss`; the paper's is 0.
    """

    mu: float = 90.0
    gamma: float = 0.5
    batch_weight: float = 20.0
    mask_same_image: bool = True
    group: int | None = None
    floor: float = 0.0

    def __call__(self, model: Model, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        """Loss of one batch; moves the key encoders, and puts the batch's keys into the queues."""
        images, captions = model.encode_images(batch.images), model.encode_captions(batch.captions)
        settings = {"mu": self.mu, "gamma": self.gamma, "floor": self.floor}
        in_batch = unified_loss(model.scores(images, captions), same_image=self._no_negative(batch), **settings)
        loss = self.batch_weight * in_batch
        if getattr(model, "image_queue", None) is None:
            return loss
        image_keys, caption_keys = model.encode_keys(batch)
        for queries, keys, queue in (
            (images, caption_keys, model.caption_queue),
            (captions, image_keys, model.image_queue),
        ):
            negative_mask = batch.image_ids[:, None] != queue.ids if self.mask_same_image else None
            loss = loss + unified_queue_loss(queries, keys, queue.keys, negative_mask=negative_mask, **settings)
        model.image_queue.enqueue(image_keys, batch.image_ids)
        model.caption_queue.enqueue(caption_keys, batch.image_ids)
        return loss

    def _no_negative(self, batch: Batch) -> Bool[Tensor, "batch batch"] | None:
        """True where a pair of the batch is never a negative, beside the positives."""
        same_image = batch.same_image if self.mask_same_image else None
        if self.group is None:
            return same_image
        group = torch.arange(len(batch.image_ids), device=batch.image_ids.device) // self.group
        elsewhere = group[:, None] != group[None, :]
        return elsewhere if same_image is None else same_image | elsewhere


@dataclass(frozen=True)
class TwoLevelObjective:
    """TGDT's: the CMC loss on the global vectors plus the hinge on the local scores (Liu et al., IEEE TIP 2023).

    The hinges count all negatives in the first ``warmup_epochs``, then the hardest. With a ``temperature`` the global
    vectors learn by InfoNCE instead, a mean over the two directions where the hinges are their sum; None: the paper's
    hinge. A weight of 0 leaves its part out.
    """

    margin: float = 0.2
    intra_margin: float = 0.3
    global_weight: float = 1.0
    intra_weight: float = 1.0
    local_weight: float = 1.0
    warmup_epochs: int = 1
    temperature: float | None = None
    mask_same_image: bool = True

    def __call__(self, model: Model, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        """Loss of one batch in the given epoch (counted from 0), per query."""
        images, captions = model.encode_images(batch.images), model.encode_captions(batch.captions)
        same_image = batch.same_image if self.mask_same_image else None
        negatives = "all" if epoch < self.warmup_epochs else "hardest"
        hinge = {"margin": self.margin, "negatives": negatives, "same_image": same_image}
        size, loss = len(batch.image_ids), images.whole.new_zeros(())
        if self.global_weight:
            scores = model.global_scores(images, captions)
            if self.temperature is None:
                pairs = triplet_loss(scores, **hinge) / size
            else:
                pairs = info_nce(scores, temperature=self.temperature, same_image=same_image)
            loss = loss + self.global_weight * pairs
        if self.intra_weight:
            within = images.whole @ images.whole.T, captions.whole @ captions.whole.T
            loss = loss + self.intra_weight * consistency_loss(*within, margin=self.intra_margin) / size
        if self.local_weight:
            loss = loss + self.local_weight * triplet_loss(model.local_scores(images, captions), **hinge) / size
        return loss


def _scores(model: Model, batch: Batch) -> Float[Tensor, "batch batch"]:
    return model.scores(model.encode_images(batch.images), model.encode_captions(batch.captions))
