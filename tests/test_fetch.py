"""Fetching a data set, from a list of the test's own and a site of its own on 127.0.0.1."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from local_site import Page, local_site
from PIL import Image
from test_archives import a_tar, a_zip

from data_scripts import fetch
from data_scripts.sources import LIST, read_sources
from itr_lib.data.photographs.layouts import load_folder
from itr_lib.data.photographs.records import SPLITS

REPO = Path(__file__).resolve().parents[1]
NAMES = [f"{n:04d}_aB.jpg" for n in range(12)]


def jpeg(seed: int) -> bytes:
    """Noise, which hardly packs."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()


PICTURES = {f"Flicker8k_Dataset/{name}": jpeg(seed) for seed, name in enumerate(NAMES)}


def karpathy(names=NAMES, **more) -> bytes:
    images = [
        {"filename": name, "split": SPLITS[at % 3], "sentences": [{"raw": f"picture {at}"}], **more}
        for at, name in enumerate(names)
    ]
    return json.dumps({"dataset": "flickr8k", "images": images}).encode()


CAPTIONS = {"dataset_flickr8k.json": karpathy(), "dataset_coco.json": b"{}"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("time.sleep", lambda seconds, sleep=time.sleep: sleep(min(seconds, 0.01)))


@pytest.fixture
def site(tmp_path):
    """Both archives, as they are handed out."""
    with local_site() as site:
        site["/captions.zip"] = Page(a_zip(tmp_path / "c.zip", CAPTIONS).read_bytes())
        site["/pictures.zip"] = Page(a_zip(tmp_path / "p.zip", PICTURES | {"readme.txt": b"x"}).read_bytes())
        yield site


@pytest.fixture
def listed(site, tmp_path):
    """``listed(urls=[...])`` writes a list of sources for the site and returns its path."""

    def listed(urls=("/gone.zip", "/pictures.zip"), digest=True, more="") -> Path:
        hashes = {path: "sha256:" + hashlib.sha256(page.data).hexdigest() for path, page in site.items()}
        path = tmp_path / "sources.toml"
        path.write_text(f"""
[flickr8k]
title = "Twelve pictures"
licence = "for tests"
[[flickr8k.parts]]
name = "pictures"
file = "Pictures.zip"
gives = "images"
wanted = "*.jpg"
urls = {json.dumps([site.url(url) for url in urls])}
{f'digest = "{hashes["/pictures.zip"]}"' if digest else ""}
also = ["Flicker8k_Dataset", "archive.zip"]
account = ["1. Ask for them."]
[[flickr8k.parts]]
name = "captions"
file = "captions.zip"
gives = "dataset_flickr8k.json"
urls = ["{site.url("/captions.zip")}"]
size = {len(site["/captions.zip"].data)}
{more}
""")
        return path

    return listed


@pytest.fixture
def run(tmp_path, listed, capsys):
    """``run("--from", folder, sources=path)`` fetches into ``root``; returns the exit status and what was said."""

    def run(*words, sources: Path | None = None) -> tuple[int, str]:
        words = ["flickr8k", "--root", tmp_path / "root", *words, "--sources", sources or listed()]
        status = fetch.main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def images(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "images").iterdir()}


WHOLE = {Path(name).name: data for name, data in PICTURES.items()}


def whole(tmp_path: Path) -> bool:
    root = tmp_path / "root"
    return images(root) == WHOLE and (root / "dataset_flickr8k.json").read_bytes() == karpathy()


def test_everything_is_fetched_once(run, site, tmp_path):
    status, said = run()
    assert status == 0 and whole(tmp_path), said
    assert said.index("Licence: for tests") < said.index("Folder: ") < said.index("captions: fetched")
    assert sorted(path.name for path in (tmp_path / "root" / "downloads").iterdir()) in ([], [".lock"])
    status, said = run()
    assert status == 0 and said.count("there already") == 2 and len(site["/pictures.zip"].asked) == 1


