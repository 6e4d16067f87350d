"""Flickr30k Entities in its own XML and sentence files, held against the same records in JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from itr_lib.data.photographs.entities import load_entities
from itr_lib.data.photographs.entity_records import read_pictures
from itr_lib.data.photographs.problems import Problems

TOKENS = [["two", "dogs", "chase", "a", "red", "ball"], ["the", "dog", "'s", "[sic]", "grass"]]


def entry():
    return {
        "size": [60, 40],
        "entities": {
            "1": {"boxes": [[0, 0, 20, 30], [40, 10, 60, 40]]},
            "3": {"boxes": [[30, 0, 36, 6]]},
            "4": {"boxes": []},
        },
        "phrases": [
            {"s": 0, "span": [0, 2], "text": "two dogs", "e": "1", "types": ["animals"]},
            {"s": 0, "span": [3, 6], "text": "a red ball", "e": "3", "types": ["other", "vehicles"]},
            {"s": 1, "span": [0, 2], "text": "the dog", "e": "1", "types": ["animals"]},
            {"s": 1, "span": [4, 5], "text": "grass", "e": "4", "types": ["scene"]},
        ],
    }


def as_xml(entry) -> str:
    """An annotation file: 1-based pixels, the last one inside; an entity without a box has flags instead."""
    width, height = entry["size"]
    parts = [f"<annotation><filename>x</filename><size><width>{width}</width><height>{height}</height></size>"]
    for name, about in entry["entities"].items():
        for x1, y1, x2, y2 in about["boxes"]:
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (x1 + 1, y1 + 1, x2, y2), strict=True)
            box = "".join(f"<{side}>{value}</{side}>" for side, value in corners)
            parts.append(f"<object><name>{name}</name><bndbox>{box}</bndbox></object>")
        if not about["boxes"]:
            parts.append(f"<object><name>{name}</name><scene>1</scene><nobndbox>1</nobndbox></object>")
    return "".join([*parts, "</annotation>"])


def as_sentences(tokens: list[list[str]], phrases: list[dict]) -> str:
    lines = []
    for number, words in enumerate(tokens):
        words = list(words)
        for phrase in phrases:
            if phrase["s"] == number:
                start, stop = phrase["span"]
                words[stop - 1] += "]"
                words[start] = f"[/EN#{phrase['e']}/{'/'.join(phrase['types'])} {words[start]}"
        lines.append(" ".join(words))
    return "\n".join([*lines, ""])


def write(root, entries: dict[str, dict], tokens: dict[str, list[list[str]]], splits: dict[str, str]):
    """The original's files."""
    for folder in ("Annotations", "Sentences"):
        (root / folder).mkdir()
    for stem, one in entries.items():
        (root / "Annotations" / f"{stem}.xml").write_text(as_xml(one))
        (root / "Sentences" / f"{stem}.txt").write_text(as_sentences(tokens[stem], one["phrases"]))
    for split in ("train", "val", "test"):
        (root / f"{split}.txt").write_text("".join(f"{stem}\n" for stem, its in splits.items() if its == split))


STEMS = {"10": "train", "11": "train", "12": "val", "13": "test"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ITR_CACHE", str(tmp_path / "cache"))
    write(tmp_path, dict.fromkeys(STEMS, entry()), dict.fromkeys(STEMS, TOKENS), STEMS)
    (tmp_path / "flickr30k-images").mkdir()
    for stem in STEMS:
        Image.new("RGB", (60, 40), (int(stem), 90, 20)).save(tmp_path / "flickr30k-images" / f"{stem}.jpg")
    return tmp_path


def expect_same(pictures, others):
    assert {split: len(some) for split, some in pictures.items()} == {
        split: len(some) for split, some in others.items()
    }
    for split in pictures:
        by_name = {other.filename: other for other in others[split]}
        for one in pictures[split]:
            other = by_name[one.filename]
            assert (one.captions, one.unboxed) == (other.captions, other.unboxed)
            np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-6)
            told = [[(p.caption, p.span, p.right.tolist(), p.kind) for p in side.phrases] for side in (one, other)]
            assert told[0] == told[1]


def test_the_original_reads_as_json_does(folder):
    name, pictures = read_pictures(folder, None, None, Problems(strict=True))
    images = [
        {"filename": f"{stem}.jpg", "split": split, "sentences": [{"tokens": words} for words in TOKENS]}
        for stem, split in STEMS.items()
    ]
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))
    truth = {"images": {f"{stem}.jpg": entry() for stem in STEMS}}
    (folder / "entities.json").write_text(json.dumps(truth))
    expect_same(pictures, read_pictures(folder, None, None, Problems(strict=True))[1])
    assert name == "flickr30k" and pictures["val"][0].captions[1] == "the dog 's [sic] grass"


