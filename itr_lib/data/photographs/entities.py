"""Flickr30k Entities: photographs whose phrases are tied to boxes (Plummer et al., IJCV 2017).

A folder holds ``images/``, the captions in Karpathy's format (``dataset_<name>.json``) and ``entities.json``: by file
name the picture's ``size``, ``entities`` with their ``boxes`` in pixels, and ``phrases``, each a ``span`` of tokens of
sentence ``s`` and the entity ``e`` it speaks of. Here the annotated boxes of a picture are its regions, whoever
they were drawn for, and each phrase knows which of them are right. Captions are the joined ``tokens``, since spans
count these. A bad record gets a sentence that names it, as in :mod:`itr_lib.data.photographs.karpathy`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from jaxtyping import Bool, Float, Int, Shaped

from itr_lib.data.cache import cached_folder
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.photographs import crop_features
from itr_lib.data.photographs import pictures as opening
from itr_lib.data.photographs.assembly import PhotographData, split_data
from itr_lib.data.photographs.crop_features import CROP_DIM, describe_pictures
from itr_lib.data.photographs.entity_records import Picture, read_pictures
from itr_lib.data.photographs.features import read_features
from itr_lib.data.photographs.pictures import open_photograph
from itr_lib.data.photographs.problems import Problems, by_cause
from itr_lib.data.photographs.records import Record, Regions
from itr_lib.progress import progress_bar

PICTURES_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Phrases:
    """The phrases of one split that have a box, one row each.

    Attributes:
        caption: row of the caption in the split.
        span: characters ``[from, to)`` of that caption.
        right: True = a region that overlaps a box of the phrase's entity by an IoU of at least 0.5, the field's
            threshold; "two dogs" has a box for each dog, and either is right.
        kind: the entity's first type: people, clothing, bodyparts, animals, vehicles, instruments, scene or other.
        unboxed: how many further phrases have no box (not visual, or the whole scene), and so are not here.
    """

    caption: Int[np.ndarray, " phrases"]
    span: Int[np.ndarray, "phrases 2"]
    right: Bool[np.ndarray, "phrases regions"]
    kind: Shaped[np.ndarray, " phrases"]
    unboxed: int


@dataclass(frozen=True, kw_only=True)
class EntityData(PhotographData):
    """Photographs and, of each split, the phrases."""

    phrases: dict[str, Phrases]


def load_entities(
    root,
    splits: Sequence[str] | None = None,
    *,
    limit: int | None = None,
    clip=None,
    strict: bool = False,
    progress: bool = True,
) -> EntityData:
    """Photographs with boxes, phrases and hand-made features (:mod:`itr_lib.data.photographs.crop_features`).

    Features are made once and cached. At most 36 boxes a picture are kept, those that most phrases speak of.

    Args:
        root: the folder.
        splits: of ``"train"``, ``"val"`` and ``"test"``, which to read; None: those in the file.
        limit: only the first so many images of each split.
        clip: a feature file with one vector an image (:mod:`itr_lib.data.photographs.features`), to be appended to
            each of its regions, scaled to a root mean square of 1; images without one are left out.
        strict: raise ``ValueError`` at the first bad record instead of skipping it.
        progress: show a bar while features are made.

    Raises:
        ValueError: a file as a whole cannot be used, or a split has no usable image.
        OSError: the cache cannot be written.
    """
    if limit is not None and (limit != int(limit) or limit < 1):
        raise ValueError(f"limit is {limit!r}, expected a whole number of at least 1, or None for all")
    if isinstance(splits, str) or splits is not None and not splits:
        raise ValueError(f"splits is {splits!r}, expected a sequence such as ('train', 'val')")
    root, problems = Path(root).expanduser(), Problems(strict)
    name, pictures = read_pictures(root, splits, limit, problems)
    loaded, phrases = {}, {}
    for split in pictures:
        described = _with_features(pictures[split], split, problems, progress)
        described = described if clip is None else _with_clip(described, clip, problems)
        if not described:
            causes = "; ".join(by_cause(problems.found))
            raise ValueError(f"no image of split {split!r} of {str(root)!r} can be used: {causes}")
        loaded[split] = _assemble(name, split, described)
        phrases[split] = _phrases([picture for picture, _ in described], loaded[split])
    notes = (f"Read: Flickr30k Entities, {root}.", *(_told(loaded[split], phrases[split]) for split in loaded))
    return EntityData(splits=loaded, problems=tuple(problems.found), notes=notes, phrases=phrases)


Described = list[tuple[Picture, Float[np.ndarray, "_ _"]]]  # (boxes, features)


def _with_features(pictures: list[Picture], split: str, problems: Problems, progress: bool) -> Described:
    """Each readable picture with the features of its boxes, from the cache or made now."""
    if not pictures:
        return []
    make = functools.partial(_make_features, pictures=pictures, split=split, progress=progress)
    folder = cached_folder(f"entities-{split}-{_digest(pictures)}", make)
    stored = np.load(folder / "features.npy", allow_pickle=False)
    ends = np.cumsum([len(picture.boxes) for picture in pictures])
    described = []
    for picture, features in zip(pictures, np.split(stored, ends[:-1]), strict=True):
        if np.isnan(features).any():
            sentence = f"Picture {picture.path} cannot be read: download it again."
            problems.add("unreadable picture", picture.filename, sentence)
        else:
            described.append((picture, features))
    return described


def _digest(pictures: list[Picture]) -> str:
    """Stands for all that determines the features: the files (by size and time), the boxes, our source, libraries."""
    digest = hashlib.sha256(f"{PIL.__version__} {np.__version__}".encode())
    for source in (crop_features, opening):
        digest.update(Path(source.__file__).read_bytes())
    for picture in pictures:
        about = picture.path.stat()
        digest.update(f"{picture.filename} {about.st_size} {about.st_mtime_ns} {len(picture.boxes)}".encode())
        digest.update(picture.boxes.tobytes())
    return digest.hexdigest()[:12]


def _make_features(path: Path, pictures: list[Picture], split: str, progress: bool) -> None:
    """Descriptors of all boxes as one float16 array; NaN where a picture cannot be read."""
    blocks = []
    with progress_bar(len(pictures), f"{split} regions", "image", show=progress) as bar:
        for start in range(0, len(pictures), PICTURES_AT_ONCE):
            some = pictures[start : start + PICTURES_AT_ONCE]
            blocks += _described(some)
            bar.update(len(some))
    np.save(path / "features.npy", np.concatenate(blocks).astype(np.float16))


def _described(pictures: list[Picture]) -> list[np.ndarray]:
    try:
        opened = [open_photograph(picture.path) for picture in pictures]
    except ValueError:  # one of them: look at each alone
        if len(pictures) == 1:
            return [np.full((len(pictures[0].boxes), CROP_DIM), np.nan)]
        return [block for picture in pictures for block in _described([picture])]
    return [describe_pictures(opened, [picture.boxes for picture in pictures])]


def _with_clip(described: Described, clip, problems: Problems) -> Described:
    """Append the picture's vector to each of its regions."""
    if not described:
        return []
    found = read_features(clip, [picture.filename for picture, _ in described], problems)
    if found.features.shape[1] != 1:
        raise ValueError(f"{clip} has {found.features.shape[1]} vectors an image: expected one")
    joined = []
    for row, vector in zip(found.rows, found.features[:, 0].astype(np.float32), strict=True):
        picture, features = described[row]
        scaled = vector / max(float(np.sqrt((vector**2).mean())), 1e-6)
        whole = np.tile(scaled.astype(np.float16), (len(features), 1))
        joined.append((picture, np.concatenate([features, whole], axis=1)))
    return joined


