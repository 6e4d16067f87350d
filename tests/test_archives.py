"""Archives that lie: nothing gets out of the folder, nothing grows without bound, and damage gets a sentence."""

from __future__ import annotations

import io
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from itr_lib.data import archives as module
from itr_lib.data.archives import moved_in, unpack

PICTURES = {"Flicker8k_Dataset/one.jpg": b"1" * 500, "Flicker8k_Dataset/Two.JPG": b"2" * 700}
BESIDE = {"readme.txt": b"hello", "__MACOSX/Flicker8k_Dataset/._one.jpg": b"junk"}


def a_zip(path: Path, members: dict[str, bytes], modes: dict[str, int] | None = None, **options) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as file:
        for name, data in members.items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it stands: the constructor would mend it
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, 0) << 16
            file.writestr(info, data)
    return path


def a_tar(path: Path, members: dict[str, bytes], types: dict[str, bytes] | None = None) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.type = (types or {}).get(name, tarfile.REGTYPE)
            if info.type == tarfile.REGTYPE:
                info.size = len(data)
            else:
                info.linkname = data.decode()
            file.addfile(info, io.BytesIO(data))
    return path


MAKERS = pytest.mark.parametrize("make, suffix", [(a_zip, "zip"), (a_tar, "tar"), (a_tar, "tar.gz")])


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@MAKERS
def test_what_is_wanted_comes_out_side_by_side(tmp_path, out, make, suffix):
    archive = make(tmp_path / f"a.{suffix}", PICTURES | BESIDE)
    assert unpack(archive, out, "*.jpg", show=False) == 2
    assert contents(out) == {"one.jpg": b"1" * 500, "Two.JPG": b"2" * 700}


@MAKERS
def test_files_can_be_renamed(tmp_path, out, make, suffix):
    archive = make(tmp_path / f"a.{suffix}", PICTURES)
    unpack(archive, out, "*.jpg", rename=str.lower, show=False)
    assert sorted(contents(out)) == ["one.jpg", "two.jpg"]


@MAKERS
@pytest.mark.parametrize(
    "name",
    [
        "../out.jpg",
        "a/../../out.jpg",
        "/tmp/out.jpg",
        "\\\\server\\out.jpg",
        "..\\..\\out.jpg",
        "C:\\out.jpg",
        "one.jpg:stream",
        "one\x1b[2J.jpg",
        "one\u202egpj.exe",
    ],
)
def test_a_path_that_leads_out_refuses_the_whole(tmp_path, out, make, suffix, name):
    archive = make(tmp_path / f"a.{suffix}", {name: b"x"})
    with pytest.raises(ValueError, match="is refused: .*(leads out of the folder|is no name for a file)"):
        unpack(archive, out, show=False)
    assert contents(tmp_path) == {archive.name: archive.read_bytes()}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "one.jpg"])
def test_links_and_devices_in_a_tar(tmp_path, out, kind, target):
    archive = a_tar(tmp_path / "a.tar", {"one.jpg": b"1", "two.jpg": target.encode()}, {"two.jpg": kind})
    with pytest.raises(ValueError, match="is refused: 'two.jpg' is a (link|device)"):
        unpack(archive, out, show=False)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip(tmp_path, out, kind):
    archive = a_zip(tmp_path / "a.zip", {"two.jpg": b"/etc/passwd"}, {"two.jpg": kind | 0o777})
    with pytest.raises(ValueError, match="'two.jpg' is a link or a device"):
        unpack(archive, out, show=False)


def test_a_link_that_is_not_wanted_refuses_too(tmp_path, out):
    archive = a_tar(tmp_path / "a.tar", {"one.jpg": b"1", "evil": b"/"}, {"evil": tarfile.SYMTYPE})
    with pytest.raises(ValueError, match="'evil' is a link"):
        unpack(archive, out, "*.jpg", show=False)


@MAKERS
def test_a_bomb(tmp_path, out, make, suffix):
    archive = make(tmp_path / f"a.{suffix}", {"one.jpg": b"1" * 500, "two.jpg": bytes(20_000_000)})
    bound = {"most_bytes": 1_000_000} if suffix == "tar" else {}  # a tar as such packs nothing
    with pytest.raises(ValueError, match="is refused: it unpacks to more than 10?,000,000 bytes"):
        unpack(archive, out, show=False, **bound)
    assert sum(map(len, contents(out).values())) < 1000


@MAKERS
def test_more_entries_than_a_data_set_has(tmp_path, out, make, suffix):
    archive = make(tmp_path / f"a.{suffix}", {f"{n}.jpg": b"" for n in range(20)})
    with pytest.raises(ValueError, match="more than 10 entries"):
        unpack(archive, out, most_files=10, show=False)


