"""Files out of an archive that may be hostile.

Nothing that an archive says decides where a file is written: what is wanted comes out side by side, under its last
name alone. A path that leads out, a link, a device or a size beyond the bounds refuses the archive as a whole, wanted
or not: an honest archive of photographs has none of them.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from itr_lib.data.download import BLOCK, expect_room
from itr_lib.progress import progress_bar

RATIO, AT_LEAST = 50, 10_000_000  # an archive may unpack to 50 times its length, or 10 MB; JSON takes 5 times
MOST_FILES = 1_000_000
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, RuntimeError, ValueError, OverflowError),
)
_TAR_KINDS = {tarfile.SYMTYPE: "a link", tarfile.LNKTYPE: "a link", tarfile.DIRTYPE: "folder"}


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    kind: str  # "file", "folder", or what is refused: "a link"
    open: Callable[[], IO[bytes]]


def unpack(
    archive,
    folder,
    wanted: str = "*",
    *,
    rename: Callable[[str], str] = str,
    most_bytes: int | None = None,
    most_files: int = MOST_FILES,
    show: bool = True,
) -> int:
    """Write the files of a zip or tar archive whose last name matches ``wanted`` into ``folder``; returns their number.

    Meant for a folder that is thrown away where this raises: :func:`moved_in` makes one. What macOS and others hide
    (``._x.jpg``, ``.DS_Store``) stays behind. A name that stands twice with one size is written once.

    Args:
        wanted: a pattern in the manner of the shell, upper and lower case alike.
        rename: what a file is called here, from its last name there.
        most_bytes: of all files together; default: 50 times the archive, and 10 MB at least.
        most_files: how many entries the archive may have.

    Raises:
        ValueError: the archive is hostile, damaged, or no archive. The sentence names it.
        OSError: it cannot be read, or the disk has no room.
    """
    archive, folder = Path(archive), Path(folder)
    bound = most_bytes or max(RATIO * archive.stat().st_size, AT_LEAST)
    written: dict[str, int] = {}
    try:
        with _members(archive) as members, progress_bar(None, f"unpacking {archive.name}", "file", show=show) as bar:
            for member in _bounded(members, bound, most_files):
                name = rename(_last_name(member.name))
                if member.kind == "file" and _is_wanted(name, wanted) and not _stands_twice(name, member, written):
                    _write(member, folder / name)
                    bar.update()
    except _DAMAGED as error:
        raise ValueError(f"{archive} cannot be unpacked: it is damaged, or no archive ({error})") from error
    except _Hostile as error:
        raise ValueError(f"{archive} is refused: {error}") from error
    return len(written)


class _Hostile(Exception):
    """What an honest archive does not hold."""


@contextlib.contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    with open(archive, "rb") as file:
        is_zip = file.read(2) == b"PK"
    if is_zip:
        with zipfile.ZipFile(archive) as opened:
            yield (_zip_member(opened, info) for info in opened.infolist())
    else:
        with tarfile.open(archive, "r|*") as opened:  # one pass: what is packed cannot be skipped over anyhow
            yield _tar_members(opened)


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    form = stat.S_IFMT(info.external_attr >> 16)
    kind = "folder" if info.is_dir() else "file" if form in (0, stat.S_IFREG) else "a link or a device"
    if info.flag_bits & 1:
        kind = "a file with a password"
    return _Member(info.filename, info.file_size, kind, functools.partial(opened.open, info))


def _tar_members(opened: tarfile.TarFile) -> Iterator[_Member]:
    for info in opened:
        kind = "file" if info.isreg() else _TAR_KINDS.get(info.type, "a device")
        yield _Member(info.name, info.size, kind, functools.partial(opened.extractfile, info))
    # tarfile ends without a word at a damaged header and where an archive was cut: a true end is two empty blocks.
    if opened.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise EOFError("its end is missing")


def _bounded(members: Iterator[_Member], most_bytes: int, most_files: int) -> Iterator[_Member]:
    """The members, each looked at before it is used."""
    total = 0
    for number, member in enumerate(members, start=1):
        total += member.size
        if number > most_files:
            raise _Hostile(f"it has more than {most_files:,} entries")
        if total > most_bytes or member.size < 0:
            raise _Hostile(f"it unpacks to more than {most_bytes:,} bytes")
        if member.kind not in ("file", "folder"):
            raise _Hostile(f"{member.name!r} is {member.kind}")
        _expect_path_inside(member.name)
        yield member


def _expect_path_inside(name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts:
        raise _Hostile(f"{name!r} leads out of the folder")
    if ":" in name or not name.isprintable():  # a drive or a stream of Windows, or a name that hides what it is
        raise _Hostile(f"{name!r} is no name for a file")


def _last_name(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").split("/")[-1]


def _is_wanted(name: str, wanted: str) -> bool:
    return not name.startswith(".") and fnmatch.fnmatchcase(name.casefold(), wanted.casefold())


def _stands_twice(name: str, member: _Member, written: dict[str, int]) -> bool:
    """Kaggle's Flickr30k has each picture twice. Case is looked past: many a disk does so too."""
    before = written.setdefault(name.casefold(), -1)
    if before not in (-1, member.size):
        raise _Hostile(f"{name!r} stands twice in it, with {before:,} and {member.size:,} bytes")
    written[name.casefold()] = member.size
    return before == member.size


def _write(member: _Member, path: Path) -> None:
    expect_room(path.parent, member.size, path.name)
    with member.open() as source, open(path, "xb") as target:
        shutil.copyfileobj(source, target, BLOCK)
    if path.stat().st_size != member.size:
        raise EOFError(f"{member.name!r} is cut short")


@contextlib.contextmanager
def moved_in(folder, making) -> Iterator[Path]:
    """An empty folder ``making`` to fill; at the end it becomes ``folder``, in one step. One process at a time.

    Where ``folder`` is there already, what it lacks is moved into it and what it has stays. Nothing is moved where the
    filling fails, and what a killed call left is thrown away. Both must lie on one disk for the one step.
    """
    folder, making = Path(folder), Path(making)
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        yield making
        getattr(os, "sync", lambda: None)()  # a name must not outlive its bytes where the power goes
        _move(making, folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _move(making: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        shutil.move(making, folder)
        return
    for path in making.iterdir():
        target = folder / path.name
        if not target.exists() or target.stat().st_size == 0:
            shutil.move(path, target)
