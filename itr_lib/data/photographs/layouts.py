"""What lies in a folder, and which reader takes it.

A folder may hold the same photographs in more than one layout. What tells the field's split comes first; the notes say
what was taken and what was not. Where two layouts are equally good, a sentence asks to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from itr_lib.data.photographs import caption_lines, precomputed
from itr_lib.data.photographs.assembly import PhotographData, assemble, picture_path
from itr_lib.data.photographs.caption_lines import is_caption_file, read_caption_lines
from itr_lib.data.photographs.coco import read_coco
from itr_lib.data.photographs.folders import find_files, find_images, only_feature_file, visible
from itr_lib.data.photographs.karpathy import expect_splits, read_karpathy
from itr_lib.data.photographs.pictures import is_file
from itr_lib.data.photographs.precomputed import read_precomputed
from itr_lib.data.photographs.problems import Problems
from itr_lib.data.photographs.records import Source

KNOWN = ("flickr8k", "flickr30k", "coco")
EXPECTED = (
    "dataset_<name>.json (Karpathy), captions.txt or results.csv (Kaggle), Flickr8k.token.txt, captions_val2017.json"
    " (COCO), or test_caps.txt (SCAN)"
)


def load_folder(
    name: str,
    root,
    *,
    features=None,
    splits: Sequence[str] | None = None,
    layout: str | None = None,
    strict: bool = False,
    verify: bool | None = None,
) -> PhotographData:
    """A data set in one folder: captions in one of the field's layouts, pictures, features, each where there are some.

    Args:
        name: what the data set is called. It chooses among several files of one layout, such as ``dataset_*.json``.
        root: the folder; ``~`` is your home.
        features: the feature file or folder, where there are several.
        splits: which to read; None: those that are there.
        layout: ``"karpathy"``, ``"precomputed"`` (SCAN), ``"captions"`` (one caption a line) or ``"coco"``; None:
            what is there.
        strict: raise ``ValueError`` at the first bad record instead of skipping it.
        verify: decode every picture now; None: where ``strict``.

    Raises:
        ValueError: the folder holds nothing that is known, or too much to choose from, or a file cannot be used.
    """
    root, problems = Path(root).expanduser(), Problems(strict)
    if not root.is_dir():
        raise ValueError(f"{str(root)!r} is no folder: expected one with {EXPECTED}")
    expect_splits(splits)
    found = _found(name, root)
    chosen = _chosen(found, name, root, layout, features)
    images = find_images(root)
    source = _read(chosen, found[chosen], root, problems)
    notes = _left(found, chosen)
    if chosen == "precomputed" and images and not _any_picture(source, images):
        notes.append(f"The pictures in {images} are not used: no id_mapping.json says which of them is which image.")
        images = None
    if features is None and source.regions is None:
        features = only_feature_file(root)
    boxes = _boxes(root, found.get("coco", ())) if features is None and source.regions is None else None
    data = assemble(
        source,
        problems,
        name=name,
        splits=splits,
        images=images,
        features=features,
        boxes=boxes,
        decode=strict if verify is None else verify,
    )
    return PhotographData(data.splits, data.problems, (*data.notes, *notes))
