"""The folder that a data set comes to lie in: what it lacks, where that lies already, and how it gets its place."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_scripts.sources import Part, Source
from itr_lib.data.archives import moved_in, unpack

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz")
PICTURES = (".jpg", ".jpeg", ".png")
DEPTH = 3  # how far below a folder files are looked for; Kaggle's pictures lie two folders deep


@dataclass(frozen=True)
class Place:
    """Where a data set comes to lie, and where else to look for it."""

    source: Source
    root: Path
    others: tuple[Path, ...] = ()
    keep: bool = False
    show: bool = False

    @property
    def downloads(self) -> Path:
        """What is on its way: archives, parts of them, and what is being unpacked."""
        return self.root / "downloads"

    @property
    def captions(self) -> Path:
        """The file that says which pictures there should be."""
        return self.root / next(part.gives for part in self.source.parts if not part.is_folder)


def expected(part: Part, place: Place) -> dict[str, str]:
    """The names of the files that a part should have, by their lower case."""
    if not part.is_folder:
        return {part.gives.casefold(): part.gives}
    folder = Path(part.gives).name
    names = [name for name, where in pictures_of(place.captions) if where in ("", folder)]
    if not names:
        raise ValueError(f"{place.captions} names no photograph in {folder}: move it away and call this command again")
    return {name.casefold(): name for name in names}


def pictures_of(captions: Path) -> tuple[tuple[str, str], ...]:
    """Name and sub-folder ("" where it says none) of each image of a file in Karpathy's format.

    Raises:
        ValueError: it is damaged, or in another format.
    """
    status = captions.stat()
    try:
        return _read_pictures(captions, status.st_size, status.st_mtime_ns)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        sentence = "is damaged, or not in Karpathy's format: move it away and call this command again"
        raise ValueError(f"{captions} {sentence}") from error


@functools.lru_cache(maxsize=2)  # COCO's has 144 MB, and is asked for at each step
def _read_pictures(captions: Path, size: int, modified: int) -> tuple[tuple[str, str], ...]:
    images = json.loads(captions.read_text(encoding="utf-8-sig"))["images"]
    return tuple((str(image["filename"]), image.get("filepath") or "") for image in images)


def lacking(part: Part, place: Place) -> str:
    """What a part still lacks, in a few words; empty where it is complete."""
    if not place.captions.exists():
        return f"there is no {place.captions.name}"
    if not part.is_folder:
        pictures_of(place.captions)
        return ""
    names = expected(part, place).values()
    folder = place.root / part.gives
    there = {entry.name for entry in os.scandir(folder) if entry.stat().st_size} if folder.is_dir() else set()
    gone = [name for name in names if name not in there]
    few = ", ".join(gone[:3])
    return f"{len(gone):,} of {len(names):,} photographs are missing ({few}, ...)" if gone else ""


def found(part: Part, place: Place) -> Iterator[Path]:
    """What may be this part, in the folder itself and where else to look: archives and folders, any case of names."""
    ours = place.root / part.gives
    names = {name.casefold() for name in (part.file, ours.name, *part.also)}
    for top in (place.root, *place.others):
        for here, files in _walk(top, {"unpacking", "downloads"} if part.urls else {"unpacking"}):
            yield from (here / name for name in files if name.casefold() in names and here / name != ours)
            named = here == top or here.name.casefold() in names
            if named and here != ours and part.is_folder and any(name.casefold().endswith(PICTURES) for name in files):
                yield here


def _walk(top: Path, without: set[str]) -> Iterator[tuple[Path, list[str]]]:
    """Folders down to ``DEPTH``, each with its files. What this command itself fetches is not what others brought."""
    for folder, below, files in os.walk(top, followlinks=True):
        here = Path(folder)
        deep = len(here.relative_to(top).parts) >= DEPTH
        below[:] = [] if deep else sorted(set(below) - without)
        yield here, sorted(files)


def place_archive(part: Part, archive: Path, place: Place) -> None:
    """Unpack what is wanted into the folder it is read from. Raises ``ValueError`` where the archive will not do."""
    names = expected(part, place)
    with moved_in(_target(part, place), place.downloads / "unpacking") as making:
        wanted = part.wanted or part.gives
        unpack(archive, making, wanted, rename=lambda name: names.get(name.casefold(), name), show=place.show)
        _expect_right(part, making, names)


def place_files(part: Part, path: Path, place: Place) -> None:
    """Files that lie on disk unpacked: linked where that is possible, which takes no room; copied otherwise."""
    names = expected(part, place)
    with moved_in(_target(part, place), place.downloads / "unpacking") as making:
        for file in path.iterdir() if path.is_dir() else [path]:
            name = names.get(file.name.casefold())
            if name and file.is_file() and not (making / name).exists():
                _link(file, making / name)
        _expect_right(part, making, names)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(file, target)


def _target(part: Part, place: Place) -> Path:
    return place.root / part.gives if part.is_folder else place.root


def _expect_right(part: Part, making: Path, names: dict[str, str]) -> None:
    if not any((making / name).exists() for name in names.values()):
        raise ValueError(f"it holds none of the files that {part.name} should have")
    if not part.is_folder:
        pictures_of(making / part.gives)