def test_what_was_fetched_is_what_the_loader_reads(run, tmp_path):
    assert run()[0] == 0
    features = tmp_path / "root" / "features.npz"
    np.savez(features, filenames=np.array(NAMES), features=np.ones((len(NAMES), 1, 4), np.float32))
    data = load_folder("flickr8k", tmp_path / "root", strict=True)
    assert [len(data[split]) for split in SPLITS] == [4, 4, 4] and not data.problems


def test_it_can_be_asked_without_fetching(run, site, tmp_path):
    status, said = run("--say")
    assert status == 0 and "Pictures.zip, of unknown size" in said and not (tmp_path / "root").exists()
    assert not site["/captions.zip"].asked


def test_archives_can_be_kept(run, tmp_path):
    assert run("--keep")[0] == 0
    assert (tmp_path / "root" / "downloads" / "Pictures.zip").is_file()
    assert (tmp_path / "root" / "downloads" / "captions.zip").is_file()


def test_a_wrong_file_everywhere_says_what_to_do(run, site, listed, tmp_path):
    sources = listed()
    site["/pictures.zip"].data = b"PK other"
    status, said = run(sources=sources)
    assert status == 1 and "answered 404" in said and "sent another file: its SHA256 is not" in said
    assert "with a browser" in said and "1. Ask for them." in said
    assert not (tmp_path / "root" / "images").exists() and (tmp_path / "root" / "dataset_flickr8k.json").exists()


def test_a_hostile_archive_leaves_nothing(run, site, listed, tmp_path):
    site["/pictures.zip"].data = a_zip(tmp_path / "h.zip", PICTURES | {"../../evil.jpg": b"x"}).read_bytes()
    status, said = run(sources=listed())
    assert status == 1 and "leads out of the folder" in said
    assert not (tmp_path / "root" / "images").exists() and not list(tmp_path.rglob("evil.jpg"))
    assert "Traceback" not in said


def test_an_archive_of_something_else(run, site, listed, tmp_path):
    site["/pictures.zip"].data = a_zip(tmp_path / "h.zip", {"cat.jpg": b"x"}).read_bytes()
    status, said = run(sources=listed())
    assert status == 1 and "it holds none of the files that pictures should have" in said
    assert not (tmp_path / "root" / "images").exists()


def test_an_archive_with_too_little(run, site, listed, tmp_path):
    site["/pictures.zip"].data = a_zip(tmp_path / "h.zip", dict(list(PICTURES.items())[:10])).read_bytes()
    status, said = run(sources=listed())
    assert status == 1 and "2 of 12 photographs are missing (0010_aB.jpg, 0011_aB.jpg, ...)" in said


# --- what is on disk already


@pytest.mark.parametrize("name", ["Pictures.zip", "PICTURES.ZIP", "deep/down/pictures.zip"])
def test_an_archive_on_disk_is_taken_and_kept(run, site, tmp_path, name):
    path = tmp_path / "Have It" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(site["/pictures.zip"].data)
    status, said = run("--from", tmp_path / "Have It")
    assert status == 0 and whole(tmp_path) and f"pictures: taken from {path}" in said
    assert path.exists() and not site["/pictures.zip"].asked


def test_a_wrong_archive_on_disk_is_named_and_passed_over(run, site, tmp_path):
    (tmp_path / "have").mkdir()
    (tmp_path / "have" / "Pictures.zip").write_bytes(b"half of it")
    status, said = run("--from", tmp_path / "have")
    assert status == 0 and whole(tmp_path) and "is not used: it is not the file of the list: its SHA256" in said


def test_an_archive_by_another_name_is_judged_by_what_it_holds(run, site, tmp_path):
    (tmp_path / "have").mkdir()
    nested = {f"x/Images/{Path(name).name.upper()}": data for name, data in PICTURES.items()}
    a_zip(tmp_path / "have" / "archive.zip", nested | {f"y/{k}": v for k, v in nested.items()})
    status, said = run("--from", tmp_path / "have")
    assert status == 0 and whole(tmp_path), said
    assert "archive.zip" in said and not site["/pictures.zip"].asked


