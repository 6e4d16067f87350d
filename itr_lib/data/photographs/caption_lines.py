"""Files with one caption a line, as Flickr8k and Flickr30k are passed on.

- ``Flickr8k.token.txt``, ``results_20130124.token``, the originals: ``name.jpg#0<tab>caption``.
- Kaggle's Flickr8k, ``captions.txt``: commas, after the header ``image,caption``.
- Kaggle's Flickr30k, ``results.csv``: bars, after the header ``image_name| comment_number| comment``. One of its lines
  lacks the second bar; it is read all the same.

The originals come with lists of the images of each split, ``Flickr_8k.trainImages.txt`` and so on; Kaggle's without.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from itr_lib.data.photographs.folders import Listing
from itr_lib.data.photographs.problems import Problems, read_lines
from itr_lib.data.photographs.records import (
    Record,
    Source,
    capital,
    expect_some,
    split_by_name,
    usable_captions,
    usable_name,
)
from itr_lib.data.unicode import composed

FILES = ("flickr8k.token.txt", "results_20130124.token", "captions.txt", "results.csv")
HEADERS = ("image,caption", "image_name,comment_number,comment", "image_name|comment_number|comment")
LISTS = {
    split: (f"flickr_8k.{told}images.txt", f"{split}.txt")
    for split, told in {"train": "train", "val": "dev", "test": "test"}.items()
}
BROKEN = re.compile(r"\s*(\d+)\s+(\S.*)")  # number and caption, the bar between them missing

Split = Callable[[str], tuple[str, str] | None]  # a line -> file name and caption


def read_caption_lines(path: Path, listing: Listing, problems: Problems) -> Source:
    """The images of a file with one caption a line; ``listing``: where lists of splits may be."""
    said: dict[str, list[str]] = defaultdict(list)
    for number, line in _captions(path):
        where = f"line {number} of {path}"
        name, caption = line or ("", "")
        if line is None:
            sentence = f"{capital(where)} is not a file name and a caption."
            problems.add("line of another format", f"line {number}", sentence)
        elif filename := usable_name(name, where, problems):
            said[filename].append(caption)
    usable = {name: usable_captions(texts, name, str(path), problems) for name, texts in said.items()}
    records = tuple(Record(name, "", captions) for name, captions in usable.items() if captions)
    expect_some(records, path, problems)
    listed = split_lists(listing)
    records, note = _by_list(records, listed, path, problems) if listed else split_by_name(records)
    return Source(f"one caption a line, {path}", path.stem, records, (note,))


def is_caption_file(path: Path) -> bool:
    """Whether a file of such a name holds captions: ``captions.txt`` may be anything."""
    return not path.name.lower().startswith(("captions", "results.csv")) or _header(path) in HEADERS


def _header(path: Path) -> str:
    first = next(iter(read_lines(path)), "")
    return first.replace(" ", "").lower()


def _captions(path: Path) -> Iterator[tuple[int, tuple[str, str] | None]]:
    """Number of each line, from 1, and what it says: file name and caption, or None."""
    lines = read_lines(path)
    header = lines[0].replace(" ", "").lower() if lines else ""
    if header not in HEADERS:
        split, start = _by_tab, 0
    else:
        split, start = (_by_bar if "|" in header else _by_comma(header.count(","))), 1
    for number, line in enumerate(lines[start:], start + 1):
        if line.strip():
            yield number, split(line)


def _by_tab(line: str) -> tuple[str, str] | None:
    name, tab, caption = line.partition("\t")
    name = re.sub(r"#\d+$", "", name.strip())
    return (name, caption) if tab and name else None


def _by_bar(line: str) -> tuple[str, str] | None:
    name, _, rest = line.partition("|")
    number, bar, caption = rest.partition("|")
    if bar and number.strip().isdigit():
        return name.strip(), caption
    told = BROKEN.fullmatch(rest) if not bar else None
    return (name.strip(), told[2]) if told and name.strip() else None


def _by_comma(before: int) -> Split:
    """Commas in a caption may be quoted or not. Each line stands alone: a lost quote cannot swallow the lines after."""

    def split(line: str) -> tuple[str, str] | None:
        try:
            fields = next(csv.reader([line]), [])
        except csv.Error:  # a zero byte, or more than a caption can be
            return None
        name = fields[0].strip() if fields else ""
        return (name, ",".join(fields[before:])) if name and len(fields) > before else None

    return split


def split_lists(listing: Listing) -> dict[str, str]:
    """The split of each image that a list names, by its file name without its ending."""
    listed = {}
    for split, names in LISTS.items():
        paths = [path for name in names for path in listing.files(name)]
        for line in read_lines(paths[0]) if paths else ():
            stem = Path(composed(line.strip())).stem
            if stem and listed.setdefault(stem, split) != split:
                raise ValueError(f"{paths[0]} names {stem!r}, which the list of {listed[stem]} names too")
    return listed


def _by_list(records: tuple[Record, ...], listed: dict[str, str], path: Path, problems: Problems):
    """The records that a list names, with their split, and a sentence about the others."""
    split_of = {record.filename: listed.get(Path(record.filename).stem) for record in records}
    kept = tuple(replace(one, split=split_of[one.filename]) for one in records if split_of[one.filename])
    if not kept:
        raise ValueError(f"the lists of splits beside {path} name none of its {len(records):,} images")
    for stem in sorted(listed.keys() - {Path(record.filename).stem for record in records}):
        problems.add("image of a list without captions", stem, f"Image {stem!r} of a list of splits is not in {path}.")
    rest = len(records) - len(kept)
    return kept, f"Splits: the lists beside it; {rest:,} images that are in none of them were left out."
