"""What a sample is: images as sets of region vectors, captions as strings, and who belongs to whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from itr_lib.data.rows import Rows, take_rows

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class SceneTruth:
    """What only a procedural data set knows: the scenes behind the pictures and the meaning behind the words.

    ``scenes`` has one :class:`itr_lib.data.scenes.Scene` an image, ``captions`` one
    :class:`itr_lib.data.scenes.Caption` a caption, ``region_object`` the index of the object that each
    candidate box shows (IoU of at least 0.5 with its true box; -1: background or padding).
    """

    scenes: tuple[Any, ...]
    captions: tuple[Any, ...]
    region_object: Int[np.ndarray, "images regions"]


@dataclass(frozen=True, eq=False)
class RetrievalData:
    """One split of an image-text data set.

    An image is a set of up to ``regions`` feature vectors with their boxes; a data set with a single vector
    an image (a CLIP embedding, say) is the special case of one region whose box is the whole picture. Before features
    are extracted their width is 0: captions, pictures and boxes are there, and what needs features says so.

    Attributes:
        name: the data set, e.g. ``"scenes"`` or ``"flickr8k"``.
        split: ``"train"``, ``"val"``, ``"test"`` or a probe such as ``"swaps"``.
        image_ids: one string an image (a file name, a scene number), unique.
        captions: the captions of all images, one string each.
        image_of_caption: for each caption the row of its image; every image has at least one.
        features: region vectors, zero where padded; float16 or float32. :class:`~itr_lib.data.rows.Rows` where they
            stay on disk: indexed by rows first, they give arrays.
        boxes: ``(x1, y1, x2, y2)`` divided by picture width and height, y downwards; zero where padded.
        region_mask: True = a real region.
        open_picture: row -> RGB picture (drawn or read from disk when asked for), or None without pictures.
        truth: scene graphs and word-to-region truth, where they are known.
        region_labels: what each region shows, as an annotator or a detector named it; "" where padded.
        guides: one global vector an image from another model (a CLIP, say), see :mod:`itr_lib.guides.clip`;
            float16 or float32.
    """

    name: str
    split: str
    image_ids: tuple[str, ...]
    captions: tuple[str, ...]
    image_of_caption: Int[np.ndarray, " captions"]
    features: Float[np.ndarray | Rows, "images regions features"]
    boxes: Float[np.ndarray, "images regions 4"]
    region_mask: Bool[np.ndarray, "images regions"]
    open_picture: Callable[[int], Image] | None = field(default=None, repr=False)
    truth: SceneTruth | None = field(default=None, repr=False)
    guides: Float[np.ndarray, "images guide"] | None = None
    region_labels: Shaped[np.ndarray, "images regions"] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        images, captions = len(self.image_ids), len(self.captions)
        if images == 0:
            raise ValueError(f"split {self.split!r} of {self.name!r} holds no image")
        if len(set(self.image_ids)) != images:
            raise ValueError(f"split {self.split!r} of {self.name!r} holds an image id twice")
        for what, got, expected in [
            ("image_of_caption", self.image_of_caption.shape, (captions,)),
            ("features", self.features.shape[:2], self.region_mask.shape),
            ("region_mask", self.region_mask.shape[:1], (images,)),
            ("boxes", self.boxes.shape, (*self.region_mask.shape, 4)),
        ]:
            if got != expected:
                raise ValueError(f"{what} of {self.name!r}/{self.split!r} has shape {got}, expected {expected}")
        if self.region_labels is not None and self.region_labels.shape != self.region_mask.shape:
            where, shapes = f"{self.name!r}/{self.split!r}", (self.region_labels.shape, self.region_mask.shape)
            raise ValueError(f"region_labels of {where} has shape {shapes[0]}, expected {shapes[1]}")
        if self.guides is not None and (self.guides.ndim != 2 or len(self.guides) != images):
            where = f"{self.name!r}/{self.split!r}"
            raise ValueError(f"guides of {where} has shape {self.guides.shape}, expected ({images}, any width)")
        counts = self.captions_per_image  # raises on a row that does not exist
        if counts.min() == 0:
            lonely = self.image_ids[int(counts.argmin())]
            raise ValueError(f"image {lonely!r} of {self.name!r}/{self.split!r} has no caption")

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def feature_dim(self) -> int:
        """Width of a region vector."""
        return self.features.shape[-1]

    @property
    def guide_dim(self) -> int:
        """Width of a guide; 0 where there are none."""
        return 0 if self.guides is None else self.guides.shape[1]

    @property
    def captions_per_image(self) -> Int[np.ndarray, " images"]:
        """How many captions each image has."""
        index = self.image_of_caption
        if len(index) and (index.min() < 0 or index.max() >= len(self)):
            raise ValueError(f"image_of_caption of {self.name!r}/{self.split!r} names a row outside 0..{len(self) - 1}")
        return np.bincount(index, minlength=len(self))

    def captions_of(self, image: int) -> list[str]:
        """The captions of one image, in their order."""
        return [self.captions[c] for c in np.flatnonzero(self.image_of_caption == image)]

    def picture(self, image: int) -> Image:
        """The RGB picture of one image. Raises ``ValueError`` where the data set came without pictures."""
        if self.open_picture is None:
            raise ValueError(f"{self.name!r}/{self.split!r} was loaded without pictures: give an image folder")
        return self.open_picture(image)

    def expect_features(self) -> None:
        """Raise ``ValueError`` where the image features are still to be extracted."""
        if not self.feature_dim:
            raise ValueError(
                f"{self.name!r}/{self.split!r} has captions and no image features: extract them from the pictures with"
                " `python -m data_scripts.extract_features --help`, or put the feature files beside the captions"
            )

    def take(self, images: Int[np.ndarray, " some"] | Sequence[int], split: str | None = None) -> RetrievalData:
        """The same data cut down to some images (rows, in the order given) with all their captions."""
        images = np.asarray(images)
        position = np.full(len(self), -1)
        position[images] = np.arange(len(images))
        order = np.flatnonzero(position[self.image_of_caption] >= 0)
        order = order[np.argsort(position[self.image_of_caption[order]], kind="stable")]
        truth = self.truth and SceneTruth(
            tuple(self.truth.scenes[i] for i in images),
            tuple(self.truth.captions[c] for c in order),
            self.truth.region_object[images],
        )
        opener = self.open_picture
        return replace(
            self,
            split=split or self.split,
            image_ids=tuple(self.image_ids[i] for i in images),
            captions=tuple(self.captions[c] for c in order),
            image_of_caption=position[self.image_of_caption[order]],
            features=take_rows(self.features, images),
            boxes=self.boxes[images],
            region_mask=self.region_mask[images],
            open_picture=opener and partial(_open_taken, opener, images),
            truth=truth,
            guides=None if self.guides is None else self.guides[images],
            region_labels=None if self.region_labels is None else self.region_labels[images],
        )


def _open_taken(opener: Callable[[int], Image], images: Int[np.ndarray, " some"], row: int) -> Image:
    """The picture of one row of what :meth:`RetrievalData.take` returned: no closure, so that it can be pickled."""
    return opener(int(images[row]))


def known_truth(data: RetrievalData) -> SceneTruth:
    """What is known of scenes. Raises ``ValueError`` for data that came without it."""
    if data.truth is None:
        raise ValueError(f"{data.name!r}/{data.split!r} has no word-region truth: this takes the scenes")
    return data.truth