@pytest.mark.parametrize("folder", ["", "images", "IMAGES", "a/FLICKER8K_dataset"])
@pytest.mark.parametrize("case", [str, str.upper])
def test_pictures_on_disk_are_taken_in_any_case(run, site, tmp_path, folder, case):
    have = tmp_path / "have" / folder
    have.mkdir(parents=True)
    for name, data in WHOLE.items():
        (have / case(name)).write_bytes(data)
    (have / "another.jpg").write_bytes(b"x")
    status, said = run("--from", tmp_path / "have")
    assert status == 0 and whole(tmp_path), said
    assert not site["/pictures.zip"].asked and len(list(have.iterdir())) >= 13


def test_pictures_in_the_folder_itself_by_another_name(run, site, tmp_path):
    have = tmp_path / "root" / "Flicker8k_Dataset"
    have.mkdir(parents=True)
    for name, data in WHOLE.items():
        (have / name).write_bytes(data)
    assert run()[0] == 0 and whole(tmp_path) and not site["/pictures.zip"].asked
    assert os.path.samefile(have / NAMES[0], tmp_path / "root" / "images" / NAMES[0])


def test_what_a_folder_lacks_is_added(run, tmp_path):
    have = tmp_path / "root" / "images"
    have.mkdir(parents=True)
    (have / NAMES[0]).write_bytes(b"mine")
    (have / NAMES[1]).touch()
    status, said = run()
    assert status == 0 and "\r" not in said  # no bar where nobody watches
    assert images(tmp_path / "root") == WHOLE | {NAMES[0]: b"mine"}


def test_captions_on_disk_are_taken_where_they_are_whole(run, site, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "good").mkdir()
    (tmp_path / "bad" / "dataset_flickr8k.json").write_bytes(karpathy()[:100])
    (tmp_path / "good" / "Dataset_Flickr8k.JSON").write_bytes(karpathy())
    status, said = run("--from", tmp_path / "bad", "--from", tmp_path / "good")
    assert status == 0 and whole(tmp_path) and "is not used: " in said, said
    assert not site["/captions.zip"].asked


def test_damaged_captions_in_the_folder_are_left_to_their_owner(run, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "dataset_flickr8k.json").write_bytes(karpathy()[:100])
    status, said = run()
    assert status == 1 and "is damaged, or not in Karpathy's format: move it away" in said


def test_captions_of_other_pictures_are_left_to_their_owner(run, site, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "dataset_flickr8k.json").write_bytes(karpathy(filepath="val2017"))
    status, said = run()
    assert status == 1 and "names no photograph in images: move it away" in said and not site["/pictures.zip"].asked


def test_captions_may_begin_with_a_byte_order_mark(run, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "dataset_flickr8k.json").write_bytes(b"\xef\xbb\xbf" + karpathy())
    assert run()[0] == 0


def test_a_folder_that_is_none(run, tmp_path):
    status, said = run("--from", tmp_path / "nowhere")
    assert status == 1 and "there is no such folder" in said


# --- an account, a full disk, parts, a list with mistakes


def test_what_needs_an_account_says_so_and_the_rest_is_brought(run, listed, tmp_path):
    status, said = run(sources=listed(urls=(), digest=False))
    assert status == 1 and "12 of 12 photographs are missing" in said and "1. Ask for them." in said
    assert "Pictures.zip, of unknown size, to be asked for" in said
    assert (tmp_path / "root" / "dataset_flickr8k.json").read_bytes() == karpathy()
    archive = tmp_path / "root" / "downloads" / "pictures.zip"  # where somebody might well put it
    archive.write_bytes((tmp_path / "p.zip").read_bytes())
    assert run(sources=listed(urls=(), digest=False))[0] == 0 and whole(tmp_path)


