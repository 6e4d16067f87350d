"""The embedded data set: scenes with captions, region features and all that is known about them.

Made once from a seed, kept in the user's cache folder (:mod:`itr_lib.data.cache`), the same to the byte whenever
it is made again on the same machine. Pictures are not stored: they are drawn when looked at.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from itr_lib.data.cache import cached_folder
from itr_lib.data.dataset import RetrievalData, SceneTruth
from itr_lib.data.scenes import Scene
from itr_lib.data.scenes.detector import (
    Detector,
    Recipe,
    accuracies,
    crop,
    extract,
    labels,
    reproducible,
    train_detector,
)
from itr_lib.data.scenes.rendering import render
from itr_lib.data.scenes.store import load_values, save_values
from itr_lib.data.scenes.worker import draw_in_processes
from itr_lib.progress import progress_bar

LOOK_SIZE = 336  # pixels of a picture that is looked at
PROBES = ("swaps", "replaces")
SOURCES = ("world", "lexicon", "grammar", "meaning", "twins", "rendering", "shapes", "grounds", "regions", "../boxes",
           "worker", "detector", "store", "make")  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """How many images each split has; probes in pairs."""

    train: int
    val: int
    test: int
    pairs: int  # of each kind of twins

    def images(self) -> dict[str, int]:
        """Number of images by split."""
        return {"train": self.train, "val": self.val, "test": self.test, **dict.fromkeys(PROBES, 2 * self.pairs)}


PROFILES = {
    "smoke": Profile(320, 64, 128, pairs=32),
    "quick": Profile(4000, 500, 1000, pairs=250),
    "full": Profile(30000, 1000, 5000, pairs=1000),
}


@dataclass(frozen=True)
class SceneSplits:
    """All splits, the twins (images 2k and 2k + 1 are a pair, one caption each), and the detector's accuracy.

    ``detector``: the share of boxes of pictures it was not trained on that it names rightly: ``shape``,
    ``colour`` and ``texture`` of boxes that show an object, ``background`` of those that show none.
    """

    train: RetrievalData
    val: RetrievalData
    test: RetrievalData
    swaps: RetrievalData
    replaces: RetrievalData
    detector: dict[str, float]


def load_scenes(profile: str = "quick", seed: int = 0, *, progress: bool = True) -> SceneSplits:
    """The scenes of a profile ("smoke", "quick" or "full"), from the cache or made now (quick: under a minute).

    A larger profile begins with the images of a smaller one, and all share the detector of their seed.
    Raises ``ValueError`` for an unknown profile or a negative seed, ``OSError`` where the cache cannot be written.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile is {profile!r}, expected one of {list(PROFILES)}")
    if seed != int(seed) or seed < 0:
        raise ValueError(f"seed is {seed!r}, expected a whole number of at least 0")
    seed = int(seed)
    folder = cached_folder(*_recipe_of_scenes(profile, seed, progress))
    measured = json.loads((detector_folder(seed, progress) / "accuracies.json").read_text())
    return SceneSplits(**{split: _load(folder, split) for split in PROFILES[profile].images()}, detector=measured)


def detector_folder(seed: int = 0, progress: bool = True) -> Path:
    """The folder with the trained detector of a seed (``weights.safetensors``, ``accuracies.json``)."""
    recipe = Recipe()
    key = f"detector-{seed}-{digest(repr(recipe))}"
    return cached_folder(key, functools.partial(_make_detector, seed=seed, recipe=recipe, progress=progress))


def _recipe_of_scenes(profile: str, seed: int, progress: bool):
    """Key and maker of a profile's folder."""
    sizes = PROFILES[profile]
    key = f"scenes-{profile}-{seed}-{digest(repr(sizes), repr(Recipe()))}"
    return key, functools.partial(_make_scenes, sizes=sizes, seed=seed, progress=progress)


def digest(*settings: str) -> str:
    """Stands for all that determines the bytes besides the seed: settings, our source, the libraries' versions."""
    here = Path(__file__).parent
    parts = [*settings, torch.__version__, np.__version__, PIL.__version__]
    parts += [(here / f"{name}.py").read_text(encoding="utf-8") for name in SOURCES]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _make_detector(path: Path, seed: int, recipe: Recipe, progress: bool) -> None:
    """Draw its own pictures, train, measure on others, save."""
    with progress_bar(3, "detector", "step", show=progress) as bar:
        sets = []
        for stream, count in [("detector", recipe.pictures), ("detector-test", recipe.test_pictures)]:
            sets.append(_crops_and_labels(stream, seed, count))
            bar.update()
        net = train_detector(*sets[0], seed, recipe)
        bar.update()
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path / "weights.safetensors")
    (path / "accuracies.json").write_text(json.dumps(accuracies(net, *sets[1]), indent=1))


def _crops_and_labels(stream: str, seed: int, count: int):
    crops, targets = [], []
    for drawn in draw_in_processes(stream, seed, count):
        with reproducible():
            crops.append(crop(drawn.pictures, drawn.boxes, drawn.mask))
        targets.append(labels(drawn.scenes, drawn.shown, drawn.mask))
    return torch.cat(crops), {head: torch.cat([target[head] for target in targets]) for head in targets[0]}


def _make_scenes(path: Path, sizes: Profile, seed: int, progress: bool) -> None:
    """Fill a folder with the arrays and the scenes of every split."""
    net = Detector()
    net.load_state_dict(load_file(detector_folder(seed, progress) / "weights.safetensors"))
    net = net.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    counts = sizes.images()
    with progress_bar(sum(counts.values()), "scenes", "image", show=progress) as bar:
        for split, count in counts.items():
            scenes, captions, arrays = [], [], []
            for drawn in draw_in_processes(split, seed, count):
                features = extract(net, drawn.pictures, drawn.boxes, drawn.mask)
                arrays.append((features, drawn.boxes, drawn.mask, drawn.shown))
                scenes += drawn.scenes
                captions += drawn.captions
                bar.update(len(drawn.scenes))
            save_values(path / f"{split}.json", zip(scenes, captions, strict=True))
            for name, parts in zip(("features", "boxes", "mask", "shown"), zip(*arrays, strict=True), strict=True):
                np.save(path / f"{split}_{name}.npy", np.concatenate(parts))


def _load(folder: Path, split: str) -> RetrievalData:
    """One split from its files."""
    scenes, captions = zip(*load_values(folder / f"{split}.json"), strict=True)
    read = {
        name: np.load(folder / f"{split}_{name}.npy", allow_pickle=False)
        for name in ("features", "boxes", "mask", "shown")
    }
    flat = tuple(caption for some in captions for caption in some)
    return RetrievalData(
        name="scenes",
        split=split,
        image_ids=tuple(f"{split}-{number:05d}" for number in range(len(scenes))),
        captions=tuple(caption.text for caption in flat),
        image_of_caption=np.repeat(np.arange(len(scenes)), [len(some) for some in captions]),
        features=read["features"],
        boxes=read["boxes"],
        region_mask=read["mask"],
        open_picture=functools.partial(_look, scenes),
        truth=SceneTruth(scenes, flat, read["shown"]),
    )


def _look(scenes: tuple[Scene, ...], row: int) -> Image.Image:
    """The picture of one scene, larger than the detector sees it."""
    return Image.fromarray(render(scenes[row], LOOK_SIZE))
