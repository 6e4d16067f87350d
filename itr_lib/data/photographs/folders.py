"""What lies in a folder of photographs: caption files, pictures, features, under the names that people give them."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from itr_lib.data.photographs.records import Record

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
# Names of image folders in the archives of the field, in lower case; the spelling of the third is the archive's own.
IMAGE_FOLDERS = (
    *("images", "flickr8k_dataset", "flicker8k_dataset", "flickr30k-images", "flickr30k_images"),
    *("train2014", "val2014", "train2017", "val2017"),
)
NUMBERED = "bu_att"  # TERAN's folder of Flickr30k names the features by the image's place in Karpathy's file


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, in order, without what systems hide or leave behind: ``._x.jpg``, ``__MACOSX``."""
    junk = ("thumbs.db", "desktop.ini")
    return sorted(p for p in folder.iterdir() if not p.name.startswith((".", "__")) and p.name.lower() not in junk)


def find_files(root: Path, pattern: str) -> list[Path]:
    """Files of that name, in any case, in a folder, or where it has none in the folders just below it."""
    here = visible(root)
    found = [path for path in here if path.is_file() and fnmatch.fnmatchcase(path.name.lower(), pattern.lower())]
    below = [folder for folder in here if folder.is_dir() and not found]
    return found + [
        path
        for folder in below
        for path in visible(folder)
        if fnmatch.fnmatchcase(path.name.lower(), pattern.lower()) and path.is_file()
    ]


def find_images(root: Path) -> Path | None:
    """The folder of pictures: a folder of a usual name, in any case, there or one below; None where there is none.

    Kaggle's archive of Flickr30k has the pictures in a folder of the same name, two deep. COCO's pictures lie in
    folders of their own, ``train2017`` beside ``val2017``: then it is the folder that holds these.
    """
    here = [folder for folder in visible(root) if folder.is_dir()]
    below = [inner for folder in here for inner in visible(folder) if inner.is_dir()]
    for folders in (here, below):
        named = [folder for name in IMAGE_FOLDERS for folder in folders if folder.name.lower() == name]
        if named:
            first = named[0]
            return first.parent if first.name.lower()[-4:].isdigit() else _innermost(first)
    return None


def _innermost(folder: Path) -> Path:
    """The folder of the same name inside, where there is one that holds pictures."""
    inner = folder / folder.name
    return inner if inner.is_dir() and any(path.suffix.lower() in PICTURES for path in inner.iterdir()) else folder


def find_features(root: Path) -> list[Path]:
    """What features there are: ``*.npz``, ``features/``, sets with a ``features.json``, bottom-up folders."""
    here = visible(root)
    folders = [path for path in here if path.is_dir()]
    named = [path for path in folders if path.name == "features" or path.name.lower().endswith("bu_att")]
    named += [inner for path in folders for inner in visible(path) if inner.is_dir() and inner.name == NUMBERED]
    sets = [path for path in folders if (path / "features.json").is_file() and path not in named]
    return [path for path in here if path.suffix == ".npz"] + named + sets


def only_feature_file(root: Path) -> Path | None:
    """The one feature file or folder; None where there is none. Raises ``ValueError`` where there are several."""
    found = find_features(root)
    if len(found) > 1:
        names = [str(path.relative_to(root)) for path in found]
        raise ValueError(f"{str(root)!r} holds several feature files, {names}: say which with features=...")
    return found[0] if found else None


def feature_names(features, records: Sequence[Record]) -> list[str]:
    """What the features of each record are called: its file name, or an id where a folder goes by that.

    Bottom-up features of COCO are named by the picture's id. The number in Karpathy's file counts only where nothing
    else fits and the folder is TERAN's: any other numbering would give each picture the features of another.
    """
    folder = Path(features).expanduser()
    names = [record.filename for record in records]
    if not folder.is_dir():
        return names
    stems = {path.stem for path in folder.iterdir() if path.suffix in (".npy", ".npz")}
    if not stems.isdisjoint(names) or not stems.isdisjoint(Path(name).stem for name in names):
        return names
    known = [next((key for key in record.keys if key in stems), None) for record in records]
    if not any(known) and folder.name == NUMBERED:
        known = [record.number for record in records]
    return [name if key is None else key for name, key in zip(names, known, strict=True)]
