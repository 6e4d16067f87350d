"""A file from the first of several addresses that gives it whole.

What came is kept in ``NAME.part``, so a call that was stopped, by a cut connection or by Ctrl-C, goes on where it was:
with ``Range``, and with ``If-Range`` so that the rest of another version is never sewn to it (RFC 9110, sections 13.1.5
and 14.2). The file gets its name when its size and its hash are right: a name that is there is a file that is whole.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from itr_lib.progress import progress_bar

BLOCK = 1 << 18  # bytes read at once
TRIES = 4  # in a row without a new byte, before the next address is asked
LATER = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses that pass: worth another try at the same address
_OURS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR}


class DownloadError(OSError):
    """No address gave the file; the message says what each of them answered."""


class _NextAddress(Exception):
    """This address will not give the file: why not."""


@dataclass(frozen=True)
class _Goal:
    path: Path
    size: int | None
    digest: str
    pause: float
    timeout: float
    show: bool

    @property
    def part(self) -> Path:
        return self.path.with_name(self.path.name + ".part")

    @property
    def notes(self) -> Path:
        """Where the part came from: address, version, and the length of the whole."""
        return self.path.with_name(self.path.name + ".part.json")


def download(
    urls: Sequence[str],
    path,
    *,
    size: int | None = None,
    digest: str = "",
    pause: float = 1.0,
    timeout: float = 30.0,
    show: bool = True,
) -> Path:
    """The file ``path``, fetched unless it is there. For one process at a time: where more may come, hold a lock.

    Args:
        urls: addresses of the same file, asked in turn. Proxies are those of the environment (``https_proxy``).
        size: its length in bytes, where it is known. An address that offers another length is passed over at once.
        digest: ``"sha256:..."`` or ``"md5:..."``, where it is known.
        pause: seconds to wait before a second try; doubled before each further one.
        timeout: seconds without a byte after which a connection counts as cut.

    Raises:
        DownloadError: no address gives the file.
        OSError: it cannot be written, or the disk has no room for it.
    """
    goal = _Goal(Path(path), size, digest, pause, timeout, show)
    if goal.path.is_file() and fault_of(goal.path, size, digest, show) is None:
        return goal.path
    goal.path.parent.mkdir(parents=True, exist_ok=True)
    answers = []
    for url in urls:
        try:
            _from_address(url, goal)
            return goal.path
        except _NextAddress as why:
            answers.append(f"\n  {url}: {why}")
    raise DownloadError(f"{goal.path.name} could not be fetched from any address:{''.join(answers)}")


def fault_of(path: Path, size: int | None, digest: str, show: bool = False) -> str | None:
    """What is wrong with a file, in a few words, or None where it has the size and the hash that are known."""
    found = path.stat().st_size
    if size is not None and found != size:
        return f"{found:,} bytes instead of {size:,}"
    kind, _, expected = digest.partition(":")
    if digest and _hash(path, kind, show) != expected.lower():
        return f"its {kind.upper()} is not {expected}"
    return None


def _hash(path: Path, kind: str, show: bool) -> str:
    total = hashlib.new(kind, usedforsecurity=False)
    with (
        open(path, "rb") as file,
        progress_bar(path.stat().st_size, f"checking {path.name}", "B", show=show) as bar,
    ):
        while block := file.read(BLOCK):
            total.update(block)
            bar.update(len(block))
    return total.hexdigest()


def _from_address(url: str, goal: _Goal) -> None:
    resumed = _length(goal.part) > 0
    _until_whole(url, goal)
    fault = fault_of(goal.part, goal.size, goal.digest, goal.show)
    if fault and resumed:  # its beginning may have come from elsewhere: once more, from the start
        _discard(goal)
        _until_whole(url, goal)
        fault = fault_of(goal.part, goal.size, goal.digest, goal.show)
    if fault:
        _discard(goal)
        raise _NextAddress(f"sent another file: {fault}")
    os.replace(goal.part, goal.path)
    goal.notes.unlink(missing_ok=True)


def _until_whole(url: str, goal: _Goal) -> None:
    """Ask again after each cut, as long as that brings something new."""
    furthest, tries = _length(goal.part), 0
    while not _all_there(goal):
        try:
            _receive(url, goal)
            return
        except (OSError, http.client.HTTPException) as error:
            why = _reason(error, goal)
        tries = 0 if _length(goal.part) > furthest else tries + 1
        furthest = max(furthest, _length(goal.part))
        if tries == TRIES:
            raise _NextAddress(f"{why} ({TRIES} times)")
        time.sleep(goal.pause * 2 ** max(tries - 1, 0))


def _reason(error: Exception, goal: _Goal) -> str:
    """Why a try failed, where another one makes sense; otherwise raises."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code == 416:  # what we have is longer than what they have
            _discard(goal)
        elif error.code not in LATER:
            raise _NextAddress(f"answered {error.code} ({error.reason})")
        return f"answered {error.code} ({error.reason})"
    cause = getattr(error, "reason", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise _NextAddress(f"its certificate is not to be trusted ({cause.verify_message})")
    if isinstance(error, OSError) and error.errno in _OURS and error.filename is not None:
        raise error
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        raise error
    return str(cause) or type(cause).__name__


def _receive(url: str, goal: _Goal) -> None:
    """One request, from what is there to the end. Raises where the connection is cut before the end."""
    request = urllib.request.Request(url, headers={"User-Agent": "itr_lib", **_range_headers(url, goal)})
    with urllib.request.urlopen(request, timeout=goal.timeout) as answer:
        start, total = _span(answer.headers, goal) if answer.status == 206 else (0, _content_length(answer.headers))
        _expect_this_file(answer.headers, total, goal)
        if start == 0:
            _begin(url, answer.headers, total, goal)
        expect_room(goal.path.parent, (total or 0) - start, goal.path.name)
        _append(answer, start, total, goal)
    have = _length(goal.part)
    if total is not None and have < total:
        raise ConnectionError(f"the connection was cut after {have:,} of {total:,} bytes")


def _append(answer: http.client.HTTPResponse, start: int, total: int | None, goal: _Goal) -> None:
    """Write what comes, as it comes. Reading ends quietly where a connection is cut: the caller compares lengths."""
    most = goal.size if total is None else total
    with (
        open(goal.part, "ab" if start else "wb", buffering=0) as file,
        progress_bar(most, goal.path.name, "B", done=start, show=goal.show) as bar,
    ):
        while block := answer.read1(BLOCK):
            file.write(block)
            bar.update(len(block))
            if most is not None and file.tell() > most:
                raise _NextAddress(f"sends more than the {most:,} bytes of the file")


def _range_headers(url: str, goal: _Goal) -> dict[str, str]:
    """What asks for the rest of a part. Where neither a version nor a hash would show a seam, start again."""
    have, notes = _length(goal.part), _notes(goal)
    version = notes.get("version") if notes.get("url") == url else None
    if have and not version and not goal.digest:
        _discard(goal)
        return {}
    headers = {"Range": f"bytes={have}-"} if have else {}
    return headers | ({"If-Range": version} if have and version else {})


def _span(headers: Message, goal: _Goal) -> tuple[int, int]:
    """Where an answer to Range starts, and the length of the whole: ``bytes 100-199/200``."""
    try:
        unit, span = headers.get("Content-Range", "").split(" ", 1)
        start, total = int(span.split("-")[0]), int(span.split("/")[1])
    except (ValueError, IndexError):
        unit, start, total = "", -1, -1
    if unit != "bytes" or start != _length(goal.part) or total != _notes(goal).get("total", total):
        _discard(goal)
        raise ConnectionError("the rest that was sent is not the rest of this file")
    return start, total


def _content_length(headers: Message) -> int | None:
    value = headers.get("Content-Length", "")
    return int(value) if value.isdecimal() and "Transfer-Encoding" not in headers else None


def _expect_this_file(headers: Message, total: int | None, goal: _Goal) -> None:
    """Pass over what cannot be the file, before it is fetched: many an address answers with a page that says sorry."""
    if goal.size is not None and total is not None and total != goal.size:
        raise _NextAddress(f"offers {total:,} bytes instead of {goal.size:,}")
    if headers.get_content_type() == "text/html" and goal.path.suffix.lower() not in (".html", ".htm"):
        raise _NextAddress("answered with a web page, perhaps one to log in")


def _begin(url: str, headers: Message, total: int | None, goal: _Goal) -> None:
    """Start from nothing. The old part goes before the new notes come: a kill in between must not mix the two."""
    _discard(goal)
    tag = headers.get("ETag", "")
    version = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    notes = {"url": url, "version": version, "total": goal.size if total is None else total}
    goal.notes.write_text(json.dumps(notes))


def _notes(goal: _Goal) -> dict:
    try:
        notes = json.loads(goal.notes.read_text())
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _all_there(goal: _Goal) -> bool:
    """Whether an earlier call was stopped between the last byte and the check."""
    whole = goal.size or _notes(goal).get("total")
    if whole is not None and _length(goal.part) > whole:
        _discard(goal)
    return whole is not None and _length(goal.part) == whole


def _discard(goal: _Goal) -> None:
    goal.part.unlink(missing_ok=True)
    goal.notes.unlink(missing_ok=True)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def expect_room(folder: Path, size: int, what: str) -> None:
    """Raise ``OSError`` unless the disk of ``folder`` has ``size`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < size:
        sentence = f"{what} needs {size / 1e9:.1f} GB, and the disk of {folder} has {free / 1e9:.1f} GB free"
        raise OSError(errno.ENOSPC, sentence)
