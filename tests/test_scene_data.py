"""The embedded data set: the same whenever it is made, whole or absent, equal after reading back."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from itr_lib.data.cache import MANIFEST, cache_folder
from itr_lib.data.scenes import make as scene_data
from itr_lib.data.scenes.detector import Recipe
from itr_lib.data.scenes.make import Profile, load_scenes
from itr_lib.data.scenes.store import load_values, save_values
from itr_lib.data.scenes.worker import Job, draw, draw_in_processes

REPOSITORY = Path(__file__).resolve().parent.parent
SMALL = {"PROFILES": {"tiny": Profile(60, 10, 12, pairs=5)}, "Recipe": lambda: Recipe(20, 10, 1)}
SCRIPT = """
from itr_lib.data.scenes import make
from itr_lib.data.scenes.detector import Recipe
make.PROFILES = {"tiny": make.Profile(60, 10, 12, pairs=5)}
make.Recipe = lambda: Recipe(20, 10, 1)
make.load_scenes("tiny", 0, progress=False)
print("done")
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A tiny data set in a cache of its own, and that cache's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITR_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name, value in SMALL.items():
            patch.setattr(scene_data, name, value)
        yield load_scenes("tiny", 0, progress=False), cache_folder()


def manifests(folder):
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob(f"*/{MANIFEST}")}


def test_what_is_in_it(small):
    splits, folder = small
    sizes = {name: len(getattr(splits, name)) for name in ("train", "val", "test", "swaps", "replaces")}
    assert sizes == {"train": 60, "val": 10, "test": 12, "swaps": 10, "replaces": 10}
    train = splits.train
    assert train.features.shape == (60, 36, 128) and train.features.dtype == np.float16
    assert set(train.captions_per_image) == {5} and 20 <= train.region_mask.sum(1).min() < 36
    assert (train.truth.region_object[~train.region_mask] == -1).all()
    assert [caption.text for caption in train.truth.captions] == list(train.captions)
    assert set(splits.detector) == {"shape", "colour", "texture", "background"}
    assert train.picture(3).size == (336, 336)
    assert len(manifests(folder)) == 2


def test_twins_share_their_boxes(small):
    swaps = small[0].swaps
    assert swaps.image_of_caption.tolist() == list(range(10))
    assert np.array_equal(swaps.boxes[::2], swaps.boxes[1::2])
    assert np.array_equal(swaps.truth.region_object[::2], swaps.truth.region_object[1::2])
    assert all(a != b for a, b in zip(swaps.captions[::2], swaps.captions[1::2], strict=True))


def test_reading_back_gives_equal_scenes(small):
    """From the files, and as made now: the same objects."""
    train = small[0].train
    fresh = draw(Job("train", 0, 0, 60))
    assert list(train.truth.scenes) == fresh.scenes
    assert train.truth.captions == tuple(caption for some in fresh.captions for caption in some)
    assert np.array_equal(train.boxes, fresh.boxes)


def test_store_keeps_types(tmp_path):
    values = [(1, 1.0, True, None, "1", (0.1, ())), (1.0,), (1,)]
    save_values(tmp_path / "x.json", values)
    assert repr(load_values(tmp_path / "x.json")) == repr(values)
    with pytest.raises(TypeError, match="cannot store a float64"):
        save_values(tmp_path / "x.json", [np.float64(1)])


def test_chunks_and_processes_make_no_difference():
    parts = list(draw_in_processes("swaps", 5, 60, processes=2))
    alone = draw(Job("swaps", 5, 0, 60))
    assert [scene for part in parts for scene in part.scenes] == alone.scenes
    assert np.array_equal(np.concatenate([part.pictures for part in parts]), alone.pictures)


def test_workers_end_with_their_caller():
    rows = draw_in_processes("val", 0, 200, processes=2)
    next(rows)
    rows.close()  # a caller that stops early leaves no process behind


def test_other_seed_other_scenes():
    assert draw(Job("val", 0, 0, 2)).scenes != draw(Job("val", 1, 0, 2)).scenes
    assert draw(Job("val", 0, 0, 2)).scenes != draw(Job("test", 0, 0, 2)).scenes


@pytest.mark.parametrize(
    ("arguments", "words"), [(("huge",), "profile is 'huge', expected one of"), (("tiny", -1), "seed is -1")]
)
def test_bad_arguments(small, arguments, words):
    with pytest.raises(ValueError, match=words):
        load_scenes(*arguments)


def run_script(folder, cache):
    """A plain script without an ``if __name__`` guard."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "ITR_CACHE": str(cache), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
def test_two_scripts_at_once_and_the_same_bytes(small, tmp_path):
    """Several seconds: two fresh processes make the data, as two notebooks started together would."""
    processes = [run_script(tmp_path, tmp_path / "cache") for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in processes] == ["done\n", "done\n"]
    assert manifests(tmp_path / "cache") == manifests(small[1])


@pytest.mark.slow
def test_killed_at_any_moment(small, tmp_path):
    """Several seconds: SIGKILL at random moments of making the data; the next start ends with the same bytes."""
    cache, rng = tmp_path / "cache", random.Random(0)
    for _ in range(3):
        process = run_script(tmp_path, cache)
        time.sleep(rng.uniform(1.5, 5.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert run_script(tmp_path, cache).communicate(timeout=120)[0] == "done\n"
    assert manifests(cache) == manifests(small[1])
    assert not list(cache.glob("*.making"))
    shutil.rmtree(cache)
