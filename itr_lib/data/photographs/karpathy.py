"""Real photographs in the format of Karpathy and Fei-Fei (CVPR 2015): Flickr8k, Flickr30k, COCO.

A JSON file lists images with their split and their sentences; pictures lie in a folder; features come from a
file of their own (:mod:`itr_lib.data.photographs.features`). A bad record gets a sentence that names it: ``strict``
stops at the first one, otherwise it is skipped, counted and listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from itr_lib.data.dataset import RetrievalData
from itr_lib.data.photographs.assembly import PhotographData, assemble
from itr_lib.data.photographs.problems import Problems, read_json
from itr_lib.data.photographs.records import SPLITS, Record, Source, capital, expect_some, usable_captions, usable_name


def load_karpathy(
    annotations,
    images=None,
    features=None,
    *,
    splits: Sequence[str] | None = None,
    strict: bool = False,
    verify: bool | None = None,
    name: str | None = None,
) -> PhotographData:
    """Read a data set in Karpathy's format.

    Args:
        annotations: the JSON file.
        images: the folder of pictures (sub-folders as in the file's ``filepath``), or None to do without.
        features: a feature file or folder, see :mod:`itr_lib.data.photographs.features`; None: no features yet.
        splits: of ``"train"``, ``"val"``, ``"test"``; None = those in the file. COCO's ``"restval"`` is train.
        strict: raise ``ValueError`` at the first bad record instead of skipping it.
        verify: decode every picture now. By default (None) strict runs do; others read the header only, and a
            picture that was cut short is reported when it is opened.
        name: the data set's name; default: what the file says.

    Raises:
        ValueError: a file as a whole cannot be used, or a split asked for is not there.
    """
    annotations, images = Path(annotations).expanduser(), images and Path(images).expanduser()
    if images is not None and not images.is_dir():
        raise ValueError(f"image folder {str(images)!r} does not exist")
    expect_splits(splits)
    problems = Problems(strict)
    source = read_karpathy(annotations, problems)
    decode = strict if verify is None else verify
    return assemble(source, problems, name=name, splits=splits, images=images, features=features, decode=decode)


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


def expect_splits(splits: Sequence[str] | None) -> None:
    """Raise ``ValueError`` for the name of a split that the field does not use."""
    for split in splits or ():
        if split not in SPLITS:
            hint = " ('restval' counts as 'train')" if split == "restval" else ""
            raise ValueError(f"unknown split {split!r}: expected some of {list(SPLITS)}{hint}")


def read_karpathy(path: Path, problems: Problems) -> Source:
    """The good records of a JSON file in Karpathy's format."""
    title, entries = read_entries(path, problems)
    read = [_record(entry, number, path, problems) for number, entry in entries]
    records = tuple(record for record in read if record)
    expect_some(records, path, problems)
    return Source(f"Karpathy's JSON, {path}", title, records)


def read_entries(path: Path, problems: Problems) -> tuple[str, list[tuple[int, dict]]]:
    """The data set's name, and the good entries of a JSON file in Karpathy's format, each with its number.

    A good one has the ``filename`` of a picture, here with its accents composed, that no entry before it has, a
    ``split`` of :data:`SPLITS`, and ``sentences``, objects.
    """
    if not path.is_file():
        raise ValueError(f"annotation file {str(path)!r} does not exist")
    content = read_json(path)
    told = content.get("images") if isinstance(content, dict) else None
    if not isinstance(told, list) or not told or "annotations" in content:
        raise ValueError(
            f"{path} is not in Karpathy's format: expected an object with a list 'images' whose entries have"
            " 'filename', 'split' and 'sentences' (COCO's own captions_*.json is another format)"
        )
    entries: dict[str, tuple[int, dict]] = {}
    for number, one in enumerate(told):
        entry = _good_entry(one, f"record {number} of {path}", f"record {number}", problems)
        if entry and (name := entry["filename"]) in entries:
            sentence = f"Image {name!r} stands twice in {path} (record {number}): the first one counts."
            problems.add("file name that stands twice", name, sentence)
        elif entry:
            entries[entry["filename"]] = number, entry
    return str(content.get("dataset") or path.stem.removeprefix("dataset_")), list(entries.values())


def _good_entry(entry, where: str, name: str, problems: Problems) -> dict | None:
    """An entry with its file name composed and ``restval`` as train, or None (and a problem)."""
    sentences = entry.get("sentences") if isinstance(entry, dict) else None
    text = [entry.get(key) for key in ("filename", "split")] if isinstance(entry, dict) else [None]
    whole = isinstance(sentences, list) and all(isinstance(sentence, dict) for sentence in sentences)
    if not whole or not all(isinstance(value, str) and value for value in text):
        sentence = f"{capital(where)} is not in Karpathy's format: expected 'filename', 'split', 'sentences'."
        return problems.add("record of another format", name, sentence)
    filename, split = usable_name(text[0], where, problems), {"restval": "train"}.get(text[1], text[1])
    if filename and split not in SPLITS:
        sentence = f"Image {filename!r} ({where}) is of split {split!r}: expected one of {list(SPLITS)}."
        return problems.add("unknown split", filename, sentence)
    return {**entry, "filename": filename, "split": split} if filename else None


def _record(entry: dict, number: int, path: Path, problems: Problems) -> Record | None:
    """One image of the JSON file, or None (and a problem)."""
    where, filename = f"record {number} of {path}", entry["filename"]
    captions = usable_captions(map(_text, entry["sentences"]), filename, where, problems)
    if not captions:
        return None
    told = entry.get("filepath")
    folder = usable_name(told, where, problems) if told and isinstance(told, str) else ""
    ids = [entry.get(key) for key in ("cocoid", "imgid")]
    coco, image = (value if type(value) is int else None for value in ids)
    keys = () if coco is None else (str(coco), f"{coco:012d}")
    return Record(filename, entry["split"], captions, folder or "", keys, str(number if image is None else image))


def _text(sentence: dict) -> str:
    raw = sentence.get("raw")
    tokens = sentence.get("tokens")
    return raw if isinstance(raw, str) else " ".join(map(str, tokens)) if isinstance(tokens, list) else ""