def test_the_steps_are_told_though_the_captions_cannot_be_had(run, site, listed):
    sources = listed(urls=(), digest=False)
    site["/captions.zip"].statuses = [404]
    for words in (["--say"], []):
        status, said = run(*words, sources=sources)
        assert status == (0 if words else 1) and "pictures:\n1. Ask for them." in said
    assert "answered 404" in said and "with a browser" in said


def test_a_tar_as_the_authors_send_it(run, listed, tmp_path):
    (tmp_path / "have").mkdir()
    tar = a_tar(tmp_path / "have" / "flickr30k-images.tar.gz", PICTURES)
    tar.rename(tmp_path / "have" / "Pictures.zip")  # what it is called does not say what it is
    assert run("--from", tmp_path / "have", sources=listed(urls=(), digest=False))[0] == 0 and whole(tmp_path)


def test_a_full_disk_is_said_before_anything_is_fetched(run, site, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    status, said = run()
    assert status == 1 and "fetch: flickr8k needs " in said and "GB free" in said
    assert not site["/captions.zip"].asked


def test_a_disk_that_is_full_of_what_is_needed_will_do(run, site, tmp_path, monkeypatch):
    """Pictures that lie on the same disk are linked."""
    (tmp_path / "have").mkdir()
    for name, data in WHOLE.items():
        (tmp_path / "have" / name).write_bytes(data)
    (tmp_path / "have" / "dataset_flickr8k.json").write_bytes(karpathy())
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    assert run("--from", tmp_path / "have")[0] == 0 and whole(tmp_path)


def test_parts(run, site, tmp_path):
    assert run("--parts", "captions")[0] == 0
    assert not (tmp_path / "root" / "images").exists() and not site["/pictures.zip"].asked
    status, said = run("--parts", "sound")
    assert status == 1 and "flickr8k has no part 'sound': it has pictures, captions" in said


def test_folders_of_coco_hold_their_own_pictures(site, tmp_path, capsys):
    both = json.loads(karpathy(["a.jpg"], filepath="val2014")), json.loads(karpathy(["b.jpg"], filepath="train2014"))
    captions = json.dumps({"images": both[0]["images"] + both[1]["images"]}).encode()
    site["/captions.zip"].data = a_zip(tmp_path / "c.zip", {"dataset_coco.json": captions}).read_bytes()
    site["/val.zip"] = Page(a_zip(tmp_path / "v.zip", {"val2014/a.jpg": b"a"}).read_bytes())
    part = '[[coco.parts]]\nname = "{0}"\nfile = "{0}.zip"\ngives = "{1}"\nurls = ["{2}"]\n'
    (tmp_path / "list.toml").write_text(
        '[coco]\ntitle = "COCO"\nlicence = "tests"\n'
        + part.format("captions", "dataset_coco.json", site.url("/captions.zip"))
        + part.format("val2014", "images/val2014", site.url("/val.zip"))
        + 'wanted = "*.jpg"\n'
        + part.format("train2014", "images/train2014", site.url("/gone.zip"))
        + 'wanted = "*.jpg"\n'
    )
    words = ["coco", "--root", str(tmp_path / "root"), "--sources", str(tmp_path / "list.toml")]
    assert fetch.main([*words, "--parts", "val2014"]) == 0, capsys.readouterr()
    assert (tmp_path / "root" / "images" / "val2014" / "a.jpg").read_bytes() == b"a"
    assert fetch.main(words) == 1


@pytest.mark.parametrize(
    "more, sentence",
    [
        ("colour = 3", "colour"),
        ("digest = 'crc:1'", "expected 'sha256:...' or 'md5:...'"),
        ("[[flickr8k.parts]]\nname = 'x'\nfile = 'x'\ngives = '/etc'\nwanted = '*'", "does not lie in the folder"),
        ("[[flickr8k.parts]]\nname = 'x'\nfile = 'x'\ngives = 'y'", "needs one part without 'wanted'"),
        ("also = ", "is no list of sources"),
    ],
)
def test_mistakes_in_a_list_are_named(run, listed, more, sentence):
    status, said = run(sources=listed(more=more))
    assert status == 1 and "is no list of sources" in said and sentence in said


@pytest.mark.parametrize("name", ["flickr8k", "coco", "flickr30k"])
def test_the_list_of_the_repository(name, capsys):
    source = read_sources(LIST)[name]
    assert fetch.main([name, "--say"]) == 0
    said = capsys.readouterr().out
    assert source.title in said and "Licence: " in said and "Cite: " in said
    captions = next(part for part in source.parts if not part.is_folder)
    assert captions.gives == f"dataset_{name}.json" and captions.digest.startswith("sha256:")
    assert all(part.urls or part.account for part in source.parts)
    assert all(part.bytes > 1e6 and len(part.digest) in (0, 36, 71) for part in source.parts)


# --- kills, and two at once


def command(tmp_path: Path, sources: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "data_scripts.fetch", "flickr8k"),
        *("--root", str(tmp_path / "root"), "--sources", str(sources)),
    ]


