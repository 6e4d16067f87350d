"""Extraction: what each kind of region holds, what is skipped, and that a run which was killed leaves no trace."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import pickle
import random
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import transformers as hf
from filelock import FileLock
from PIL import Image
from tqdm.std import tqdm

from data_scripts import extract_features, extraction
from itr_lib.data.boxes import MAX_REGIONS
from itr_lib.data.photographs import shards
from itr_lib.data.photographs.given_boxes import read_boxes
from itr_lib.data.photographs.pictures import open_photograph
from itr_lib.data.photographs.problems import Problems
from itr_lib.encoders.detector import load_detector
from itr_lib.encoders.pretrained import grid_boxes, load_image_encoder, pool_boxes

NAMES = [f"{letter}.jpg" for letter in "abcdefghij"]
BAD = ["c.jpg", "i.jpg"]  # cut short, and no picture
GOOD = [name for name in NAMES if name not in BAD]
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A CLIP of random weights, small enough to make in the test."""
    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1}
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    path = tmp_path_factory.mktemp("clip")
    hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(path)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    hf.CLIPImageProcessorPil(**size).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Ten pictures, two of them damaged, in two folders, and what macOS adds."""
    folder, noise = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    (folder / "more").mkdir()
    (folder / "__MACOSX").mkdir()
    for name in NAMES:
        place = folder / "more" if name > "f" else folder
        Image.fromarray(noise.integers(0, 256, (40, 60, 3), np.uint8)).save(place / name)
    (folder / "c.jpg").write_bytes((folder / "c.jpg").read_bytes()[:900])
    (folder / "more" / "i.jpg").write_text("<html>404</html>")
    for junk in ("._a.jpg", "__MACOSX/a.jpg", "__MACOSX/._b.jpg"):
        (folder / junk).write_bytes(b"\0\5\26\7")
    return folder


def run(images, clip, out, *more, workers=0) -> int:
    command = [f"--images={images}", f"--model={clip}", f"--out={out}", "--device=cpu", "--precision=float32"]
    return extract_features.main([*command, f"--workers={workers}", *more])


def arrays(out: Path) -> dict[str, np.ndarray]:
    parts = {}
    for file in sorted(out.glob("*.npy")):
        parts.setdefault(file.name.split(".")[1], []).append(np.load(file))
    return {key: np.concatenate(part) for key, part in parts.items()}


def names_of(out: Path) -> list[str]:
    return [name for number in range(len(list(out.glob("*.names.json")))) for name in shards.names_in(out, number)]


def bytes_of(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


def opened(images: Path) -> list[Image.Image]:
    return [open_photograph(next(images.glob(f"**/{name}"))) for name in GOOD]


def close(stored: np.ndarray, expected) -> bool:
    return np.allclose(stored.astype(np.float32), np.asarray(expected), atol=2e-3)


# --- regions ---------------------------------------------------------------------------------------------------------


def test_whole_pictures_and_what_is_skipped(images, clip, tmp_path, capsys):
    assert run(images, clip, tmp_path / "clip", "--batch-size=3") == 0
    stored, about = arrays(tmp_path / "clip"), json.loads((tmp_path / "clip" / "features.json").read_text())
    assert names_of(tmp_path / "clip") == GOOD and stored["features"].dtype == np.float16
    with torch.inference_mode():
        model, processor = hf.CLIPModel.from_pretrained(clip).eval(), hf.CLIPImageProcessorPil.from_pretrained(clip)
        expected = model.get_image_features(**processor(images=opened(images), return_tensors="pt")).pooler_output
    assert stored["features"].shape == (8, 1, 8) and close(stored["features"][:, 0], expected)
    assert (stored["boxes"] == [0, 0, 1, 1]).all() and stored["mask"].all()
    assert [(one["record"], one["cause"]) for one in about["skipped"]] == [
        *[(name, "file that macOS wrote beside a picture") for name in ("._a.jpg", "._b.jpg", "a.jpg")],
        *[(name, "picture that cannot be used") for name in BAD],
    ]
    assert "c.jpg cannot be read" in about["skipped"][3]["sentence"]
    said = capsys.readouterr().out
    assert "2 skipped: picture that cannot be used (c.jpg, i.jpg)" in said and "8 pictures, 8 numbers a region" in said
    assert {file.name.split(".", 1)[1] for file in (tmp_path / "clip").iterdir()} == {
        "json", "features.npy", "boxes.npy", "mask.npy", "names.json", "lock"
    }  # fmt: skip


def test_a_grid_with_the_whole_picture_first(images, clip, tmp_path):
    assert run(images, clip, tmp_path / "grid", "--regions=grid", "--grid=2") == 0
    stored, maps = arrays(tmp_path / "grid"), load_image_encoder(clip)(opened(images))
    assert stored["features"].shape == (8, 5, 8) and close(stored["features"][:, 0], maps.whole)
    quarters = maps.cells.unflatten(1, (2, 2)).unflatten(3, (2, 2)).mean(dim=(2, 4))  # of 4 x 4 cells
    assert close(stored["features"][:, 1:], quarters.flatten(1, 2))
    assert stored["boxes"][3].tolist() == [[0, 0, 1, 1], *grid_boxes(2).tolist()]


def given_file(tmp_path, images: dict) -> Path:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"images": images}))
    return path


def objects(*boxes, size=(60, 40)):
    return {"size": size, "objects": [{"label": f"thing {at}", "box": box} for at, box in enumerate(boxes)]}


def test_given_boxes(images, clip, tmp_path):
    told = {"a.jpg": objects([0, 0, 30, 20], [10, 10, 60, 40]), "d.jpg": objects([0, 0, 120, 80], size=(120, 80))}
    told |= {"e.jpg": objects([0, 0, 10, 10], size=(40, 60))}  # of a picture that was turned
    assert run(images, clip, tmp_path / "b", "--regions=boxes", f"--boxes={given_file(tmp_path, told)}") == 0
    stored, about = arrays(tmp_path / "b"), json.loads((tmp_path / "b" / "features.json").read_text())
    names, cells = names_of(tmp_path / "b"), load_image_encoder(clip)(opened(images)).cells
    assert names == [name for name in GOOD if name != "e.jpg"]
    expected = pool_boxes(cells[0].numpy(), np.float32([[0, 0, 0.5, 0.5], [1 / 6, 0.25, 1, 1]]))
    assert close(stored["features"][0], expected) and stored["labels"][0].tolist() == ["thing 0", "thing 1"]
    assert stored["mask"].sum(axis=1).tolist() == [2, 1, 1, 1, 1, 1, 1]
    assert stored["boxes"][1:, 0].tolist() == [[0, 0, 1, 1]] * 6 and stored["labels"][1, 0] == ""
    assert close(stored["features"][1, 0], cells[1].mean(dim=(0, 1)))
    assert "boxes were drawn on 40 x 60" in {one["record"]: one["sentence"] for one in about["skipped"]}["e.jpg"]


def tiny_detr(folder: Path) -> Path:
    backbone = hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    sizes = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    labels = {"id2label": dict(enumerate("pqrst")), "label2id": {label: at for at, label in enumerate("pqrst")}}
    torch.manual_seed(1)
    config = hf.DetrConfig(backbone_config=backbone, num_queries=40, **sizes, **layers, **labels)
    hf.DetrForObjectDetection(config).save_pretrained(folder)
    hf.DetrImageProcessorPil(size={"shortest_edge": 48, "longest_edge": 80}).save_pretrained(folder)
    return folder


def test_a_detectors_boxes(images, tmp_path):
    detr = tiny_detr(tmp_path / "detr")
    assert run(images, detr, tmp_path / "found", "--regions=detector", "--batch-size=2") == 0
    stored = arrays(tmp_path / "found")
    assert stored["features"].shape == (8, MAX_REGIONS, 16) and stored["mask"].all()
    model, processor = (
        hf.DetrForObjectDetection.from_pretrained(detr).eval(),
        hf.DetrImageProcessorPil.from_pretrained(detr),
    )
    for row, picture in enumerate(opened(images)[:2]):
        with torch.inference_mode():
            out = model(**processor(images=[picture], return_tensors="pt"))
        (found,) = processor.post_process_object_detection(out, threshold=0, target_sizes=[(1, 1)])
        order = found["scores"].argsort(descending=True)[:MAX_REGIONS]
        assert np.allclose(stored["scores"][row], found["scores"][order], atol=1e-5)
        assert np.allclose(stored["boxes"][row], found["boxes"][order].clamp(0, 1), atol=1e-3)
        assert stored["labels"][row].tolist() == ["pqrst"[label] for label in found["labels"][order]]
        assert close(stored["features"][row], out.last_hidden_state[0][order])


def test_what_is_no_detr(tmp_path):
    hf.YolosForObjectDetection(hf.YolosConfig(**SMALL, image_size=[32, 32], patch_size=16)).save_pretrained(tmp_path)
    hf.YolosImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a YolosForObjectDetection, whose logits .*as of a DETR"):
        load_detector(tmp_path)([Image.new("RGB", (32, 32))])


# --- boxes that others drew ------------------------------------------------------------------------------------------


def test_boxes_are_relative_and_what_is_none_is_told(tmp_path):
    wrong = [[5, 5, 5, 30], [70, 10, 90, 20], [1, 2, 3], [30, 10, 20, 20], ["a", 0, 1, 1], None]
    told = {"a.jpg": objects([6, 4, 60, 40], *wrong), "b.jpg": objects(), "c.jpg": {"size": [0, 4], "objects": []}}
    told |= {f"{at}.jpg": objects([0, 0, 60, 40]) for at in range(9)}
    problems = Problems()
    read = read_boxes(given_file(tmp_path, told), problems)
    assert read["a.jpg"].boxes.tolist() == np.float32([[0.1, 0.1, 1, 1]]).tolist() and read["a.jpg"].labels == (
        "thing 0",
    )
    assert "b.jpg" not in read and "c.jpg" not in read
    assert [problem.record for problem in problems.found] == ["a.jpg"] * 6 + ["c.jpg"]


@pytest.mark.parametrize(
    "entry",
    [{"entities": [1]}, {"objects": {"a": 1}}, {"entities": {"1": {"boxes": 5}}}, {"entities": {"1": 5}}],
)
def test_a_picture_whose_boxes_are_no_list_is_skipped(entry, tmp_path):
    problems = Problems()
    told = {"a.jpg": {"size": [60, 40], **entry}, "b.jpg": objects([0, 0, 60, 40])}
    assert list(read_boxes(given_file(tmp_path, told), problems)) == ["b.jpg"]
    assert [problem.record for problem in problems.found] == ["a.jpg"]


def test_phrases_and_types_of_no_sense_cost_no_boxes(tmp_path):
    entities = {str(at): {"types": 5, "boxes": [[at, 0, at + 5, 5]]} for at in range(50)} | {"x": {"boxes": 7}}
    told = {"a.jpg": {"size": [60, 40], "entities": entities, "phrases": [{"e": [1]}, 3]}}
    assert len(read_boxes(given_file(tmp_path, told), Problems())["a.jpg"].boxes) == 36


def test_of_many_boxes_those_stay_that_matter(tmp_path):
    many = [[at, 0, at + 10 + at / 10, 30] for at in range(40)]
    boxes = read_boxes(given_file(tmp_path, {"a.jpg": objects(*many, size=(60, 30))}), Problems())["a.jpg"]
    assert boxes.labels == tuple(f"thing {at}" for at in range(4, 40))
    spoken = {
        "size": [600, 30],
        "entities": {str(at): {"types": ["x"], "boxes": [[15 * at, 0, 15 * at + 15, 30]]} for at in range(40)},
    }
    spoken["phrases"] = [{"e": str(at)} for at in range(4, 40)]
    boxes = read_boxes(given_file(tmp_path, {"a.jpg": spoken}), Problems())["a.jpg"].boxes
    assert len(boxes) == MAX_REGIONS and boxes[0, 0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "another format"),
        ({"a.jpg": objects()}, "no box that can be used"),
        ({f"{at}.jpg": objects([30, 20, 10, 10], [0, 0, 60, 40]) for at in range(4)}, "add x to w and y to h"),
        ({f"{at}.jpg": objects([0, 0, 30, 20]) for at in range(20)}, "No box of the 20 pictures .*beyond 50%"),
    ],
)
def test_files_of_boxes_that_cannot_be_used(tmp_path, told, message):
    with pytest.raises(ValueError, match=message):
        read_boxes(given_file(tmp_path, told), Problems())


def test_real_files_of_boxes(shared_data):
    problems = Problems()
    read = read_boxes(shared_data / "coco_mini" / "boxes.json", problems)
    assert len(read) == 101 and sum(len(own.boxes) for own in read.values()) > 500
    assert {problem.cause for problem in problems.found} == {"region of many objects"} and len(problems.found) == 12
    entities = read_boxes(shared_data / "flickr8k" / "entities.json", problems)
    assert len(entities) == 7000 and max(len(own.boxes) for own in entities.values()) == MAX_REGIONS
    assert sum(problem.cause == "boxes beyond 36" for problem in problems.found) == 15


# --- runs that end early ---------------------------------------------------------------------------------------------


class Stopped(BaseException):
    """Stands for a kill: nobody catches it."""


def test_a_run_that_stops_at_any_write_goes_on_to_the_same_bytes(images, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD", 3)
    options = ["--batch-size=2", "--regions=grid", "--grid=2"]
    assert run(images, clip, tmp_path / "whole", *options) == 0
    expected, replace, encoder = bytes_of(tmp_path / "whole"), os.replace, load_image_encoder(clip)
    monkeypatch.setattr(extract_features, "load_image_encoder", lambda *_, **__: encoder)  # loaded once, for time
    assert len([name for name in expected if name.endswith("features.npy")]) == 3
    for stop in range(100):
        left = [stop]

        def stopping(source, target, left=left):
            if left[0] == 0:
                raise Stopped
            left[0] -= 1
            replace(source, target)

        monkeypatch.setattr(os, "replace", stopping)
        try:
            assert run(images, clip, tmp_path / f"{stop}", *options) == 0
            break
        except Stopped:
            monkeypatch.setattr(os, "replace", replace)
            assert not shards.is_set(tmp_path / f"{stop}") and run(images, clip, tmp_path / f"{stop}", *options) == 0
        assert bytes_of(tmp_path / f"{stop}") == expected, stop
    assert stop > 15  # three shards of four files, what was skipped of each, settings, features.json
    assert run(images, clip, tmp_path / "whole", *options) == 0 and bytes_of(tmp_path / "whole") == expected


def test_bad_pictures_at_the_end_are_listed_once_after_a_kill(clip, tmp_path, monkeypatch):
    """The shard before them is whole, and knows of them: the run goes on behind them."""
    (tmp_path / "images").mkdir()
    for name in "abc":
        Image.new("RGB", (40, 40), (90, 20, 20)).save(tmp_path / "images" / f"{name}.jpg")
    for name in "xyz":
        (tmp_path / "images" / f"{name}.jpg").write_text("no picture")
    assert run(tmp_path / "images", clip, tmp_path / "whole", "--batch-size=2") == 0
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(extraction, "finish", lambda *_: (_ for _ in ()).throw(Stopped))
        run(tmp_path / "images", clip, tmp_path / "out", "--batch-size=2")
    assert run(tmp_path / "images", clip, tmp_path / "out", "--batch-size=2") == 0
    skipped = json.loads((tmp_path / "out" / "features.json").read_text())["skipped"]
    assert [one["record"] for one in skipped] == ["x.jpg", "y.jpg", "z.jpg"]
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_workers_change_nothing(images, clip, tmp_path):
    for workers in (0, 2):
        assert run(images, clip, tmp_path / f"{workers}", "--batch-size=2", workers=workers) == 0
    assert bytes_of(tmp_path / "0") == bytes_of(tmp_path / "2")


def test_workers_can_be_started_anew(images, clip):
    """Where processes are not forked, what they work on is pickled."""
    encoder = load_image_encoder(clip)
    batches = extraction.Batches(sorted(images.glob("*.jpg")), 4, extraction.Extraction({}, encoder.prepare, None))
    one, other = (some[0] for some in (batches, pickle.loads(pickle.dumps(batches))))
    assert one.names == other.names and np.array_equal(one.arrays["pixel_values"], other.arrays["pixel_values"])


def test_two_processes_take_turns(images, clip, tmp_path, capsys):
    """One that comes while another has the folder says so and waits; what it finds then it leaves as it is."""
    assert run(images, clip, tmp_path / "whole") == 0
    expected, out, codes, said = bytes_of(tmp_path / "whole"), tmp_path / "out", [], ""
    out.mkdir()
    with FileLock(out / ".lock"):
        second = threading.Thread(target=lambda: codes.append(run(images, clip, out)))
        second.start()
        while second.is_alive() and "Another process is at work in" not in said:
            said += capsys.readouterr().out
            time.sleep(0.05)
        assert second.is_alive() and {path.name for path in out.iterdir()} == {".lock"}
        for name, content in expected.items():
            (out / name).write_bytes(content)
        written = {path.name: path.stat().st_mtime_ns for path in out.glob("0*")}
    second.join(60)
    assert codes == [0] and bytes_of(out) == expected
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("0*")} == written


def run_forked(*arguments, **options) -> None:
    """The command, whose bars have a lock of their own: a process killed in tqdm's leaves the parent's locked."""
    tqdm.set_lock(threading.RLock())
    run(*arguments, **options)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has torch")
def test_twenty_kills_leave_no_trace(images, clip, tmp_path, monkeypatch):
    """Slow: some thirty runs of the command, until twenty were killed for good, at moments that nobody chose."""
    monkeypatch.setattr(extraction, "SHARD", 2)
    options = ["--batch-size=1", "--regions=grid"]
    start = time.monotonic()
    assert run(images, clip, tmp_path / "whole", *options) == 0
    took, expected, dice, kills = time.monotonic() - start, bytes_of(tmp_path / "whole"), random.Random(0), 0
    fork, workers = multiprocessing.get_context("fork"), []
    while kills < 20:
        command = fork.Process(
            target=run_forked, args=(images, clip, tmp_path / "out", *options), kwargs={"workers": kills % 2}
        )
        command.start()
        command.join(dice.uniform(0, took))
        with contextlib.suppress(psutil.NoSuchProcess):
            workers += psutil.Process(command.pid).children()
        command.kill()
        command.join()
        kills += command.exitcode == -9
        if command.exitcode == 0:
            assert bytes_of(tmp_path / "out") == expected
            shutil.rmtree(tmp_path / "out")
    assert run(images, clip, tmp_path / "out", *options) == 0
    assert bytes_of(tmp_path / "out") == expected
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def orphan() -> None:
    extraction._end_with(parent=0, worker=0)
    time.sleep(60)


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has torch")
def test_a_worker_whose_parent_is_gone_ends() -> None:
    process = multiprocessing.get_context("fork").Process(target=orphan)
    process.start()
    process.join(10)
    assert process.exitcode == 1


# --- what can be wrong -----------------------------------------------------------------------------------------------


def test_another_extractions_folder(images, clip, tmp_path, capsys):
    assert run(images, clip, tmp_path / "out") == 0
    before = bytes_of(tmp_path / "out")
    assert run(images, clip, tmp_path / "out", "--regions=grid") == 1
    assert "holds another extraction, whose regions is 'whole' and not 'grid'" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert run(images, clip, tmp_path / "mine") == 1 and run(images, clip, tmp_path / "mine" / "notes.txt") == 1
    assert capsys.readouterr().err.count("holds something else: give a new folder") == 2
    assert bytes_of(tmp_path / "out") == before and bytes_of(tmp_path / "mine") == {"notes.txt": b"mine"}


def test_a_full_disk_says_so_and_the_run_goes_on_later(images, clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(extraction, "SHARD", 3)
    assert run(images, clip, tmp_path / "whole", "--batch-size=2") == 0
    write = shards.write_shard

    def full(folder, number, *rest, **more):
        if number:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, number, *rest, **more)

    monkeypatch.setattr(extraction, "write_shard", full)
    assert run(images, clip, tmp_path / "out", "--batch-size=2") == 1
    assert "No space left on device): is the disk full? Make room and run the same command" in capsys.readouterr().err
    monkeypatch.setattr(extraction, "write_shard", write)
    assert run(images, clip, tmp_path / "out", "--batch-size=2") == 0
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_numbers_that_are_none_are_skipped(images, clip, tmp_path, monkeypatch):
    of_wholes = extraction.of_wholes

    def with_nan(encode):
        def describe(names, arrays):
            regions = of_wholes(encode)(names, arrays)
            regions.features[[name == "d.jpg" for name in names]] = np.nan
            regions.features[[name == "e.jpg" for name in names]] = 1e5
            return regions

        return describe

    monkeypatch.setattr(extraction, "of_wholes", with_nan)
    assert run(images, clip, tmp_path / "out") == 0
    stored, about = arrays(tmp_path / "out"), json.loads((tmp_path / "out" / "features.json").read_text())
    assert names_of(tmp_path / "out") == [name for name in GOOD if name != "d.jpg"]
    assert stored["features"].dtype == np.float32 and (stored["features"][2] == 1e5).all()
    told = {one["record"]: one["sentence"] for one in about["skipped"]}
    assert "makes NaN or infinity of 'd.jpg'" in told["d.jpg"] and len(told) == 6


def test_pictures_of_odd_shapes(clip, tmp_path):
    (tmp_path / "images").mkdir()
    for width, height in ((3, 50), (50, 3), (1, 1), (2, 900)):
        Image.new("RGB", (width, height), (200, 10, 10)).save(tmp_path / "images" / f"{width}x{height}.png")
    for regions in ("whole", "grid"):
        assert run(tmp_path / "images", clip, tmp_path / regions, f"--regions={regions}") == 0
        about = json.loads((tmp_path / regions / "features.json").read_text())
        assert about["images"] + len(about["skipped"]) == 4 and (regions == "whole" or about["images"] == 4)


def test_hidden_pictures_are_none_of_ours(tmp_path):
    hidden = [".git/a.jpg", ".ipynb_checkpoints/b-checkpoint.png", "more/.Trash/deep/b.jpg", ".c.jpg"]
    thumbnails = ["@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "@eaDir/b.jpg/SYNOPHOTO_THUMB_M.jpg"]
    for name in ("a.jpg", "more/b.jpg", *hidden, *thumbnails):
        (tmp_path / ".photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".photos" / name).touch()
    problems = Problems()
    found = extraction.find_pictures(tmp_path / ".photos", problems)  # the folder itself was asked for
    assert [path.relative_to(tmp_path / ".photos").as_posix() for path in found] == ["a.jpg", "more/b.jpg"]
    assert {problem.cause for problem in problems.found} == {"hidden picture"}
    assert all(any(name in str(problem) for problem in problems.found) for name in hidden + thumbnails)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "a.jpg").write_text("no"), "none of the 1 pictures can be used. The first: Picture"),
        (lambda folder: (folder / "a.jpg").unlink(), "holds no picture"),
        (lambda folder: shutil.rmtree(folder), "does not exist"),
        (lambda folder: shutil.copytree(folder, folder / "more"), "holds 'a.jpg' twice"),
    ],
)
def test_folders_that_cannot_be_used(clip, tmp_path, capsys, change, message):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (40, 40)).save(folder / "a.jpg")
    change(folder)
    assert run(folder, clip, tmp_path / "out") == 1 and message in capsys.readouterr().err


def test_a_model_that_is_not_there(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(images, tmp_path / "none", tmp_path / "out") == 1
    assert "could not be loaded" in (said := capsys.readouterr().err) and "Take one of three" in said
    assert not (tmp_path / "out").exists()
