"""What lies in a folder of photographs: caption files, pictures, features, under the names that people give them."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from itr_lib.data.photographs.records import Record

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
# Names of image folders in the archives of the field, in lower case; the spelling of the third is the archive's own.
IMAGE_FOLDERS = (
    *("images", "flickr8k_dataset", "flicker8k_dataset", "flickr30k-images", "flickr30k_images"),
    *("train2014", "val2014", "train2017", "val2017"),
)
NUMBERED = "bu_att"  # TERAN's folder of Flickr30k names the features by the image's place in Karpathy's file


@dataclass(frozen=True)
class Listing:
    """What lies in a folder and in the folders just below it, without what systems hide or leave behind.

    ``names`` are those of files and folders, by their folder: listed once, for a folder may hold 120,000 pictures.
    """

    root: Path
    names: dict[Path, list[str]]

    @classmethod
    def of(cls, root: Path) -> Listing:
        """List a folder. Raises ``OSError`` where it cannot be read."""
        here = _visible(root)
        below = [root / name for name in here if (root / name).is_dir()]
        return cls(root, {root: here} | {folder: _visible(folder) for folder in below})

    @property
    def below(self) -> list[Path]:
        """The folders in the root."""
        return list(self.names)[1:]

    def files(self, pattern: str) -> list[Path]:
        """Files of that name, in any case, in the root, or where it has none in the folders just below."""
        match = re.compile(fnmatch.translate(pattern.lower())).match
        for folders in ([self.root], self.below):
            paths = [folder / name for folder in folders for name in self.names[folder] if match(name.lower())]
            if found := [path for path in paths if path.is_file()]:
                return found
        return []


def _visible(folder: Path) -> list[str]:
    """Names in a folder, in order, without ``._x.jpg``, ``__MACOSX``, ``Thumbs.db``."""
    junk = ("thumbs.db", "desktop.ini")
    return sorted(name for name in os.listdir(folder) if not name.startswith((".", "__")) and name.lower() not in junk)


def find_images(listing: Listing) -> Path | None:
    """The folder of pictures: a folder of a usual name, in any case, there or one below; None where there is none.

    Kaggle's archive of Flickr30k has the pictures in a folder of the same name, two deep. COCO's pictures lie in
    folders of their own, ``train2017`` beside ``val2017``: then it is the folder that holds these.
    """
    for folders in ([listing.root], listing.below):
        named = [folder / name for folder in folders for name in listing.names[folder] if name.lower() in IMAGE_FOLDERS]
        named = sorted(filter(Path.is_dir, named), key=lambda path: IMAGE_FOLDERS.index(path.name.lower()))
        if named:
            first = named[0]
            return first.parent if first.name.lower()[-4:].isdigit() else _innermost(first)
    return None


def _innermost(folder: Path) -> Path:
    """The folder of the same name inside, where there is one that holds pictures."""
    inner = folder / folder.name
    return inner if inner.is_dir() and any(name.lower().endswith(PICTURES) for name in os.listdir(inner)) else folder


def only_feature_file(listing: Listing) -> Path | None:
    """The one feature file or folder; None where there is none. Raises ``ValueError`` where there are several."""
    found = find_features(listing)
    if len(found) > 1:
        names = [str(path.relative_to(listing.root)) for path in found]
        raise ValueError(f"{str(listing.root)!r} holds several feature files, {names}: say which with features=...")
    return found[0] if found else None


def find_features(listing: Listing) -> list[Path]:
    """What features there are: ``*.npz``, ``features/``, sets with a ``features.json``, bottom-up folders."""
    files = [listing.root / name for name in listing.names[listing.root] if name.endswith(".npz")]
    folders = [path for path in listing.below if _holds_features(path, listing.names[path])]
    inner = [path / NUMBERED for path in listing.below if NUMBERED in listing.names[path]]
    return files + folders + [path for path in inner if path.is_dir()]


def _holds_features(folder: Path, names: list[str]) -> bool:
    return folder.name == "features" or folder.name.lower().endswith(NUMBERED) or "features.json" in names


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