def _assemble(name: str, split: str, described: Described) -> RetrievalData:
    pictures, shape = [picture for picture, _ in described], described[0][1].shape
    width = max(len(picture.boxes) for picture in pictures)
    features = np.zeros((len(pictures), width, shape[1]), np.float16)
    boxes, mask = np.zeros((len(pictures), width, 4), np.float32), np.zeros((len(pictures), width), bool)
    for row, (picture, vectors) in enumerate(described):
        real = len(picture.boxes)
        features[row, :real], boxes[row, :real], mask[row, :real] = vectors, picture.boxes, True
    records = [Record(picture.filename, split, picture.captions) for picture in pictures]
    paths = {picture.filename: picture.path for picture in pictures}
    regions = Regions(np.arange(len(pictures)), features, boxes, mask)
    return split_data(name, split, records, regions, lambda record: paths[record.filename])


def _told(data: RetrievalData, phrases: Phrases) -> str:
    boxes = f"{data.region_mask.sum(1).mean():.1f} boxes an image"
    return f"{data.split}: {boxes}, {len(phrases.caption):,} phrases with a box and {phrases.unboxed:,} without"


def _phrases(pictures: list[Picture], data: RetrievalData) -> Phrases:
    """The phrases of all pictures, with caption rows of the split."""
    first = np.cumsum([0] + [len(picture.captions) for picture in pictures])
    told = [(row, phrase) for row, picture in enumerate(pictures) for phrase in picture.phrases]
    right = np.zeros((len(told), data.region_mask.shape[1]), bool)
    for at, (_, phrase) in enumerate(told):
        right[at, : len(phrase.right)] = phrase.right
    return Phrases(
        np.array([first[row] + phrase.caption for row, phrase in told], int),
        np.array([phrase.span for _, phrase in told], int).reshape(-1, 2),
        right,
        np.array([phrase.kind for _, phrase in told], str),
        sum(picture.unboxed for picture in pictures),
    )