def test_a_zip_that_lies_about_a_size(tmp_path, out):
    archive = a_zip(tmp_path / "a.zip", {"one.jpg": bytes(5_000_000)})
    data = archive.read_bytes()
    assert data.count((5_000_000).to_bytes(4, "little")) == 2
    archive.write_bytes(data.replace((5_000_000).to_bytes(4, "little"), (500).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="cannot be unpacked: it is damaged"):
        unpack(archive, out, show=False)
    assert sum(map(len, contents(out).values())) <= 500


@MAKERS
def test_a_name_that_stands_twice(tmp_path, out, make, suffix):
    archive = make(tmp_path / f"a.{suffix}", {"a/one.jpg": b"same", "a/a/one.jpg": b"same"})
    assert unpack(archive, out, show=False) == 1
    archive = make(tmp_path / f"b.{suffix}", {"a/three.jpg": b"same", "b/THREE.jpg": b"not the same"})
    with pytest.raises(ValueError, match="'THREE.jpg' stands twice in it, with 4 and 12 bytes"):
        unpack(archive, out, show=False)


def test_a_damaged_header_is_not_the_end(tmp_path, out):
    archive = a_tar(tmp_path / "a.tar", {"one.jpg": b"1", "two.jpg": b"2"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"two.jpg")] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ValueError, match="its end is missing"):
        unpack(archive, out, show=False)


def test_a_password(tmp_path, out):
    archive = a_zip(tmp_path / "a.zip", {"one.jpg": b"1"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(ValueError, match="'one.jpg' is a file with a password"):
        unpack(archive, out, show=False)


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x03\x04 no zip", b"<html>sorry</html>", b"1" * 2000])
def test_no_archive_at_all(tmp_path, out, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ValueError, match="a.zip cannot be unpacked: it is damaged, or no archive"):
        unpack(tmp_path / "a.zip", out, show=False)


@MAKERS
@pytest.mark.parametrize("cut", [2000, 3584, 4000, 5000])  # a tar's second entry begins at 3,584
def test_an_archive_that_was_cut(tmp_path, out, make, suffix, cut):
    noise = random.Random(0).randbytes(3000)
    archive = make(tmp_path / f"a.{suffix}", {"one.jpg": noise, "two.jpg": noise[::-1]})
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(ValueError, match="cannot be unpacked: it is damaged"):
        unpack(archive, out, show=False)


@MAKERS
def test_damage_anywhere_is_a_sentence_or_makes_no_difference(tmp_path, make, suffix):
    """A tar as such has no checksum for its bytes: there the name and the size are all that is looked at."""
    draw = random.Random(1)
    members = {f"{n}.jpg": draw.randbytes(300) for n in range(4)}
    whole = make(tmp_path / f"a.{suffix}", members).read_bytes()
    bad = tmp_path / f"bad.{suffix}"
    for trial in range(120):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        bad.write_bytes(data)
        try:
            with moved_in(tmp_path / f"out{trial}", tmp_path / "making") as making:
                unpack(bad, making, "*.jpg", show=False)
        except (ValueError, OSError) as error:
            assert str(bad) in str(error) or isinstance(error, OSError), repr(error)
            assert not (tmp_path / f"out{trial}").exists()
        else:
            right = contents(tmp_path / f"out{trial}")
            if suffix == "zip":
                assert set(right.values()) <= set(members.values())


def test_a_full_disk_is_said_before(tmp_path, out, monkeypatch):
    archive = a_zip(tmp_path / "a.zip", PICTURES)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 600})())
    with pytest.raises(OSError, match="Two.JPG needs .* free"):
        unpack(archive, out, show=False)


def test_a_folder_moves_in_whole_or_not_at_all(tmp_path):
    folder, making = tmp_path / "images", tmp_path / "x" / "making"
    with pytest.raises(KeyboardInterrupt), moved_in(folder, making) as inside:
        (inside / "one.jpg").write_bytes(b"1")
        raise KeyboardInterrupt
    assert not folder.exists() and not making.exists()
    making.mkdir()
    (making / "left.jpg").write_bytes(b"of a killed call")
    with moved_in(folder, making) as inside:
        (inside / "one.jpg").write_bytes(b"1")
    assert contents(folder) == {"one.jpg": b"1"} and not making.exists()


def test_what_a_folder_has_stays_and_what_it_lacks_comes(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "one.jpg").write_bytes(b"mine")
    (folder / "empty.jpg").touch()
    with moved_in(folder, tmp_path / "making") as inside:
        for name in ("one", "two", "empty"):
            (inside / f"{name}.jpg").write_bytes(b"new")
    assert contents(folder) == {"one.jpg": b"mine", "two.jpg": b"new", "empty.jpg": b"new"}


def test_bounds_are_those_of_the_field():
    """Karpathy's JSON unpacks to five times its archive; photographs hardly pack."""
    assert module.RATIO > 5 * 5 and module.MOST_FILES > 4 * 123_287
