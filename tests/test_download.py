"""One file from a list of addresses: cut, resumed, changed, refused. All on 127.0.0.1."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import pytest
from local_site import Page, local_site

from itr_lib.data import download as module
from itr_lib.data.download import TRIES, DownloadError, download, expect_room, fault_of

DATA = bytes(range(256)) * 40
OTHER = DATA[::-1]
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def site():
    with local_site() as site:
        yield site


@pytest.fixture
def get(site, tmp_path):
    """``get("/a.zip", ...)`` downloads from these paths into one file, without waiting."""

    def get(*paths: str, **options) -> Path:
        options = {"pause": 0, "timeout": 5, "show": False} | options
        return download([site.url(path) for path in paths], tmp_path / "a.zip", **options)

    return get


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_and_alone(site, get, tmp_path):
    site["/a.zip"] = Page(DATA)
    assert get("/a.zip", size=len(DATA), digest=DIGEST).read_bytes() == DATA
    assert left(tmp_path) == ["a.zip"]


def test_what_is_there_is_not_asked_for_again(site, get):
    site["/a.zip"] = Page(DATA)
    for _ in range(2):
        get("/a.zip", digest=DIGEST)
    assert len(site["/a.zip"].asked) == 1


def test_what_is_there_and_wrong_is_replaced(site, get, tmp_path):
    site["/a.zip"] = Page(DATA)
    (tmp_path / "a.zip").write_bytes(OTHER)
    assert get("/a.zip", digest=DIGEST).read_bytes() == DATA


def test_cut_connections_are_resumed(site, get):
    site["/a.zip"] = page = Page(DATA, cuts=[1000, 0, 3000])
    assert get("/a.zip").read_bytes() == DATA
    assert [asked.get("range") for asked in page.asked] == [None, "bytes=1000-", "bytes=1000-", "bytes=4000-"]
    assert {asked.get("if-range") for asked in page.asked[1:]} == {'"one"'}


def test_more_cuts_than_tries_as_long_as_something_comes(site, get):
    site["/a.zip"] = Page(DATA, cuts=[500] * (3 * TRIES))
    assert get("/a.zip").read_bytes() == DATA


def test_without_anything_new_it_gives_up_and_keeps_what_it_has(site, get, tmp_path):
    site["/a.zip"] = page = Page(DATA, cuts=[1000] + [0] * 99)
    with pytest.raises(DownloadError, match=r"cut after 1,000 of 10,240 bytes \(4 times\)"):
        get("/a.zip")
    assert left(tmp_path) == ["a.zip.part", "a.zip.part.json"] and len(page.asked) == 1 + TRIES
    page.cuts.clear()
    assert get("/a.zip").read_bytes() == DATA
    assert page.asked[-1]["range"] == "bytes=1000-"


def test_a_server_without_range_starts_again(site, get):
    site["/a.zip"] = page = Page(DATA, cuts=[1000, 2000], ranges=False)
    assert get("/a.zip", digest=DIGEST).read_bytes() == DATA
    assert len(page.asked) == 3


def test_a_server_without_range_that_always_cuts_is_left(site, get):
    site["/a.zip"] = page = Page(DATA, cuts=[1000] * 99, ranges=False)
    with pytest.raises(DownloadError, match="cut after"):
        get("/a.zip")
    assert len(page.asked) == 1 + TRIES


@pytest.mark.parametrize("digest", ["", "sha256:" + hashlib.sha256(OTHER).hexdigest()])
def test_a_file_that_changed_meanwhile_is_not_sewn_together(site, get, digest):
    site["/a.zip"] = Page(DATA, cuts=[1000] + [0] * TRIES)
    with pytest.raises(DownloadError):
        get("/a.zip", digest=digest)
    site["/a.zip"] = Page(OTHER, tag='"two"')
    assert get("/a.zip", digest=digest).read_bytes() == OTHER


def test_a_server_that_overlooks_if_range_is_found_out_by_the_hash(site, get):
    site["/a.zip"] = Page(OTHER, cuts=[1000] + [0] * TRIES)
    with pytest.raises(DownloadError):
        get("/a.zip", digest=DIGEST)
    site["/a.zip"] = page = Page(DATA)  # another file under the same tag
    assert get("/a.zip", digest=DIGEST).read_bytes() == DATA
    assert [asked.get("range") for asked in page.asked] == ["bytes=1000-", None]


def test_without_version_and_hash_nothing_is_resumed(site, get):
    site["/a.zip"] = page = Page(DATA, tag=None, cuts=[1000])
    assert get("/a.zip").read_bytes() == DATA
    assert [asked.get("range") for asked in page.asked] == [None, None]


def test_a_weak_tag_is_no_version(site, get):
    site["/a.zip"] = page = Page(DATA, tag='W/"one"', cuts=[1000])
    assert get("/a.zip", digest=DIGEST).read_bytes() == DATA
    assert page.asked[1].get("if-range") is None and page.asked[1]["range"] == "bytes=1000-"


def test_the_next_address_goes_on_where_the_first_one_stopped(site, get):
    site["/a.zip"], site["/b.zip"] = Page(DATA, cuts=[1000] + [0] * 99), Page(DATA, tag='"b"')
    assert get("/a.zip", "/b.zip", digest=DIGEST).read_bytes() == DATA
    assert site["/b.zip"].asked[0]["range"] == "bytes=1000-" and "if-range" not in site["/b.zip"].asked[0]


def test_without_a_hash_another_address_starts_anew(site, get):
    site["/a.zip"], site["/b.zip"] = Page(DATA, cuts=[1000] + [0] * 99), Page(OTHER)
    assert get("/a.zip", "/b.zip").read_bytes() == OTHER
    assert "range" not in site["/b.zip"].asked[0]


@pytest.mark.parametrize("page", [Page(statuses=[410]), Page(statuses=[403]), Page(OTHER), Page(DATA + b"more")])
def test_after_a_refusal_or_another_file_the_next_address_is_asked(site, get, page, tmp_path):
    site["/a.zip"], site["/b.zip"] = page, Page(DATA)
    assert get("/gone.zip", "/a.zip", "/b.zip", digest=DIGEST, size=len(DATA)).read_bytes() == DATA
    assert left(tmp_path) == ["a.zip"]


def test_a_wrong_hash_leaves_nothing(site, get, tmp_path):
    site["/a.zip"] = Page(OTHER)
    with pytest.raises(DownloadError, match="sent another file: its SHA256 is not"):
        get("/a.zip", digest=DIGEST)
    assert left(tmp_path) == []


def test_every_address_is_named_with_its_reason(site, get):
    site["/b.zip"] = Page(b"<html>", type="text/html")
    site["/c.zip"] = Page(b"short")
    with pytest.raises(DownloadError) as raised:
        get("/a.zip", "/b.zip", "/c.zip", size=len(DATA))
    said = str(raised.value)
    assert f"{site.url('/a.zip')}: answered 404" in said and f"{site.url('/b.zip')}: " in said
    assert "offers 5 bytes instead of 10,240" in said


def test_a_page_to_log_in_is_not_the_file(site, get):
    site["/a.zip"] = Page(b"<html>", type="text/html; charset=utf-8")
    with pytest.raises(DownloadError, match="answered with a web page"):
        get("/a.zip")


def test_a_server_that_is_busy_is_asked_again(site, get):
    site["/a.zip"] = page = Page(DATA, statuses=[503, 429])
    assert get("/a.zip").read_bytes() == DATA and len(page.asked) == 3


def test_nobody_there(get, site, tmp_path):
    with pytest.raises(DownloadError, match="refused"):
        download(["http://127.0.0.1:9/a.zip"], tmp_path / "a.zip", pause=0, show=False)


def test_no_length_and_more_than_there_should_be(site, get):
    site["/a.zip"] = Page(DATA * 2, length=False)
    with pytest.raises(DownloadError, match="sends more than the 10,240 bytes"):
        get("/a.zip", size=len(DATA))
    site["/a.zip"] = Page(DATA, length=False)
    assert get("/a.zip", size=len(DATA)).read_bytes() == DATA


def test_a_silent_connection_is_cut(site, get):
    site["/a.zip"] = Page(DATA, mute=1)
    with pytest.raises(DownloadError, match=r"timed out \(4 times\)"):
        get("/a.zip", timeout=0.1)


def test_a_connection_that_falls_silent_again_and_again_brings_the_file_all_the_same(site, get):
    site["/a.zip"] = page = Page(DATA, slow=1)
    assert get("/a.zip", timeout=0.05).read_bytes() == DATA
    assert len(page.asked) > TRIES


def test_killed_between_the_last_byte_and_the_check(site, get, tmp_path):
    site["/a.zip"] = page = Page(DATA)
    (tmp_path / "a.zip.part").write_bytes(DATA)
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"url": site.url("/a.zip"), "total": len(DATA)}))
    assert get("/a.zip", digest=DIGEST).read_bytes() == DATA and page.asked == []


@pytest.mark.parametrize("notes", ["", "[]", "{", '{"total": 99999999}', '{"total": 5}'])
def test_damaged_notes(site, get, tmp_path, notes):
    site["/a.zip"] = Page(DATA)
    (tmp_path / "a.zip.part").write_bytes(DATA[:1000])
    (tmp_path / "a.zip.part.json").write_text(notes)
    assert get("/a.zip", digest=DIGEST).read_bytes() == DATA


@pytest.mark.parametrize("length", [len(DATA), len(DATA) + 5])
def test_a_part_as_long_as_the_file_or_longer(site, get, tmp_path, length):
    site["/a.zip"] = Page(DATA)
    (tmp_path / "a.zip.part").write_bytes(b"x" * length)
    assert get("/a.zip", digest=DIGEST).read_bytes() == DATA


def test_ctrl_c_leaves_what_the_next_call_goes_on_with(site, get, tmp_path, monkeypatch):
    site["/a.zip"] = page = Page(DATA)
    monkeypatch.setattr(module, "BLOCK", 1000)

    class Bar:
        update = staticmethod(lambda count: (_ for _ in ()).throw(KeyboardInterrupt))
        __enter__, __exit__ = (lambda self: self), (lambda self, *error: None)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, "progress_bar", lambda *arguments, **options: Bar())
        get("/a.zip")
    assert (tmp_path / "a.zip.part").stat().st_size == 1000
    assert get("/a.zip").read_bytes() == DATA and page.asked[1]["range"] == "bytes=1000-"


def test_a_full_disk_is_said_before(site, get, tmp_path, monkeypatch):
    site["/a.zip"] = Page(DATA)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 100})())
    with pytest.raises(OSError, match="a.zip needs 0.0 GB, and the disk of .* has 0.0 GB free") as raised:
        get("/a.zip")
    assert raised.value.errno == errno.ENOSPC and not (tmp_path / "a.zip.part").exists()
    with pytest.raises(OSError, match="everything"):
        expect_room(tmp_path, 101, "everything")


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_server(site, get, tmp_path):
    site["/a.zip"] = page = Page(DATA)
    (tmp_path / "a.zip.part.json").mkdir()
    with pytest.raises(OSError) as raised:
        get("/a.zip")
    assert not isinstance(raised.value, DownloadError) and len(page.asked) == 1


def test_md5_and_sizes(tmp_path):
    (tmp_path / "x").write_bytes(DATA)
    assert fault_of(tmp_path / "x", len(DATA), "md5:" + hashlib.md5(DATA).hexdigest().upper()) is None
    assert fault_of(tmp_path / "x", 7, "") == "10,240 bytes instead of 7"
