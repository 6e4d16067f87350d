"""Data to batches: rows to padded tensors, and an order for an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from itr_lib.data.dataset import RetrievalData
from itr_lib.transfer import upload


class ImageBatch(NamedTuple):
    """Images as sets of regions; mask: True = a real region; guide: another model's vector of the whole picture."""

    features: Float[Tensor, "images regions features"]
    boxes: Float[Tensor, "images regions 4"]
    mask: Bool[Tensor, "images regions"]
    guide: Float[Tensor, "images guide"] | None = None


class CaptionBatch(NamedTuple):
    """Captions as token ids; mask: True = a real token."""

    ids: Int[Tensor, "captions tokens"]
    mask: Bool[Tensor, "captions tokens"]


class Batch(NamedTuple):
    """B pairs: image i, caption i, and the row of their image in the data set."""

    images: ImageBatch
    captions: CaptionBatch
    image_ids: Int[Tensor, " batch"]

    @property
    def same_image(self) -> Bool[Tensor, "batch batch"]:
        """True where image and caption belong together: the diagonal, and each further pair of one picture."""
        return self.image_ids[:, None] == self.image_ids[None, :]


def words_only(mask: Bool[Tensor, "captions tokens"]) -> Bool[Tensor, "captions tokens"]:
    """The mask without the first and the last real token of each caption: ``[CLS]`` and ``[SEP]`` are no words."""
    place = mask.long().cumsum(dim=1)
    return mask & (place > 1) & (place < mask.sum(dim=1, keepdim=True))


def image_batch(data: RetrievalData, rows: Int[np.ndarray, " some"], device: torch.device | str = "cpu") -> ImageBatch:
    """Some images of a split as tensors, cut to the largest number of regions among them.

    Raises ``ValueError`` where the split's features are still to be extracted.
    """
    data.expect_features()
    mask = data.region_mask[rows]
    width = _used(mask)
    return ImageBatch(
        _tensor(data.features[rows, :width], device).float(),
        _tensor(data.boxes[rows, :width], device).float(),
        _tensor(mask[:, :width], device),
        None if data.guides is None else _tensor(data.guides[rows], device).float(),
    )


def caption_batch(
    tokens: TokenisedCaptions, rows: Int[np.ndarray, " some"], device: torch.device | str = "cpu"
) -> CaptionBatch:
    """Some captions as tensors, cut to the longest among them."""
    mask = tokens.mask[rows]
    width = _used(mask)
    return CaptionBatch(_tensor(tokens.ids[rows, :width], device).long(), _tensor(mask[:, :width], device))


def pair_batch(
    data: RetrievalData,
    tokens: TokenisedCaptions,
    captions: Int[np.ndarray, " batch"],
    device: torch.device | str = "cpu",
) -> Batch:
    """The batch of these captions and their images."""
    images = data.image_of_caption[captions]
    return Batch(image_batch(data, images, device), caption_batch(tokens, captions, device), _tensor(images, device))


def epoch_order(
    image_of_caption: Int[np.ndarray, " captions"],
    batch_size: int,
    rng: np.random.Generator,
    unique_images: bool = True,
) -> Iterator[Int[np.ndarray, " batch"]]:
    """Caption rows of one epoch, batch by batch; every caption comes exactly once.

    With ``unique_images`` no batch holds two captions of one picture, so that every other caption in it is an
    honest negative: the epoch goes in rounds, and each round takes one caption of every image that has one left.
    Without it captions are drawn as they come, and the loss needs ``same_image`` to mask the false negatives.
    Batches of a round differ by one at most. Where images differ in their number of captions the last rounds are
    small; a batch of one, which has no negative, costs nothing.
    """
    _expect_some_negative(batch_size)
    order = rng.permutation(len(image_of_caption))
    if not unique_images:
        rounds = [order]
    else:
        by_image = order[np.argsort(image_of_caption[order], kind="stable")]
        starts = np.flatnonzero(np.diff(image_of_caption[by_image], prepend=-1))
        sizes = np.diff(starts, append=len(by_image))
        turn = np.arange(len(by_image)) - np.repeat(starts, sizes)  # 0 for an image's first caption, 1 for its second
        rounds = [rng.permutation(by_image[turn == t]) for t in range(sizes.max())]
    for captions in rounds:
        yield from np.array_split(captions, -(-len(captions) // batch_size))


def steps_per_epoch(image_of_caption: Int[np.ndarray, " captions"], batch_size: int, unique_images: bool = True) -> int:
    """How many batches :func:`epoch_order` yields; whatever the order, it is one number."""
    _expect_some_negative(batch_size)
    rounds = [len(image_of_caption)]
    if unique_images:
        counts = np.bincount(image_of_caption)
        rounds = [int((counts > turn).sum()) for turn in range(counts.max())]
    return sum(-(-captions // batch_size) for captions in rounds)


def _expect_some_negative(batch_size: int) -> None:
    if batch_size < 2:
        raise ValueError(f"batch_size is {batch_size}, expected 2 or more: one pair alone has no negative")


def _tensor(array: np.ndarray, device: torch.device | str) -> Tensor:
    return upload(torch.from_numpy(np.ascontiguousarray(array)), device)


def _used(mask: Bool[np.ndarray, "rows width"]) -> int:
    return int(np.flatnonzero(mask.any(axis=0)).max(initial=0)) + 1
