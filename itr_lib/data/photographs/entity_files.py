"""Flickr30k Entities in its own files: ``Annotations/<id>.xml``, ``Sentences/<id>.txt``, ``train.txt`` and so on.

A line of a sentence file is a caption, tokenised, with its phrases in brackets: ``[/EN#137644/people A group of
friends] playing [/EN#137645/other cards]``. The XML is that of PASCAL VOC: ``size``, and an ``object`` with the
``name`` of each entity that it shows and its ``bndbox``, in pixels counted from 1, the last one inside.

What is read has the form of ``entities.json`` and of Karpathy's JSON, record by record, and is checked as these are.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from itr_lib.data.photographs.caption_lines import split_lists
from itr_lib.data.photographs.folders import Listing
from itr_lib.data.photographs.pictures import find_file
from itr_lib.data.photographs.problems import Problems, read_lines, read_text

FOLDERS = ("Annotations", "Sentences")
BYTES = 2**20  # of one file; real ones have a few thousand
BEGIN = "[/EN#"


def is_original(root: Path) -> bool:
    """Whether a folder holds the files of the original."""
    return all((root / name).is_dir() for name in FOLDERS)


def read_original(
    root: Path, splits: Sequence[str] | None, limit: int | None, problems: Problems
) -> tuple[list[dict], dict[str, dict]]:
    """Captions, as Karpathy's JSON has them, and entities by file name; of some splits, the first images of each.

    Raises:
        ValueError: no list says which image is of which split, or a split asked for is in none.
    """
    listed = split_lists(Listing.of(root))
    if not listed:
        raise ValueError(f"{str(root)!r} holds no train.txt, val.txt or test.txt: which image is of which split?")
    counts = Counter(listed.values())
    for split in splits or ():
        if not counts[split]:
            raise ValueError(f"the lists in {str(root)!r} have no image of split {split!r}: they have {dict(counts)}")
    records, truth = [], {}
    for split in splits or counts:
        for stem in sorted(stem for stem, its in listed.items() if its == split)[:limit]:
            try:
                record, entry = _read_image(root, stem, split)
            except (OSError, ValueError) as error:
                problems.add("entities of another format", stem, str(error))
                continue
            records.append(record)
            truth[record["filename"]] = entry
    return records, truth


def _read_image(root: Path, stem: str, split: str) -> tuple[dict, dict]:
    """Record and entities of one image."""
    sentences = list(_sentences(find_file(root / "Sentences", f"{stem}.txt")))
    phrases = [{"s": at, **phrase} for at, (_, phrases) in enumerate(sentences) for phrase in phrases]
    entry = {**read_annotation(find_file(root / "Annotations", f"{stem}.xml")), "phrases": phrases}
    tokens = [{"tokens": tokens} for tokens, _ in sentences]
    return {"filename": f"{stem}.jpg", "split": split, "sentences": tokens}, entry


def read_annotation(path: Path) -> dict:
    """Size and entities of one image, as ``entities.json`` has them.

    Raises:
        ValueError: the file is missing, too large, no XML, or lacks what is needed.
    """
    _expect_small(path)
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(f"{path} declares entities of its own, which may unfold without end: it is not read")
    try:
        tree = ElementTree.fromstring(text.encode("utf-8", "surrogateescape").decode())
        size = [int(_text(tree, f"size/{side}")) for side in ("width", "height")]
        entities: dict[str, dict] = {}
        for one in tree.iter("object"):
            box = one.find("bndbox")
            for name in one.findall("name"):
                boxes = entities.setdefault((name.text or "").strip(), {"boxes": []})["boxes"]
                if box is not None:
                    x1, y1, x2, y2 = (int(_text(box, side)) for side in ("xmin", "ymin", "xmax", "ymax"))
                    boxes.append([x1 - 1, y1 - 1, x2, y2])
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(
            f"{path} is no annotation of Flickr30k Entities ({error}): expected XML with a 'size', and objects with"
            " 'name' and 'bndbox'"
        ) from error
    return {"size": size, "entities": entities}


def _text(node: ElementTree.Element, path: str) -> str:
    found = node.findtext(path)
    if found is None:
        raise ValueError(f"no <{path}> in <{node.tag}>")
    return found


def _expect_small(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    if path.stat().st_size > BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, where a few thousand are usual: it is not read")


def _sentences(path: Path) -> Iterator[tuple[list[str], list[dict]]]:
    """Tokens and phrases of each line."""
    _expect_small(path)
    for number, line in enumerate(read_lines(path), 1):
        try:
            yield _sentence(line)
        except ValueError as error:
            raise ValueError(f"Line {number} of {path}: {error}") from error


def _sentence(line: str) -> tuple[list[str], list[dict]]:
    """Tokens and phrases of one caption; a bracket that is not a phrase's is a token like any other."""
    tokens: list[str] = []
    phrases: list[dict] = []
    opened: dict | None = None
    for token in line.split():
        if token.startswith(BEGIN):
            if opened:
                raise ValueError(f"{token!r} begins a phrase inside another")
            entity, *types = token.removeprefix(BEGIN).split("/")
            opened = {"e": entity, "types": types, "span": [len(tokens), 0]}
            continue
        ends = opened is not None and token.endswith("]")
        tokens.append(token[:-1] if ends else token)
        if opened is not None and ends:
            opened["span"][1] = len(tokens)
            phrases.append({**opened, "text": " ".join(tokens[opened["span"][0] :])})
            opened = None
    if opened:
        raise ValueError(f"the phrase of entity {opened['e']!r} has no end")
    return tokens, phrases