def test_they_load(folder):
    data = load_entities(folder, progress=False, strict=True)
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 2, "val": 1, "test": 1}
    assert len(data.phrases["train"].caption) == 6 and data.phrases["train"].unboxed == 2
    assert list(load_entities(folder, ("train",), limit=1, progress=False).splits) == ["train"]


def test_an_object_of_two_entities(folder):
    path = folder / "Annotations" / "10.xml"
    path.write_text(path.read_text().replace("<name>3</name>", "<name>3</name><name>4</name>"))
    data = load_entities(folder, progress=False, strict=True)
    assert len(data.phrases["train"].caption) == 7 and data.phrases["train"].unboxed == 1


BOMB = '<!DOCTYPE a [<!ENTITY b "{}">{}]><annotation><size><width>&c9;</width></size></annotation>'.format(
    "x" * 100, "".join(f'<!ENTITY c{n} "{f"&c{n - 1};" * 10 if n else "&b;" * 10}">' for n in range(10))
)
WRONG = [
    (lambda f: (f / "Annotations" / "10.xml").write_text(BOMB), "10.xml declares entities of its own"),
    (lambda f: (f / "Annotations" / "10.xml").write_bytes(BOMB.encode("utf-16")), "10.xml declares entities"),
    (lambda f: (f / "Annotations" / "10.xml").write_text("<annotation><size>"), "10.xml is no annotation"),
    (lambda f: (f / "Annotations" / "10.xml").write_text("<annotation/>"), "no <size/width> in <annotation>"),
    (lambda f: (f / "Annotations" / "10.xml").write_text("<a>" * 400_000), "10.xml has 1,200,000 bytes"),
    (lambda f: (f / "Annotations" / "10.xml").unlink(), "10.xml does not exist"),
    (lambda f: (f / "Sentences" / "10.txt").unlink(), "10.txt does not exist"),
    (lambda f: (f / "Sentences" / "10.txt").write_text("[/EN#1/people two dogs\n"), "entity '1' has no end"),
    (lambda f: (f / "Sentences" / "10.txt").write_text("[/EN#1/a two [/EN#2/b x] y]\n"), "begins a phrase inside"),
    (lambda f: (f / "flickr30k-images" / "10.jpg").unlink(), "Picture .*10.jpg does not exist"),
]


@pytest.mark.parametrize(("harm", "words"), WRONG)
def test_a_bad_image_is_left_out_or_stops(folder, harm, words):
    harm(folder)
    data = load_entities(folder, progress=False)
    assert data["train"].image_ids == ("11.jpg",) and len(data.problems) == 1
    with pytest.raises(ValueError, match=words):
        load_entities(folder, progress=False, strict=True)


def test_without_lists_there_are_no_splits(folder):
    for split in ("train", "val", "test"):
        (folder / f"{split}.txt").unlink()
    with pytest.raises(ValueError, match="holds no train.txt, val.txt or test.txt"):
        load_entities(folder, progress=False)


def test_records_of_flickr8k_come_back(shared_data, tmp_path):
    """200 real records, with boxes in whole pixels, as original files and as JSON: read alike."""
    root = shared_data / "flickr8k"
    truth = json.loads((root / "entities.json").read_text())["images"]
    images = json.loads((root / "dataset_flickr8k.json").read_text())["images"]
    chosen = [one for one in images if one["filename"] in truth][:6000:30]
    for one in chosen:
        own = truth[one["filename"]]
        for about in own["entities"].values():
            about["boxes"] = [[round(value) for value in box] for box in about["boxes"]]
        own["phrases"] = [phrase for phrase in own["phrases"] if not phrase.pop("fuzzy", 0)]
    stems = {one["filename"].removesuffix(".jpg"): one for one in chosen}
    entries = {stem: truth[f"{stem}.jpg"] for stem in stems}
    tokens = {stem: [said["tokens"] for said in one["sentences"]] for stem, one in stems.items()}
    folders = [tmp_path / "original", tmp_path / "json"]
    for folder in folders:
        folder.mkdir()
        (folder / "images").symlink_to(root / "images")
    write(folders[0], entries, tokens, {stem: one["split"] for stem, one in stems.items()})
    as_json = {"images": {f"{stem}.jpg": one for stem, one in entries.items()}}
    (folders[1] / "entities.json").write_text(json.dumps(as_json))
    (folders[1] / "dataset_flickr8k.json").write_text(json.dumps({"images": chosen}))
    problems = [Problems(), Problems()]
    read = [read_pictures(folder, None, None, own)[1] for folder, own in zip(folders, problems, strict=True)]
    expect_same(*read)
    assert sum(map(len, read[0].values())) > 150 and len(problems[0].found) == len(problems[1].found)
