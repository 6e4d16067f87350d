"""The field's formats: what is read, and a sentence for each thing that can be wrong."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from data_scripts import inspect_karpathy
from itr_lib.data.batches import image_batch
from itr_lib.data.photographs.karpathy import hold_out, load_karpathy
from itr_lib.data.photographs.layouts import load_folder

NAMES = [f"{number}.jpg" for number in range(6)]


def record(name, split="train", captions=("a dog runs", "a brown dog")):
    return {"filename": name, "split": split, "sentences": [{"raw": text, "tokens": text.split()} for text in captions]}


@pytest.fixture
def folder(tmp_path):
    """A good data set of six pictures: three train, one restval, one val, one test."""
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    for name in NAMES:
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    splits = ["train", "train", "train", "restval", "val", "test"]
    write(tmp_path, [record(name, split) for name, split in zip(NAMES, splits, strict=True)])
    np.savez(tmp_path / "clip.npz", filenames=NAMES, features=np.random.default_rng(1).normal(size=(6, 8)))
    return tmp_path


def write(folder, records):
    (folder / "dataset_flickr8k.json").write_text(json.dumps({"dataset": "flickr8k", "images": records}))


def records_of(folder):
    return json.loads((folder / "dataset_flickr8k.json").read_text())["images"]


def change(folder, row, **values):
    records = records_of(folder)
    records[row].update(values)
    write(folder, records)


def test_good_data(folder):
    data = load_folder("flickr8k", folder, strict=True)
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 4, "val": 1, "test": 1}
    assert data.problems == () and "nothing skipped" in data.report()
    train = data["train"]
    assert train.features.shape == (4, 1, 8) and train.boxes[0].tolist() == [[0, 0, 1, 1]]
    assert train.captions_of(1) == ["a dog runs", "a brown dog"]
    assert train.picture(0).size == (60, 40) and train.picture(0).mode == "RGB"
    with pytest.raises(KeyError, match="'dev'.*train"):
        data["dev"]


def test_subset_of_splits_and_different_numbers_of_captions(folder):
    change(folder, 4, sentences=[{"tokens": ["just", "tokens"]}])
    data = load_folder("flickr8k", folder, splits=["val"])
    assert list(data.splits) == ["val"] and data["val"].captions == ("just tokens",)


def test_features_follow_the_names_not_the_order(folder):
    features = np.arange(6, dtype=np.float32)[:, None].repeat(3, 1)
    np.savez(folder / "clip.npz", filenames=NAMES[::-1], features=features)
    assert load_folder("flickr8k", folder)["train"].features[:, 0, 0].tolist() == [5, 4, 3, 2]


def test_regions_in_one_file(folder):
    boxes = np.tile(np.float32([0, 0, 30, 20]), (6, 4, 1))  # pixels
    features = np.ones((6, 4, 5), np.float16)
    np.savez(folder / "clip.npz", filenames=NAMES, features=features, boxes=boxes, num_boxes=[4, 3, 2, 1, 2, 3])
    train = load_folder("flickr8k", folder)["train"]
    assert train.region_mask.sum(1).tolist() == [4, 3, 2, 1]
    assert train.boxes[0, 0].tolist() == [0, 0, 0.5, 0.5] and not train.features[3, 1:].any()
    with pytest.raises(ValueError, match="no image folder to take the picture's size from"):
        load_karpathy(folder / "dataset_flickr8k.json", None, folder / "clip.npz", strict=True)


def test_one_file_an_image(folder):
    (folder / "clip.npz").unlink()
    (folder / "features").mkdir()
    for row, name in enumerate(NAMES[:-1]):
        np.save(folder / "features" / f"{name}.npy", np.ones((row + 1, 5), np.float32))
    np.savez(folder / "features" / "5.npz", x=np.ones((2, 5), np.float32), bbox=np.float32([[0, 0, 1, 1]] * 2))
    data = load_folder("flickr8k", folder, strict=True)
    assert data["train"].region_mask.sum(1).tolist() == [1, 2, 3, 4] and data["test"].region_mask.sum() == 2


def test_subfolder_of_coco(folder):
    (folder / "images" / "val2014").mkdir()
    os.rename(folder / "images" / NAMES[0], folder / "images" / "val2014" / NAMES[0])
    for row in range(2):  # the second lies flat in spite of its sub-folder
        change(folder, row, filepath="val2014")
    assert len(load_folder("flickr8k", folder, strict=True)["train"]) == 4


def cut_picture(folder):
    path = folder / "images" / NAMES[0]
    os.truncate(path, path.stat().st_size * 2 // 3)


def feature_file(**arrays):
    def harm(folder):
        good = {"filenames": NAMES, "features": np.ones((6, 8), np.float32)}
        np.savez(folder / "clip.npz", **{**good, **arrays})

    return harm


def features_nan(folder):
    features = np.ones((6, 8), np.float32)
    features[0, 3] = np.nan
    feature_file(features=features)(folder)


BAD_RECORDS = [
    ("missing picture", lambda f: (f / "images" / NAMES[0]).unlink(), "Picture .*0.jpg does not exist"),
    ("unreadable picture", lambda f: (f / "images" / NAMES[0]).write_text("no"), "0.jpg cannot be read .not a picture"),
    ("image without captions", lambda f: change(f, 0, sentences=[]), "Image '0.jpg' .record 0 of .* has no caption"),
    ("unknown split", lambda f: change(f, 0, split="dev"), "'0.jpg' .record 0.* is of split 'dev': expected one of"),
    ("record of another format", lambda f: change(f, 0, sentences="a dog"), "Record 0 of .* not in karpathy's format"),
    ("file name that stands twice", lambda f: change(f, 1, filename=NAMES[0]), "'0.jpg' stands twice .*record 1"),
    ("no features", feature_file(filenames=NAMES[1:], features=np.ones((5, 8))), "Image '0.jpg' has no row in"),
    ("features that cannot be used", features_nan, "Features of '0.jpg' in .*NaN"),
]


@pytest.mark.parametrize(("cause", "harm", "words"), BAD_RECORDS, ids=[bad[0] for bad in BAD_RECORDS])
def test_bad_record_is_skipped_and_listed_or_stops(folder, cause, harm, words):
    harm(folder)
    data = load_folder("flickr8k", folder)
    assert len(data["train"]) == 3
    assert [problem.cause for problem in data.problems] == [cause]
    assert f"1 skipped: {cause}" in data.report()
    with pytest.raises(ValueError, match="(?i)" + words):
        load_folder("flickr8k", folder, strict=True)


def test_empty_caption_leaves_the_others(folder):
    change(folder, 0, sentences=[{"raw": "  "}, {"raw": "a dog"}])
    data = load_folder("flickr8k", folder)
    assert data["train"].captions_of(0) == ["a dog"] and data.problems[0].cause == "empty caption"
    with pytest.raises(ValueError, match="Caption 0 of image '0.jpg' .* is empty"):
        load_folder("flickr8k", folder, strict=True)


def test_cut_picture_is_found_when_strict_and_otherwise_when_opened(folder):
    cut_picture(folder)
    data = load_folder("flickr8k", folder)
    with pytest.raises(ValueError, match="0.jpg cannot be read .*truncated.*download it again"):
        data["train"].picture(0)
    assert load_folder("flickr8k", folder, verify=True).problems[0].cause == "unreadable picture"
    with pytest.raises(ValueError, match="0.jpg cannot be read .*truncated"):
        load_folder("flickr8k", folder, strict=True)


def annotation_text(text):
    return lambda folder: (folder / "dataset_flickr8k.json").write_text(text)


BAD_FILES = [
    (lambda f: (f / "dataset_flickr8k.json").unlink(), "holds no dataset_flickr8k.json"),
    (annotation_text('{"images": ['), "dataset_flickr8k.json is not JSON"),
    (annotation_text("[1]"), "not in Karpathy's format"),
    (annotation_text('{"images": [{"id": 1}], "annotations": []}'), "COCO's own"),
    (lambda f: np.savez(f / "more.npz", a=1), "several feature files, .'clip.npz', 'more.npz'.*features="),
    (feature_file(features=np.ones((5, 8))), r"shape \(5, 8\).*expected floats of shape \(6, D\)"),
    (feature_file(features=np.ones((6, 8), int)), "type int64.*expected floats"),
    (feature_file(filenames=["0.jpg"] * 6), "names '0.jpg' twice"),
    (feature_file(features=np.ones((6, 4, 8)), boxes=np.ones((6, 3, 4))), r"'boxes' of .* has shape \(6, 3, 4\)"),
    (feature_file(features=np.ones((6, 4, 8)), mask=np.ones((6, 3))), "'mask' or 'num_boxes'"),
    (feature_file(filenames=np.array(NAMES, object)), "cannot be read as plain numpy arrays"),
    (lambda f: os.truncate(f / "clip.npz", 300), "cannot be read as plain numpy arrays"),
    (lambda f: np.savez(f / "clip.npz", vectors=np.ones(3)), r"holds \['vectors'\]: expected the arrays 'filenames'"),
    (feature_file(filenames=[f"x{n}" for n in range(6)]), "usable features for none of the images"),
]


@pytest.mark.parametrize(("harm", "words"), BAD_FILES)
def test_a_file_that_cannot_be_used_always_stops(folder, harm, words):
    harm(folder)
    with pytest.raises(ValueError, match=words):
        load_folder("flickr8k", folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"splits": ["dev"]}, "unknown split 'dev': expected some of"),
        ({"splits": ["restval"]}, "'restval' counts as 'train'"),
        ({"features": "nowhere.npz"}, "feature file 'nowhere.npz' does not exist"),
        ({"images": "nowhere"}, "image folder 'nowhere' does not exist"),
    ],
)
def test_bad_arguments(folder, options, words):
    arguments = {"annotations": folder / "dataset_flickr8k.json", "images": folder / "images"}
    with pytest.raises(ValueError, match=words):
        load_karpathy(**{**arguments, "features": folder / "clip.npz", **options})


def test_absent_split(folder):
    write(folder, [entry for entry in records_of(folder) if entry["split"] != "test"])
    assert list(load_folder("flickr8k", folder).splits) == ["train", "val"]
    with pytest.raises(ValueError, match="no image of split 'test'"):
        load_folder("flickr8k", folder, splits=["test"])


def test_wrong_dimension_in_a_folder_of_files(folder):
    (folder / "clip.npz").unlink()
    (folder / "features").mkdir()
    for row, name in enumerate(NAMES):
        np.save(folder / "features" / f"{name}.npy", np.ones((2, 4 if row == 1 else 5), np.float32))
    problem = load_folder("flickr8k", folder).problems[0]
    assert problem.record == "1.jpg" and "4 dimensions a region, where the images before it have 5" in str(problem)


def test_hold_out(folder):
    train = load_folder("flickr8k", folder)["train"]
    rest, held = hold_out(train, share=0.25, seed=3)
    assert (len(rest), len(held)) == (3, 1) and held.split == "dev"
    assert set(rest.image_ids) | set(held.image_ids) == set(train.image_ids)
    with pytest.raises(ValueError, match="holds out 0"):
        hold_out(train, share=0.01)


def test_inspect_command(folder, capsys):
    root = ["--root", str(folder)]
    assert inspect_karpathy.main([*root, "--strict"]) == 0
    (folder / "images" / NAMES[0]).unlink()
    assert inspect_karpathy.main(root) == 0
    assert inspect_karpathy.main([*root, "--strict"]) == 1
    assert "1 skipped: missing picture (0.jpg)" in capsys.readouterr().out
    (folder / "clip.npz").unlink()
    assert inspect_karpathy.main(root) == 0 and "no features yet" in capsys.readouterr().out
    (folder / "dataset_flickr8k.json").unlink()
    assert inspect_karpathy.main(root) == 1


def test_without_features_the_rest_is_there(folder):
    """Tokenising and pictures need none; what does says what to do, in one sentence."""
    (folder / "clip.npz").unlink()
    train = load_folder("flickr8k", folder, strict=True)["train"]
    assert train.features.shape == (4, 0, 0) and train.captions_of(1) == ["a dog runs", "a brown dog"]
    assert train.picture(3).size == (60, 40) and train.take([2, 0]).boxes.shape == (2, 0, 4)
    alone = load_karpathy(folder / "dataset_flickr8k.json")["train"]
    for data in (train, alone):
        with pytest.raises(ValueError, match="'flickr8k'/'train' has captions and no image features: ext"):
            image_batch(data, np.arange(2))


def test_flickr8k(shared_data):
    data = load_folder("flickr8k", shared_data / "flickr8k")
    assert (len(data["train"]), len(data["val"])) == (1805, 308)
    assert len(data.problems) == 4195 + 692 and "4,887 skipped: no features" in data.report()
    assert data["val"].features.shape == (308, 1, 512) and min(data["val"].picture(0).size) == 128


def test_coco_mini(shared_data, tmp_path):
    names = [path.name for path in (shared_data / "coco_mini" / "images").iterdir()]
    np.savez(tmp_path / "x.npz", filenames=names, features=np.ones((len(names), 4), np.float32))
    data = load_folder("coco", shared_data / "coco_mini", features=tmp_path / "x.npz", strict=True)
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 50, "val": 51}
