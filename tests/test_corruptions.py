"""Random damage to each of the field's layouts: a sentence of ours, or a counted skip; never another image's captions.

Each caption ends with the number of its image, and precomputed features are that number, so that what slips by a
line shows.
"""

from __future__ import annotations

import json
import random
import re
import traceback
from pathlib import Path

import numpy as np
import pytest
from test_entity_files import STEMS, TOKENS, entry
from test_entity_files import write as write_entities
from test_layouts import IDS, coco, kaggle8k, kaggle30k, karpathy, original8k, pictures, scan

from itr_lib.data.photographs.entity_records import read_pictures
from itr_lib.data.photographs.layouts import load_folder
from itr_lib.data.photographs.problems import Problems

JUNK = [
    None,
    True,
    -1,
    10**30,
    float("inf"),
    float("nan"),
    "",
    "x" * 5000,
    "\ud83d",
    "a\0b",
    "../../x",
    [],
    {},
    [[]],
    [1],
]


# How Python and numpy begin, where no sentence of ours was put before theirs.
THEIRS = re.compile(
    r"invalid literal|could not convert|unpack|ambiguous|reshape|codec can't|Errno|index|argument|surrogate"
)


def with_features(root):
    names = [f"{one}.jpg" for one in IDS]
    karpathy(root, names)
    boxes = np.tile(np.float32([0, 0, 1, 1]), (40, 2, 1))
    features = np.arange(40, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    np.savez(root / "all.npz", filenames=names, features=features, boxes=boxes, num_boxes=np.full(40, 2))


def with_boxes(root):
    names = [f"{one}.jpg" for one in IDS]
    karpathy(root, names)
    one = {
        "size": [60, 40],
        "objects": [{"label": "dog", "box": [0, 0, 60, 40]}, {"label": "cat", "box": [3, 4, 9, 9]}],
    }
    (root / "boxes.json").write_text(json.dumps({"images": dict.fromkeys(names, one)}))


def entities(root):
    root.mkdir()
    write_entities(root, dict.fromkeys(STEMS, entry()), dict.fromkeys(STEMS, TOKENS), STEMS)
    pictures(root / "images", [f"{stem}.jpg" for stem in STEMS])


LAYOUTS = {
    "karpathy": with_features,
    "boxes": with_boxes,
    "kaggle8k": kaggle8k,
    "kaggle30k": kaggle30k,
    "original8k": original8k,
    "scan": lambda root: scan(root, repeats=5),
    "scan text": lambda root: scan(root, ids=5, features=False),
    "coco": lambda root: coco(root, boxes=True),
    "entities": entities,
}


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes as a bad disk, a cut download or an editor leaves them."""
    at, size = rng.randrange(max(1, len(content))), rng.randrange(1, 40)
    lines = content.split(b"\n")
    line = rng.randrange(len(lines))
    return rng.choice(
        [
            lambda: content[:at] + bytes(rng.randrange(256) for _ in range(size)) + content[at + size :],
            lambda: content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)] if content else []) + content[at + 1 :],
            lambda: content[:at],
            lambda: content[:at] + content[at + size :],
            lambda: content + content[at : at + size],
            lambda: b"",
            lambda: b"\n".join(lines[:line] + lines[line + 1 :]),
            lambda: b"\n".join(lines[:line] + [lines[line]] + lines[line:]),
            lambda: b"\n".join(lines[:line] + [b""] + lines[line:]),
            lambda: content.decode("utf-8", "replace").encode("utf-16"),
            lambda: b"\xef\xbb\xbf" + content,
            lambda: content.replace(b"\n", b"\r\n"),
            lambda: rng.randbytes(200),
        ]
    )()


def mutated(content, rng: random.Random):
    """JSON of which one value, anywhere, is another or gone."""
    places = []

    def walk(node):
        for key in range(len(node)) if isinstance(node, list) else list(node):
            places.append((node, key))
            if isinstance(node[key], list | dict):
                walk(node[key])

    walk(content)
    node, key = rng.choice(places)
    if rng.random() < 0.25:
        del node[key]
    else:
        node[key] = rng.choice(JUNK)
    return content


def harm(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.7:
        path.write_text(json.dumps(mutated(json.loads(content), rng)))
    elif rng.random() < 0.05:
        path.unlink()
    else:
        path.write_bytes(damaged(content, rng))


def expect_in_place(data) -> None:
    """No more than the damaged line itself may stand with another image."""
    strangers = wrong = 0
    for part in data.splits.values():
        for caption, image in zip(part.captions, part.image_of_caption, strict=True):
            row = IDS.index(stem) if (stem := stem_of(part.image_ids[image])) in IDS else None
            last = caption.split()[-1]
            strangers += row is not None and last.isdigit() and int(last) != row
        if part.feature_dim:
            rows = np.array([IDS.index(stem_of(name)) if stem_of(name) in IDS else -1 for name in part.image_ids])
            wrong += ((part.features[:, 0, 0] != rows) & (rows >= 0)).sum()
    assert strangers <= 5 and wrong <= 5  # all captions of the one image whose name was damaged


def stem_of(name: str) -> str:
    return Path(name).stem.lstrip("0")


def read(layout: str, root: Path, strict: bool):
    if layout == "entities":
        return read_pictures(root, None, None, Problems(strict))
    return load_folder("coco" if layout == "coco" else "flickr8k", root, strict=strict)


def corrupt(layout: str, root: Path, times: int, seed: int) -> dict[str, int]:
    """Damage one file, read, and put it back; how often it was refused and how often something was skipped."""
    LAYOUTS[layout](root)
    read_at_all = [path for path in sorted(root.rglob("*")) if "__MACOSX" not in path.parts and path.name[:2] != "._"]
    files = [path for path in read_at_all if path.is_file() and path.suffix not in (".jpg", ".db")]
    rng, counts = random.Random(seed), {"refused": 0, "skipped": 0, "read": 0}
    for number in range(times):
        path = rng.choice(files)
        before = path.read_bytes()
        harm(path, rng)
        try:
            data = read(layout, root, strict=rng.random() < 0.2)
            if layout != "entities":
                data.report().encode()
                expect_in_place(data)
                counts["skipped" if data.problems else "read"] += 1
        except (OSError, ValueError) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            ours = "itr_lib" in last.filename and len(str(error)) > 20 and not THEIRS.search(str(error).split(" (")[0])
            assert ours, f"damage {number} of seed {seed} to {path.relative_to(root)} ({layout}): {last} says {error!r}"
            str(error).encode()
            counts["refused"] += 1
        except Exception as error:
            error.add_note(f"damage {number} of seed {seed} to {path.relative_to(root)} ({layout})")
            raise
        path.write_bytes(before)
    return counts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_is_told(layout, tmp_path):
    counts = corrupt(layout, tmp_path / "data", 40, seed=0)
    assert counts["refused"] and counts["refused"] + counts["skipped"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_is_told_a_thousand_times(layout, tmp_path):
    """A thousand in all: rare kinds of damage to rare places need many tries."""
    corrupt(layout, tmp_path / "data", 120, seed=1)