def start(tmp_path: Path, sources: Path) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command(tmp_path, sources), cwd=REPO, env=os.environ | {"no_proxy": "*"}, **pipes)


def wait_for(what, process: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while not what() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    assert what()


def test_a_kill_in_the_middle_loses_nothing(run, site, listed, tmp_path):
    sources, page = listed(), site["/pictures.zip"]
    page.slow = 0.3
    part = tmp_path / "root" / "downloads" / "Pictures.zip.part"
    process = start(tmp_path, sources)
    try:
        wait_for(lambda: part.exists() and part.stat().st_size > 1000, process)
    finally:
        process.kill()
        process.communicate()
    had = part.stat().st_size
    page.slow = 0
    assert 1000 < had < len(page.data)
    assert run(sources=sources)[0] == 0 and whole(tmp_path)
    assert page.asked[-1]["range"] == f"bytes={had}-"


def test_ctrl_c_is_one_sentence(site, listed, tmp_path):
    site["/captions.zip"].slow = 5
    process = start(tmp_path, listed())
    wait_for(lambda: site["/captions.zip"].asked, process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped. The same command goes on from here." in said
    assert "Traceback" not in said


def test_two_at_once_do_not_harm_each_other(site, listed, tmp_path):
    sources = listed()
    site["/captions.zip"].slow = 0.1
    both = [start(tmp_path, sources) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert whole(tmp_path) and len(site["/pictures.zip"].asked) == 1 and len(site["/captions.zip"].asked) == 1
    assert sum("Another process is at work" in words for words in said) <= 1


def test_what_a_killed_call_was_unpacking_is_nobodys_data(run, tmp_path):
    left = tmp_path / "root" / "downloads" / "unpacking"
    left.mkdir(parents=True)
    (left / "dataset_flickr8k.json").write_bytes(karpathy(["other.jpg"]))
    assert run()[0] == 0 and whole(tmp_path) and not left.exists()


def test_stopped_at_any_step_the_next_call_goes_on(run, listed, tmp_path, monkeypatch):
    """Each step that changes the disk is stopped once, just before it; then everything comes out right all the same."""
    words = ["flickr8k", "--root", str(tmp_path / "root"), "--sources", str(listed())]
    changes = [(os, "replace"), (os, "rename"), (Path, "unlink"), (Path, "write_text"), (Path, "mkdir"), (Path, "open")]
    for moment in itertools.count():
        left = moment

        def stopping(original):
            def step(*arguments, **options):
                nonlocal left
                left -= 1
                if left == -1:
                    raise KeyboardInterrupt
                return original(*arguments, **options)

            return step

        with monkeypatch.context() as patched:
            for module, name in changes:
                patched.setattr(module, name, stopping(getattr(module, name)))
            status = fetch.main(words)
        assert fetch.main(words) == 0 and whole(tmp_path), moment
        shutil.rmtree(tmp_path / "root")
        if left >= 0:  # nothing was left to stop
            break
        assert status in (130, 0)  # 0: what was stopped was tidying up, and the lock says so itself
    assert moment > 10 and status == 0
