"""A web site of a test's own on 127.0.0.1: files that can be cut, changed, refused or sent without Range."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """One address, and how it misbehaves."""

    data: bytes = b""
    tag: str | None = '"one"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers are cut
    statuses: list[int] = field(default_factory=list)  # what the next answers are instead
    type: str = "application/zip"
    length: bool = True  # whether an answer says how long it is
    slow: float = 0.0  # seconds between blocks of 1,000 bytes
    mute: float = 0.0  # seconds of silence before the first byte
    asked: list[dict[str, str]] = field(default_factory=list)  # the headers of each request


class Site(dict[str, Page]):
    """Pages by path, such as ``/a.zip``; ``url(path)`` is where they are."""

    port = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextlib.contextmanager
def local_site() -> Iterator[Site]:
    """Serve until the end of the block."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self, site.get(self.path))

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.port = server.server_port
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, page: Page | None) -> None:
    """One answer, as the page is set up."""
    if page:
        page.asked.append({name.lower(): value for name, value in handler.headers.items()})
    if page is None or page.statuses:
        handler.send_error(page.statuses.pop(0) if page else 404)
        return
    start = asked_start(page)
    if start is not None and start >= len(page.data):
        handler.send_error(416)
        return
    body = page.data[start or 0 :]
    handler.send_response(200 if start is None else 206)
    handler.send_header("Content-Type", page.type)
    if start is not None:
        handler.send_header("Content-Range", f"bytes {start}-{len(page.data) - 1}/{len(page.data)}")
    if page.length:
        handler.send_header("Content-Length", str(len(body)))
    if page.tag:
        handler.send_header("ETag", page.tag)
    handler.end_headers()
    time.sleep(page.mute)
    send(handler, body[: page.cuts.pop(0)] if page.cuts else body, page.slow)


def asked_start(page: Page) -> int | None:
    """The first byte of the range that the last request asks for, or None: the whole file."""
    headers = page.asked[-1]
    wanted = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
    if not (page.ranges and wanted) or headers.get("if-range", page.tag) != page.tag:
        return None
    return int(wanted[1])


def send(handler: BaseHTTPRequestHandler, body: bytes, slow: float) -> None:
    """Write the body; whoever asked may have gone."""
    step = 1000 if slow else max(len(body), 1)
    with contextlib.suppress(OSError):
        for at in range(0, len(body), step):
            handler.wfile.write(body[at : at + step])
            handler.wfile.flush()
            time.sleep(slow)
