"""Real photographs in the format of Karpathy and Fei-Fei (CVPR 2015): Flickr8k, Flickr30k, COCO.

A JSON file lists images with their split and their sentences; pictures lie in a folder; features come from a
file of their own (:mod:`itr_lib.data.photographs.features`). A bad record gets a sentence that names it: ``strict``
stops at the first one, otherwise it is skipped, counted and listed.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itr_lib.data.dataset import RetrievalData
from itr_lib.data.photographs.features import RegionFeatures, read_features
from itr_lib.data.photographs.pictures import find_file, is_file, open_row, picture_is_there, picture_size
from itr_lib.data.photographs.problems import Problem, Problems, by_cause, read_json
from itr_lib.data.rows import take_rows
from itr_lib.data.unicode import composed, half_character

SPLITS = ("train", "val", "test")
HOW_TO_EXTRACT = (
    "python -m data_scripts.extract_features --images FOLDER --out FILE.npz --model openai/clip-vit-base-patch32"
)


@dataclass(frozen=True)
class KarpathyData:
    """The splits that were read, and the records that were not."""

    splits: dict[str, RetrievalData]
    problems: tuple[Problem, ...]

    def __getitem__(self, split: str) -> RetrievalData:
        if split not in self.splits:
            raise KeyError(f"split {split!r} is not there: this data set has {list(self.splits)}")
        return self.splits[split]

    def report(self) -> str:
        """What was read and what was skipped, by cause, with the first few names."""
        read = [
            f"{data.name}/{split}: {len(data):,} images, {len(data.captions):,} captions,"
            f" features {data.features.shape[1]} x {data.feature_dim}"
            for split, data in self.splits.items()
        ]
        return "\n".join(read + (by_cause(self.problems) or ["nothing skipped"]))


@dataclass(frozen=True)
class _Record:
    filename: str
    folder: str  # sub-folder of the image folder ("filepath" in COCO's file)
    split: str
    captions: tuple[str, ...]


def load_folder(name: str, root, *, features=None, strict: bool = False, **options) -> KarpathyData:
    """A data set in one folder: ``dataset_<name>.json``, ``images/`` and one feature file (``.npz``).

    ``features`` chooses among several feature files; other options go to :func:`load_karpathy`.
    """
    root = Path(root).expanduser()
    annotations = root / f"dataset_{name}.json"
    if not annotations.is_file():
        raise ValueError(f"{str(root)!r} holds no {annotations.name}: download Karpathy's file for {name} into it")
    images = root / "images" if (root / "images").is_dir() else None
    if features is None:
        features = _only_feature_file(root, images)
    return load_karpathy(annotations, images, features, strict=strict, name=name, **options)


def load_karpathy(
    annotations,
    images=None,
    features=None,
    *,
    splits: Sequence[str] | None = None,
    strict: bool = False,
    verify: bool | None = None,
    name: str | None = None,
) -> KarpathyData:
    """Read a data set in Karpathy's format.

    Args:
        annotations: the JSON file.
        images: the folder of pictures (sub-folders as in the file's ``filepath``), or None to do without.
        features: a feature file or folder, see :mod:`itr_lib.data.photographs.features`.
        splits: of ``"train"``, ``"val"``, ``"test"``; None = those in the file. COCO's ``"restval"`` is train.
        strict: raise ``ValueError`` at the first bad record instead of skipping it.
        verify: decode every picture now. By default (None) strict runs do; others read the header only, and a
            picture that was cut short is reported when it is opened.
        name: the data set's name; default: what the file says.

    Raises:
        ValueError: a file as a whole cannot be used, a split asked for is not there, no features were given.
    """
    annotations, images = Path(annotations).expanduser(), images and Path(images).expanduser()
    problems = Problems(strict)
    _check_arguments(annotations, images, features, splits)
    title, records = _read_records(annotations, problems)
    splits = _present(splits, records, annotations)
    records = [record for record in records if record.split in splits]
    folders = {record.filename: record.folder for record in records}
    path_of = images and (lambda filename: _path(images, folders[filename], filename))
    size_of = path_of and (lambda filename: picture_size(path_of(filename)))
    found = read_features(features, [record.filename for record in records], problems, size_of)
    usable = np.ones(len(found.rows), bool)
    if path_of:
        decode = strict if verify is None else verify
        usable[:] = [picture_is_there(path_of(records[row].filename), decode, problems) for row in found.rows]
    loaded = {}
    for split in splits:
        chosen = [at for at, row in enumerate(found.rows) if usable[at] and records[row].split == split]
        if chosen:
            loaded[split] = _assemble(name or title, split, records, found, chosen, path_of)
        else:
            problems.add("split left empty", split, f"No image of split {split!r} of {annotations} can be used.")
    if not loaded:
        raise ValueError(f"No image of {annotations} can be used: " + "; ".join(by_cause(problems.found)))
    return KarpathyData(loaded, tuple(problems.found))


def hold_out(data: RetrievalData, share: float = 0.1, seed: int = 0) -> tuple[RetrievalData, RetrievalData]:
    """Split training data in two by image: what to train on, and what may choose the checkpoint.

    For data whose only other split is the one to report: choosing on it would report a maximum.
    The second part is called ``"dev"``.
    """
    held = round(share * len(data))
    if not 0 < held < len(data):
        raise ValueError(f"share {share} of {len(data)} images holds out {held}: expected at least 1 on both sides")
    order = np.random.default_rng(seed).permutation(len(data))
    return data.take(np.sort(order[held:])), data.take(np.sort(order[:held]), split="dev")


def _only_feature_file(root: Path, images: Path | None) -> Path:
    files = sorted(root.glob("*.npz")) + [folder for folder in [root / "features"] if folder.is_dir()]
    if not files:
        hint = HOW_TO_EXTRACT.replace("FOLDER", str(images or "FOLDER")).replace("FILE.npz", str(root / "clip.npz"))
        raise ValueError(f"{str(root)!r} holds no feature file (*.npz): extract features with `{hint}`")
    if len(files) > 1:
        names = [file.name for file in files]
        raise ValueError(f"{str(root)!r} holds several feature files, {names}: say which with features=...")
    return files[0]


def _check_arguments(annotations: Path, images: Path | None, features, splits: Sequence[str] | None) -> None:
    if features is None:
        hint = HOW_TO_EXTRACT.replace("FOLDER", str(images or "FOLDER"))
        raise ValueError(f"{annotations} needs image features (features=...): extract them with `{hint}`")
    if images is not None and not images.is_dir():
        raise ValueError(f"image folder {str(images)!r} does not exist")
    for split in splits or ():
        if split not in SPLITS:
            hint = " ('restval' counts as 'train')" if split == "restval" else ""
            raise ValueError(f"unknown split {split!r}: expected some of {list(SPLITS)}{hint}")


def _read_records(path: Path, problems: Problems) -> tuple[str, list[_Record]]:
    """The data set's name and its good records."""
    if not path.is_file():
        raise ValueError(f"annotation file {str(path)!r} does not exist")
    content = read_json(path)
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries or "annotations" in content:
        raise ValueError(
            f"{path} is not in Karpathy's format: expected an object with a list 'images' whose entries have"
            " 'filename', 'split' and 'sentences' (COCO's own captions_*.json is another format)"
        )
    records: dict[str, _Record] = {}
    for number, entry in enumerate(entries):
        record = _read_record(entry, number, path, problems)
        if record and record.filename in records:
            sentence = f"Image {record.filename!r} stands twice in {path} (record {number}): the first one counts."
            problems.add("file name that stands twice", record.filename, sentence)
        elif record:
            records[record.filename] = record
    return str(content.get("dataset") or path.stem.removeprefix("dataset_")), list(records.values())


def _read_record(entry, number: int, path: Path, problems: Problems) -> _Record | None:
    """One image of the JSON file, or None (and a problem)."""
    where = f"record {number} of {path}"
    sentences = entry.get("sentences") if isinstance(entry, dict) else None
    text = [entry.get(key) for key in ("filename", "split")] if isinstance(entry, dict) else [None]
    whole = isinstance(sentences, list) and all(isinstance(sentence, dict) for sentence in sentences)
    if not whole or not all(isinstance(value, str) and value for value in text):
        sentence = f"{where.capitalize()} is not in Karpathy's format: expected 'filename', 'split', 'sentences'."
        problems.add("record of another format", f"record {number}", sentence)
        return None
    filename, split = composed(entry["filename"]), {"restval": "train"}.get(entry["split"], entry["split"])
    if split not in SPLITS:
        sentence = f"Image {filename!r} ({where}) is of split {split!r}: expected one of {list(SPLITS)}."
        problems.add("unknown split", filename, sentence)
        return None
    captions = _captions(sentences, filename, where, problems)
    if not captions:
        sentence = f"Image {filename!r} ({where}) has no caption."
        problems.add("image without captions", filename, sentence)
        return None
    return _Record(filename, str(entry.get("filepath") or ""), split, captions)


def _captions(sentences: list[dict], filename: str, where: str, problems: Problems) -> tuple[str, ...]:
    """The captions of one image that can be used."""
    captions = [_caption(sentence) for sentence in sentences]
    for at, caption in enumerate(captions):
        named = f"Caption {at} of image {filename!r} ({where})"
        if not caption:
            problems.add("empty caption", f"{filename}#{at}", f"{named} is empty.")
        elif half := half_character(caption):
            sentence = f"{named} holds {half}, half a character: write it anew as UTF-8."
            problems.add("caption with half a character", f"{filename}#{at}", sentence)
    return tuple(caption for caption in captions if caption and not half_character(caption))


def _caption(sentence: dict) -> str:
    raw = sentence.get("raw")
    tokens = sentence.get("tokens")
    text = raw if isinstance(raw, str) else " ".join(map(str, tokens)) if isinstance(tokens, list) else ""
    return " ".join(text.split())


def _present(splits: Sequence[str] | None, records: list[_Record], path: Path) -> tuple[str, ...]:
    counts = Counter(record.split for record in records)
    for split in splits or ():
        if not counts[split]:
            raise ValueError(f"{path} has no image of split {split!r}: it has {dict(counts)}")
    return tuple(split for split in SPLITS if (split in splits if splits else counts[split]))


def _path(images: Path, folder: str, filename: str) -> Path:
    """COCO's file names a sub-folder, which a copy of the pictures may lack."""
    nested = find_file(images / folder, filename)
    return nested if not folder or is_file(nested) else find_file(images, filename)


def _assemble(name, split, records: list[_Record], found: RegionFeatures, chosen: list[int], path_of) -> RetrievalData:
    """One split from its usable images; ``chosen`` are rows of ``found``."""
    images = [records[found.rows[at]] for at in chosen]
    counts = [len(image.captions) for image in images]
    paths = path_of and tuple(path_of(image.filename) for image in images)
    return RetrievalData(
        name=name,
        split=split,
        image_ids=tuple(image.filename for image in images),
        captions=tuple(caption for image in images for caption in image.captions),
        image_of_caption=np.repeat(np.arange(len(images)), counts),
        features=take_rows(found.features, chosen),
        boxes=found.boxes[chosen],
        region_mask=found.mask[chosen],
        open_picture=paths and functools.partial(open_row, paths),
    )
