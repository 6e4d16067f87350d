"""A folder of made data is either whole or absent.

A cache that is half written, cut short or changed is worse than none: a lesson would train on it and report
a number. So data is made in a temporary folder, described by a manifest (size and SHA-256 of every file),
flushed to the disk and renamed into place in one step; and the manifest is checked whenever the folder is
opened.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import filelock
import platformdirs

MANIFEST = "manifest.json"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_IN_NUMPY = ("requested and", "Not enough free space")  # numpy reports a full disk without a number
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder in which made data is kept: ``ITR_CACHE``, or the user's cache folder of this system."""
    chosen = os.environ.get("ITR_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else Path(platformdirs.user_cache_dir("itr_lib"))


def shared_folder(key: str) -> Path | None:
    """A complete, verified folder of the cache that a class shares and only reads, ``ITR_SHARED_CACHE``; or None.

    Neither locks nor writes. One that is damaged is reported, and passed over.
    """
    chosen = os.environ.get("ITR_SHARED_CACHE")
    folder = Path(chosen).expanduser().absolute() / key if chosen else None
    if folder is None or not os.path.lexists(folder):
        return None
    problem = damage(folder)
    if problem:
        log.warning("The shared data in %s cannot be used (%s): tell whoever filled that folder.", folder, problem)
    return None if problem else folder


def cached_folder(key: str, make: Callable[[Path], None]) -> Path:
    """A complete, verified folder for ``key``; ``make(path)`` fills an empty folder where there is none yet.

    What lies in the cache that a class shares is taken from there (:func:`shared_folder`).
    Several processes may ask at once: one makes it while the others wait. What a killed run left behind is
    removed first. A folder that does not agree with its manifest is reported, removed and made again.

    Raises:
        ValueError: ``key`` cannot be the name of a folder.
        OSError: the cache folder cannot be written to, or the disk is full.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", key):
        raise ValueError(f"key {key!r} must consist of letters, digits, '.', '_' and '-': it names a folder")
    if shared := shared_folder(key):
        return shared
    folder = cache_folder() / key
    if folder.is_dir() and damage(folder) is None:  # needs no lock, so a read-only cache can be used
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(str(folder) + ".lock"):
            if not _still_whole(folder):
                _make_whole(folder, make)
    except OSError as error:
        raise _explained(error, folder.parent) from error
    return folder


def damage(folder: Path) -> str | None:
    """What is wrong with a cached folder, in a few words, or None where it agrees with its manifest."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        for name, expected in files.items():
            size = (folder / name).stat().st_size
            if size != expected["size"]:
                return f"{name} has {size} bytes instead of {expected['size']}"
            if _sha256(folder / name) != expected["sha256"]:
                return f"{name} was changed after it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    except OSError as error:
        return f"a file cannot be read ({error.strerror})"
    return None


def _still_whole(folder: Path) -> bool:
    """Look again once the lock is held (another process may have made it); clear what is damaged."""
    if not folder.exists():
        return False
    problem = damage(folder)
    if problem is None:
        return True
    log.warning("The cached data in %s is damaged (%s): it is removed and made again.", folder, problem)
    shutil.rmtree(folder)
    return False


def _make_whole(folder: Path, make: Callable[[Path], None]) -> None:
    """Fill a temporary folder and rename it into place. The caller holds the lock."""
    making = folder.with_name(folder.name + ".making")
    if making.exists():  # from a killed run: whoever made it has lost the lock
        shutil.rmtree(making)
    making.mkdir()
    try:
        make(making)
        _seal(making)
        os.rename(making, folder)
        _flush(folder.parent)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _seal(folder: Path) -> None:
    """Write the manifest and see to it that everything is on the disk before the folder gets its name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": _sha256(path)} for path in paths
    }
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=1))
    for path in [*paths, folder / MANIFEST]:
        _flush(path)
    for path in [path for path in folder.rglob("*") if path.is_dir()] + [folder]:
        _flush(path)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot flush a folder
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explained(error: OSError, folder: Path) -> OSError:
    """The same error as one sentence that says what to do; any other error as it is."""
    if error.errno in _FULL or any(words in str(error) for words in _FULL_IN_NUMPY):
        text = f"The disk of the cache folder {folder} is full: free some space, or set ITR_CACHE to another."
        return OSError(errno.ENOSPC, text)
    if error.errno in _REFUSED:
        text = f"The cache folder {folder} cannot be written to ({error.strerror}): set ITR_CACHE to another."
        return OSError(error.errno, text)
    return error
