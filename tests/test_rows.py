"""Features on disk: as good as the array they stand for, in bounded memory, and never silently another."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import tracemalloc
import zipfile
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from toy import toy_data

from data_scripts import feature_memory
from itr_lib.checkpoint import _checksum, _contents
from itr_lib.data import rows as lazy
from itr_lib.data.batches import image_batch
from itr_lib.data.photographs import arrays as array_files
from itr_lib.data.photographs import shards
from itr_lib.data.photographs.features import read_features
from itr_lib.data.photographs.problems import Problems
from itr_lib.data.rows import Rows, finite_rows, is_finite, map_npy
from itr_lib.evaluation.baselines import _mean_features

NAMES = [f"{number}.jpg" for number in range(12)]
REGIONS, DIM = 3, 5
LAYOUTS = ["set", "stored", "zipped", "npy", "npz"]


@pytest.fixture
def on_disk(monkeypatch, tmp_path):
    """Nothing is small, and pieces are: what is meant for gigabytes happens with kilobytes."""
    monkeypatch.setattr(lazy, "SMALL_BYTES", 0)
    monkeypatch.setattr(array_files, "UNPACK_BYTES", 0)
    monkeypatch.setenv("ITR_CACHE", str(tmp_path / "cache"))
    for module in (lazy, array_files, shards):
        monkeypatch.setattr(module, "CHUNK_BYTES", 2**16)


def made(images=12, regions=REGIONS, dim=DIM, dtype=np.float16):
    """Features, boxes and mask of images with 1 to R regions; zero where padded."""
    rng = np.random.default_rng(0)
    mask = np.arange(regions) < rng.integers(1, regions + 1, (images, 1))
    corners = np.sort(rng.random((images, regions, 2, 2)), axis=2).reshape(images, regions, 4)
    corners[0, 0] = [0, 0, 1, 1]
    features = rng.normal(size=(images, regions, dim)).astype(dtype)
    return features * mask[..., None], corners.astype(np.float32) * mask[..., None], mask


def store(folder, layout, features, boxes, mask):
    """The same in one of the layouts; returns what ``read_features`` is given."""
    names = [f"{number}.jpg" for number in range(len(features))]
    folder.mkdir(parents=True)
    if layout == "set":
        for number, start in enumerate(range(0, len(names), 5)):
            own = slice(start, start + 5)
            shards.write_shard(folder, number, names[own], features[own], boxes[own], mask[own])
        shards.finish(folder, {"model": "none"})
    elif layout in ("stored", "zipped"):
        write = np.savez if layout == "stored" else np.savez_compressed
        write(folder / "all.npz", filenames=names, features=features, boxes=boxes, mask=mask)
        return folder / "all.npz"
    else:
        for name, own, corners, real in zip(names, features, boxes, mask, strict=True):
            if layout == "npy":
                np.save(folder / f"{name}.npy", own[real])
            else:
                np.savez_compressed(folder / f"{name}.npz", x=own[real], bbox=corners[real])
    return folder


# The array


def parts_of(tmp_path, *shapes):
    rng = np.random.default_rng(0)
    for number, shape in enumerate(shapes):
        np.save(tmp_path / f"{number}.npy", rng.normal(size=shape).astype(np.float32))
    return [map_npy(tmp_path / f"{number}.npy") for number in range(len(shapes))]


KEYS = [3, -1, [1, 2], slice(2, 9), slice(None), ([8, 0, 7, 7], slice(None, 2)), (slice(None), 0), (3, 1),
        ([1, 2], [0, 1]), (slice(None), 0, 0), np.arange(9) > 3, (2, slice(None, -1)), (slice(1, 4), slice(-2, None)),
        ([3, 4], slice(0, 2), 1), (slice(None), slice(None), [1, 2]), ([5], slice(None, 99)), (slice(4, 4), slice(2)),
        (np.int64(2), slice(None, 0)), (slice(None, None, -1), slice(None, None, -1))]  # fmt: skip


@pytest.mark.parametrize("shapes", [[(9, 4, 3)], [(4, 2, 3), (5, 4, 3)]])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_an_index_gives_what_the_array_gives(tmp_path, shapes, key):
    parts = parts_of(tmp_path, *shapes)
    whole = np.zeros((9, 4, 3), np.float32)
    start = 0
    for number, shape in enumerate(shapes):
        whole[start : start + shape[0], : shape[1]] = np.load(tmp_path / f"{number}.npy")
        start += shape[0]
    order = np.random.default_rng(1).permutation(9)
    mask = np.arange(4) < np.arange(1, 10)[:, None]
    for rows, array in [
        (Rows(parts), whole),
        (Rows(parts, order), whole[order]),
        (Rows(parts).take(order).take(order), whole[order][order]),
        (Rows(parts, order, mask), whole[order] * mask[..., None]),
        (Rows(parts, order, mask).take(order), (whole[order] * mask[..., None])[order]),
    ]:
        assert (rows.shape, rows.ndim, rows.dtype, len(rows)) == (array.shape, 3, array.dtype, 9)
        got, expected = rows[key], array[key]
        assert type(got) is np.ndarray or got.ndim == 0
        assert got.shape == expected.shape and np.array_equal(got, expected)


def test_what_is_no_index_of_rows_is_refused(tmp_path):
    rows = Rows(parts_of(tmp_path, (9, 4, 3)))
    for key in (..., None, np.ones((9, 4), bool), [[1, 2]]):
        with pytest.raises(IndexError, match="np.asarray"):
            rows[key]
    with pytest.raises(IndexError):
        rows[9]
    with pytest.raises(ValueError, match="index goes from 0 to 9 in 9 rows"):
        Rows(rows.parts, np.array([0, 9]))
    with pytest.raises(ValueError, match="mask has shape"):
        Rows(rows.parts, mask=np.ones((9, 3), bool))
    with pytest.raises(ValueError, match="features the same"):
        Rows([*rows.parts, np.ones((1, 4, 2))])


def first_row(rows):
    return rows[[0]]


def test_rows_travel_to_other_processes(tmp_path):
    rows = Rows(parts_of(tmp_path, (900, 4, 30))).take(np.arange(5, 900, 3))
    expected = rows[[0]]  # mapped before the fork
    assert len(pickle.dumps(rows)) < 5_000  # 8 bytes an index, not the numbers
    assert np.array_equal(pickle.loads(pickle.dumps(rows))[:], rows[:])
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert np.array_equal(pool.apply(first_row, [rows]), expected)


def test_one_vector_an_image_has_one_region_and_floats_become_the_courses(tmp_path):
    for number, dtype in enumerate([">f4", np.float64, np.float16]):
        numbers = np.random.default_rng(0).normal(size=(6, 4))
        np.save(tmp_path / "v.npy", numbers.astype(dtype))
        rows = Rows([map_npy(tmp_path / "v.npy")])
        assert rows.shape == (6, 1, 4) and rows.dtype == (np.float16 if number == 2 else np.float32)
        assert np.array_equal(np.asarray(rows)[:, 0], numbers.astype(dtype).astype(rows.dtype))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_finite_means_after_conversion_and_outside_of_padding(tmp_path, dtype, on_disk):
    numbers = np.ones((700, 4, 30), dtype)
    for row, value in ((3, np.nan), (4, np.inf), (699, -np.inf), (5, np.finfo(dtype).max)):
        numbers[row, row % 4, 7] = value
    np.save(tmp_path / "f.npy", numbers)
    rows = Rows([map_npy(tmp_path / "f.npy")])
    bad = [3, 4, 5, 699] if dtype == np.float64 else [3, 4, 699]
    assert np.flatnonzero(~finite_rows(rows)).tolist() == np.flatnonzero(~is_finite(numbers)).tolist() == bad
    mask = np.ones((700, 4), bool)
    mask[3, 3] = False
    assert finite_rows(Rows(rows.parts, mask=mask))[3]
    pieces = list(rows.chunks())
    assert len(pieces) > 2 and np.array_equal(np.concatenate(pieces), rows[:], equal_nan=True)
    assert all(piece.nbytes <= 2**16 for piece in pieces)


def test_a_split_on_disk_is_the_split_in_memory(tmp_path, on_disk):
    data = toy_data(images=40)
    np.save(tmp_path / "f.npy", data.features)
    other = replace(data, features=Rows([map_npy(tmp_path / "f.npy")]))
    order = np.random.default_rng(0).permutation(40)[:30]
    for mine, yours in ((data, other), (data.take(order), other.take(order))):
        assert isinstance(yours.features, Rows) and yours.feature_dim == 16
        for a, b in zip(image_batch(mine, np.array([7, 3])), image_batch(yours, np.array([7, 3])), strict=True):
            assert (a is None and b is None) or a.equal(b)
        assert _checksum(_contents(mine)) == _checksum(_contents(yours))
        assert _mean_features(mine).equal(_mean_features(yours))
    assert _checksum(_contents(data.take(order))) != _checksum(_contents(other.take(order[::-1])))


# The layouts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_on_disk_give_what_they_give_in_memory(tmp_path, layout, monkeypatch, on_disk):
    features, boxes, mask = made()
    path = store(tmp_path / "data", layout, features, boxes, mask)
    asked = [NAMES[row] for row in (7, 0, 11, 3)]
    lazily = read_features(path, ["none.jpg", *asked], missing := Problems())
    assert isinstance(lazily.features, Rows) and [problem.cause for problem in missing.found] == ["no features"]
    monkeypatch.setattr(lazy, "SMALL_BYTES", 2**28)
    monkeypatch.setattr(array_files, "UNPACK_BYTES", 2**28)
    read = read_features(path, asked, Problems(strict=True))
    assert (
        type(read.features) is np.ndarray
        and lazily.rows.tolist() == [1, 2, 3, 4]
        and read.rows.tolist() == [0, 1, 2, 3]
    )
    for found in (lazily, read):
        width = found.mask.shape[1]
        assert np.array_equal(found.mask, mask[[7, 0, 11, 3], :width])
        assert np.array_equal(np.asarray(found.features), features[[7, 0, 11, 3], :width])
        if layout != "npy":  # which has none
            assert np.array_equal(found.boxes, boxes[[7, 0, 11, 3], :width])


def test_padding_is_zero_whatever_stands_there(tmp_path, on_disk):
    features, boxes, mask = made()
    mask[2] = [True, False, True]  # a gap
    dirty = np.where(mask[..., None], features, np.nan)
    for layout in ("stored", "zipped"):
        found = read_features(store(tmp_path / layout, layout, dirty, boxes, mask), NAMES, Problems(strict=True))
        assert np.array_equal(found.features[:], np.where(mask[..., None], features, 0)) and np.array_equal(
            found.mask, mask
        )


def test_columns_first_is_read_all_the_same(tmp_path, on_disk):
    features = np.asfortranarray(made()[0][:, 0])
    np.savez(tmp_path / "all.npz", filenames=NAMES, features=features)
    assert np.array_equal(read_features(tmp_path / "all.npz", NAMES, Problems(strict=True)).features[:, 0], features)
    np.save(tmp_path / "all.npy", features)
    with pytest.raises(ValueError, match="all.npy cannot be mapped .*column by column"):
        map_npy(tmp_path / "all.npy")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("harm", ["written anew", "cut", "gone"])
def test_what_turns_bad_after_loading_is_named(tmp_path, layout, harm, on_disk):
    path = store(tmp_path / "data", layout, *made())
    found = read_features(path, NAMES, Problems(strict=True))
    whole = found.features[:]
    if layout == "zipped":
        (file,) = (tmp_path / "cache").glob("*/features.npy")
    else:
        file = {"set": path / "00001.features.npy", "stored": path}.get(layout) or path / f"6.jpg.{layout}"
    if harm == "cut":
        os.truncate(file, file.stat().st_size // 2)
    elif harm == "gone":
        file.unlink()
    else:
        os.utime(file, (0, 0))
    with pytest.raises(ValueError, match=f"{file.name} .*: load the data again"):
        found.features[[0, 6]]
    if layout in ("set", "npy", "npz"):  # the other files are as they were
        assert np.array_equal(found.features[[0]], whole[[0]])


def test_large_compressed_features_are_unpacked_once(tmp_path, on_disk, monkeypatch):
    path = store(tmp_path / "data", "zipped", *made())
    first = read_features(path, NAMES, Problems(strict=True))
    monkeypatch.setattr(array_files.shutil, "copyfileobj", None)  # would raise
    again = read_features(path, NAMES, Problems(strict=True))
    assert np.array_equal(first.features[:], again.features[:]) and len(list((tmp_path / "cache").glob("*/*.npy"))) == 1


# The feature set


def test_a_set_keeps_what_it_is_given_and_says_what_it_is(tmp_path):
    features, boxes, mask = made(dtype=np.float64)
    features[7, 0, 0] = 1e5  # float16 ends at 65,504
    labels = np.array([f"{'dog' if row < 6 else 'cattle'} {row}" for row in range(12)]).repeat(3).reshape(12, 3)
    for number in (1, 0):
        own = slice(6 * number, 6 * number + 6)
        shards.write_shard(
            tmp_path,
            number,
            NAMES[own],
            features[own],
            boxes[own],
            mask[own],
            labels=labels[own],
            scores=boxes[own, :, 0],
        )
    assert shards.names_in(tmp_path, 1) == NAMES[6:] and shards.names_in(tmp_path, 2) is None
    assert not shards.is_set(tmp_path)
    shards.finish(tmp_path, {"model": "a model", "skipped": ["bad.jpg"]})
    found = shards.reading(tmp_path, Problems(strict=True))
    said = {"model": "a model", "skipped": ["bad.jpg"]}
    assert found.about == {"format": shards.FORMAT, **said, "shards": 2, "images": 12, "dim": 5, "dtype": "float32"}
    assert [part.dtype for part in found.features.parts] == [np.float16, np.float32]
    assert found.names == tuple(NAMES) and np.array_equal(found.mask, mask) and np.array_equal(found.boxes, boxes)
    assert np.array_equal(found.features[6:], features[6:].astype(np.float32))
    assert np.array_equal(found.features[:6], features[:6].astype(np.float16))
    assert np.array_equal(found.labels, labels)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"features": np.full((2, 3, 5), np.nan)}, "'0.jpg' hold NaN"),
     ({"features": np.ones((2, 3, 5), int)}, "expected floats of shape .2, R, D"),
     ({"features": np.ones((3, 3, 5))}, "a row for each of the 2 names"),
     ({"features": np.full((2, 3, 5), 1e39)}, "NaN or infinite"),
     ({"mask": np.zeros((2, 3), bool)}, "'0.jpg' has no region"),
     ({"mask": np.ones((2, 3))}, "type float64"),
     ({"boxes": np.full((2, 3, 4), 9.0)}, "'0.jpg' has boxes that reach to"),
     ({"boxes": np.tile([0.5, 0, 0.2, 1], (2, 3, 1))}, "'0.jpg' has boxes whose second corner"),
     ({"names": ["a/0.jpg", "b/0.jpg"]}, "holds '0.jpg' 2 times"),
     ({"labels": np.ones(3)}, "labels has shape .3,.*a row an image")],
)  # fmt: skip
def test_a_shard_refuses_what_would_harm_later(tmp_path, change, words):
    features, boxes, mask = made(2)
    good = {"names": NAMES[:2], "features": features, "boxes": boxes, "mask": mask}
    if "mask" not in change:
        good["mask"] = np.ones_like(mask)
    with pytest.raises(ValueError, match=words):
        shards.write_shard(tmp_path / "set", 0, **{**good, **change})
    assert not (tmp_path / "set").exists()


def test_a_set_is_finished_once_all_shards_are_there(tmp_path):
    with pytest.raises(ValueError, match=r"has the shards \[\]"):
        shards.finish(tmp_path, {})
    shards.write_shard(tmp_path, 1, NAMES, *made())
    with pytest.raises(ValueError, match=r"has the shards \[1\]: expected 0, 1"):
        shards.finish(tmp_path, {})
    shards.write_shard(tmp_path, 0, NAMES, *made())
    with pytest.raises(ValueError, match="holds '0.jpg' 2 times"):
        shards.finish(tmp_path, {})
    shards.write_shard(tmp_path, 0, ["a.jpg"], *made(1, dim=DIM + 1))
    with pytest.raises(ValueError, match="features the same"):
        shards.finish(tmp_path, {})


@pytest.mark.parametrize("step", range(4))
def test_a_kill_while_a_shard_is_written_leaves_it_whole_or_absent(tmp_path, monkeypatch, step):
    features, boxes, mask = made(6)
    shards.write_shard(tmp_path, 0, NAMES[:6], features, boxes, mask)
    replaced, steps = os.replace, iter(range(9))

    def killed(source, target):
        if next(steps) == step:
            raise KeyboardInterrupt
        replaced(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            shards.write_shard(tmp_path, 1, NAMES[6:], features + 1, boxes, mask)
    assert shards.names_in(tmp_path, 1) is None and list(tmp_path.glob("*.partial"))
    shards.finish(tmp_path, {})
    assert shards.reading(tmp_path, Problems(strict=True)).names == tuple(NAMES[:6])
    shards.write_shard(tmp_path, 1, NAMES[6:], features, boxes, mask)
    shards.finish(tmp_path, {})
    assert len(shards.reading(tmp_path, Problems(strict=True)).names) == 12


# Memory


def allocated(path, names):
    tracemalloc.start()
    try:
        read_features(path, names, Problems(strict=True))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_loading_twice_as_much_takes_no_more_memory(tmp_path, layout, on_disk, monkeypatch):
    """Sets of 0.5 and 1 MB; tracemalloc sees what numpy allocates, not what is mapped."""
    sizes, peaks = (35, 70), []
    for images in sizes:
        features, boxes, mask = made(images, 9, 800)
        path = store(tmp_path / str(images), layout, features, boxes, np.ones_like(mask))
        names = [f"{number}.jpg" for number in range(images)]
        read_features(path, names[:1], Problems(strict=True))  # what is imported and cached stays out of it
        peaks.append(allocated(path, names))
    assert peaks[1] - peaks[0] < 100_000, peaks
    monkeypatch.setattr(lazy, "SMALL_BYTES", 2**28)  # as an array it does
    assert allocated(path, names) - peaks[1] > 700_000


def test_the_command_that_measures_it(tmp_path, capsys):
    """Both processes, with 20 images: that it runs, and what it prints."""
    assert feature_memory.main(["--gigabytes", "0.003", "--folder", str(tmp_path)]) == 0
    assert "0.003 GB, 20 images:" in (told := capsys.readouterr().out) and "MiB" in told
    assert not list(tmp_path.iterdir())


# Damage


def bytes_changed(rng, file):
    whole = bytearray(file.read_bytes())
    for place in rng.integers(len(whole), size=rng.integers(1, 4)):
        whole[place] = rng.integers(256)
    file.write_bytes(whole)


def cut_short(rng, file):
    os.truncate(file, int(rng.integers(file.stat().st_size)))


def piece_missing(rng, file):
    whole, at = file.read_bytes(), int(rng.integers(file.stat().st_size))
    file.write_bytes(whole[:at] + whole[at + int(rng.integers(1, 40)) :])


def piece_doubled(rng, file):
    whole, at = file.read_bytes(), int(rng.integers(file.stat().st_size))
    file.write_bytes(whole[:at] + whole[max(0, at - 30) :])


def emptied(rng, file):
    file.write_bytes(b"")


def removed(rng, file):
    file.unlink()


def changed_array(change, rng, file):
    """One array of a file changed and stored as it was stored; of JSON, something else."""
    if file.suffix == ".json":
        content = json.loads(file.read_text())
        key = list(content)[rng.integers(len(content))]
        content[key] = [None, 0, -1, "x", [1], {}, 10**9, content.get("names", [0])[1:]][rng.integers(8)]
        file.write_text(json.dumps(content))
    elif file.suffix == ".npy":
        np.save(file, change(rng, np.load(file)), allow_pickle=True)
    else:
        with zipfile.ZipFile(file) as opened:
            stored = opened.infolist()[0].compress_type == zipfile.ZIP_STORED
        arrays = dict(np.load(file))
        key = list(arrays)[rng.integers(len(arrays))]
        arrays[key] = change(rng, arrays[key])
        (np.savez if stored else np.savez_compressed)(file, **arrays)


def other_type(rng, array):
    if array.dtype.kind == "U":
        return array.astype([object, "S4"][rng.integers(2)])
    return array.astype([object, np.int64, complex, "S4", bool][rng.integers(5)])


def other_shape(rng, array):
    return [array[1:], array[..., :-1], array[None], array.ravel(), array[:0], np.array(3.0)][rng.integers(6)]


def not_finite(rng, array):
    if array.dtype.kind == "f":
        array = array.copy()
        array.flat[rng.integers(array.size)] = [np.nan, np.inf][rng.integers(2)]
    return array


def member_removed(rng, file):
    if file.suffix != ".npz":
        return removed(rng, file)
    arrays = dict(np.load(file))
    arrays.pop(list(arrays)[rng.integers(len(arrays))])
    np.savez(file, **arrays)


def names_doubled(rng, file):
    if file.suffix == ".json" and "names" in (content := json.loads(file.read_text())):
        content["names"][1] = content["names"][0]
        file.write_text(json.dumps(content))
    elif file.name == "all.npz":
        arrays = dict(np.load(file))
        arrays["filenames"][1] = arrays["filenames"][0]
        np.savez(file, **arrays)
    else:
        bytes_changed(rng, file)


BYTES = [bytes_changed, bytes_changed, cut_short, piece_missing, piece_doubled, emptied, removed]
REWRITES = (other_type, other_shape, not_finite)
CONTENT = [member_removed, names_doubled, *(partial(changed_array, how) for how in REWRITES)]


def expect_sentence_or_truth(path, truth, checked):
    """Load: what comes is finite and (``checked``) the truth, what does not is counted or told in a sentence."""
    problems = Problems()
    try:
        found = read_features(path, NAMES, problems)
        numbers = found.features[:]
    except ValueError as error:
        assert type(error) is ValueError and str(path) in str(error) and len(str(error)) > len(str(path)) + 30
        with pytest.raises(ValueError):
            read_features(path, NAMES, Problems(strict=True))
        return "refused"
    counted = [problem.record for problem in problems.found if problem.record in NAMES]
    assert sorted([*counted, *(NAMES[row] for row in found.rows)]) == sorted(NAMES)
    assert np.isfinite(numbers).all() and not numbers[~found.mask].any()
    if checked:
        for got, true in zip((numbers, found.boxes, found.mask), truth, strict=True):
            assert np.array_equal(got, true[found.rows, : got.shape[1]])
    return "skipped" if counted else "read"


@pytest.mark.parametrize("layout", ["set", "stored"])
def test_one_changed_bit_of_a_number_is_told(tmp_path, layout, on_disk):
    """These are mapped: nothing but the checksum can see it. (Of up to 4 KB zipfile sees it with the header.)"""
    features, boxes, mask = made(dim=400)
    path = store(tmp_path / "data", layout, features, boxes, mask)
    file = path / "00001.features.npy" if layout == "set" else path
    whole, own = file.read_bytes(), features[6, 0].tobytes()
    assert whole.count(own) == 1
    at = whole.index(own)
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(ValueError, match="checksum.* is another"):
        read_features(path, NAMES, Problems(strict=True))
    if layout == "set":  # the other shards can be used
        found = read_features(path, NAMES, problems := Problems())
        assert found.rows.tolist() == [0, 1, 2, 3, 4, 10, 11]
        assert [problem.cause for problem in problems.found] == ["damaged shard of features"] + ["no features"] * 5


def corruptions(tmp_path, times, seed):
    sizes = made(), made(dim=400)  # damage hits headers and names, or numbers
    told = {"refused": 0, "skipped": 0, "read": 0}
    for number in range(times):
        rng = np.random.default_rng([seed, number])
        layout = LAYOUTS[number % len(LAYOUTS)]
        truth = sizes[number % 2]
        path = store(tmp_path / str(number), layout, *truth)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        harm, file = (some[rng.integers(len(some))] for some in ([*BYTES, *CONTENT], files))
        harm(rng, file)
        # numbers without a checksum may be changed unseen, and a file that was written anew is a file
        checked = layout == "set" or (layout != "npy" and harm in BYTES)
        try:
            told[expect_sentence_or_truth(path, truth, checked)] += 1
            shutil.rmtree(tmp_path / str(number))
        except Exception as error:
            raise AssertionError(f"corruption {number}, {layout}: {harm} of {file.name}") from error
    return told


def test_corruptions_are_refused_skipped_or_harmless(tmp_path, on_disk):
    told = corruptions(tmp_path, 100, seed=1)
    assert told["refused"] > 20 and told["skipped"] > 10


@pytest.mark.slow
def test_a_thousand_corruptions(tmp_path, on_disk):
    """The same a thousand times, with another seed: rare combinations, of which a hundred hold few."""
    told = corruptions(tmp_path, 1000, seed=2)
    assert told["refused"] > 200 and told["skipped"] > 100


@pytest.mark.parametrize("folder", [True, False])
def test_two_images_of_one_stem_do_not_share_features(tmp_path, folder):
    features = np.ones((2, 3, 4), np.float32)
    if folder:
        path = tmp_path / "features"
        path.mkdir()
        for key, own in zip(("a", "b"), features, strict=True):
            np.save(path / f"{key}.npy", own)
    else:
        path = tmp_path / "features.npz"
        np.savez(path, filenames=["a", "b"], features=features)
    problems = Problems()
    found = read_features(path, ["a.jpg", "a.png", "b.jpg"], problems)
    assert found.rows.tolist() == [0, 2]
    assert "Images 'a.jpg' and 'a.png' have one row or file" in str(problems.found[0])
