"""What extract_features does with a folder: pictures decoded ahead, features of their regions, shards that last."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from data_scripts.alone import LOCK, alone_in
from itr_lib.data.boxes import WHOLE
from itr_lib.data.photographs.folders import PICTURES
from itr_lib.data.photographs.given_boxes import GivenBoxes
from itr_lib.data.photographs.pictures import open_photograph
from itr_lib.data.photographs.problems import Problem, Problems, read_json
from itr_lib.data.photographs.shards import ABOUT, finish, is_set, names_in, write_shard
from itr_lib.data.unicode import composed
from itr_lib.encoders.pretrained import grid_boxes, pool_boxes
from itr_lib.files import write_whole
from itr_lib.progress import progress_bar

SHARD = 512  # pictures a shard, and at most a batch more: what a run that is killed loses
UNFINISHED = "unfinished"  # a folder in the set, with the settings and what was skipped, until all is done
SETTINGS = f"{UNFINISHED}/settings.json"
THUMBNAILS = "@eaDir"  # where the network disks of Synology keep theirs, beside the pictures


class Regions(NamedTuple):
    """A batch of pictures' regions: ``features`` (n, R, D), ``boxes`` (n, R, 4), ``mask`` (n, R), further arrays."""

    features: np.ndarray
    boxes: np.ndarray
    mask: np.ndarray
    further: dict[str, np.ndarray]


@dataclass(frozen=True)
class Extraction:
    """How features are made: ``prepare`` as the encoder has it, ``describe`` from names and prepared pictures.

    ``settings`` are what the numbers depend on, for features.json; ``given`` are boxes by file name, if any.
    """

    settings: dict[str, Any]
    prepare: Callable[[Sequence], dict[str, np.ndarray]]
    describe: Callable[[Sequence[str], dict[str, np.ndarray]], Regions]
    given: dict[str, GivenBoxes] | None = None


# --- regions ---------------------------------------------------------------------------------------------------------


def of_wholes(encode: Callable) -> Callable[..., Regions]:
    """One region a picture: the model's own vector of it."""
    return lambda names, arrays: _all_real(encode(arrays).whole[:, None].cpu().numpy(), WHOLE)


def of_grid(encode: Callable, side: int) -> Callable[..., Regions]:
    """The whole picture, then the map in ``side`` x ``side`` parts, row by row."""
    parts = grid_boxes(side)

    def describe(names: Sequence[str], arrays: dict[str, np.ndarray]) -> Regions:
        maps = encode(arrays)
        whole, cells = maps.whole.cpu().numpy(), _map_of(maps)
        if whole.shape[-1] != cells.shape[-1]:
            raise ValueError(
                f"this model has {whole.shape[-1]} numbers for the whole picture and {cells.shape[-1]} for a cell: they"
                " cannot be regions of one set, so take --regions whole"
            )
        pooled = [np.concatenate([one[None], pool_boxes(own, parts)]) for one, own in zip(whole, cells, strict=True)]
        return _all_real(np.stack(pooled), np.concatenate([WHOLE, parts]))

    return describe


def of_boxes(encode: Callable, given: dict[str, GivenBoxes]) -> Callable[..., Regions]:
    """The map over each given box; a picture without any has one region, the whole of it."""
    width = max(len(own.boxes) for own in given.values())

    def describe(names: Sequence[str], arrays: dict[str, np.ndarray]) -> Regions:
        cells = _map_of(encode(arrays))
        features = np.zeros((len(names), width, cells.shape[-1]), np.float32)
        boxes, mask = np.zeros((len(names), width, 4), np.float32), np.zeros((len(names), width), bool)
        labels = []
        for row, name in enumerate(names):
            own = given.get(name, GivenBoxes((1, 1), WHOLE, ("",)))
            count = len(own.boxes)
            features[row, :count] = pool_boxes(cells[row], own.boxes)
            boxes[row, :count], mask[row, :count] = own.boxes, True
            labels.append([*own.labels, *[""] * (width - count)])
        return Regions(features, boxes, mask, {"labels": np.array(labels)})

    return describe


def of_detector(encode: Callable) -> Callable[..., Regions]:
    """What a detector finds, best first, with its labels and scores."""

    def describe(names: Sequence[str], arrays: dict[str, np.ndarray]) -> Regions:
        features, boxes, labels, scores = encode(arrays)
        return Regions(features, boxes, np.ones(scores.shape, bool), {"labels": labels, "scores": scores})

    return describe


def _map_of(maps) -> np.ndarray:
    if maps.cells is None:
        raise ValueError("this model has no map of cells: take --regions whole")
    return maps.cells.cpu().numpy()


def _all_real(features: np.ndarray, boxes: np.ndarray) -> Regions:
    shape = features.shape[:2]
    return Regions(features, np.broadcast_to(boxes, (*shape, 4)), np.ones(shape, bool), {})


# --- pictures --------------------------------------------------------------------------------------------------------


def find_pictures(folder: Path, problems: Problems) -> list[Path]:
    """All pictures of a folder and its sub-folders, in order, but for what systems put beside them or hide."""
    if not folder.is_dir():
        raise ValueError(f"image folder {str(folder)!r} does not exist")
    paths = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES):
        parts = path.relative_to(folder).parts
        if path.name.startswith("._") or "__MACOSX" in parts:
            problems.add("file that macOS wrote beside a picture", path.name, f"{path} is no picture.")
        elif THUMBNAILS in parts or any(part.startswith(".") for part in parts):
            problems.add("hidden picture", path.name, f"{path} is hidden, a thumbnail or thrown away perhaps.")
        else:
            paths.append(path)
    if not paths:
        raise ValueError(f"{str(folder)!r} holds no picture ({', '.join(PICTURES)})")
    names = sorted(composed(path.name) for path in paths)
    if twice := [name for name, after in zip(names, names[1:], strict=False) if name == after]:
        raise ValueError(
            f"{str(folder)!r} holds {twice[0]!r} twice in its sub-folders: a set knows images by their file"
            " names, so extract each sub-folder on its own"
        )
    return paths


class Read(NamedTuple):
    """A batch as a worker hands it over: names and prepared arrays of what could be read (None: nothing), the rest."""

    names: list[str]
    arrays: dict[str, np.ndarray] | None
    problems: list[Problem]


class Batches(Dataset):
    """Batches of pictures, opened and prepared; a picture that cannot be is a problem, and not the end."""

    def __init__(self, paths: Sequence[Path], size: int, extraction: Extraction):
        self.batches = [paths[start : start + size] for start in range(0, len(paths), size)]
        self.prepare, self.given = extraction.prepare, extraction.given or {}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Read:
        problems, opened = Problems(), {}
        for path in self.batches[number]:
            try:
                opened[composed(path.name)] = self._open(path)
            except ValueError as error:
                problems.add("picture that cannot be used", composed(path.name), str(error))
        return self._prepared(opened, problems)

    def _prepared(self, opened: dict, problems: Problems) -> Read:
        try:
            return Read(list(opened), self.prepare(list(opened.values())) if opened else None, problems.found)
        except ValueError:  # a shape that a processor cannot take: which of them is it?
            for name, picture in list(opened.items()):
                try:
                    self.prepare([picture])
                except ValueError as error:
                    sentence = f"Picture {name!r} of {picture.width} x {picture.height} cannot be prepared: {error}"
                    problems.add("picture that cannot be prepared", name, sentence)
                    del opened[name]
            return Read(list(opened), self.prepare(list(opened.values())) if opened else None, problems.found)

    def _open(self, path: Path):
        picture, own = open_photograph(path), self.given.get(composed(path.name))
        if own is not None:
            across, up = picture.width / own.size[0], picture.height / own.size[1]
            if abs(across - up) > 1 / own.size[0] + 1 / own.size[1]:  # more than rounding
                raise ValueError(
                    f"Picture {path} is {picture.width} x {picture.height}, upright, and its boxes were drawn on"
                    f" {own.size[0]:g} x {own.size[1]:g}: fetch the picture they belong to."
                )
        return picture


# --- the set ---------------------------------------------------------------------------------------------------------


def extract(paths: Sequence[Path], out: Path, extraction: Extraction, skipped: Problems, workers: int) -> dict:
    """Extract into the folder ``out``, or go on there; returns what features.json says.

    A run that is killed goes on at the last shard that was whole, in the same batches, so that the bytes are the same.
    Of several processes one works in ``out`` while the others wait; they find the set there.
    """
    _expect_room(out)
    with alone_in(out):
        return _extract(paths, out, extraction, skipped, workers)


def _extract(paths: Sequence[Path], out: Path, extraction: Extraction, skipped: Problems, workers: int) -> dict:
    batch = extraction.settings["batch"]
    settings = extraction.settings | {"pictures": _fingerprint(paths)}
    if _is_done(out, settings):
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        return read_json(out / ABOUT)
    done, start = _where_it_stopped(out, paths, batch)
    todo = Batches(paths[start:], batch, extraction)
    ahead = {"num_workers": workers, "prefetch_factor": 2 if workers else None}
    begin = partial(_end_with, os.getpid())
    loader = DataLoader(todo, batch_size=None, collate_fn=_as_it_is, worker_init_fn=begin, **ahead)
    shard = _Shard(out, done)
    with progress_bar(len(paths), "features", "image", done=start) as bar:
        for read, part in zip(loader, todo.batches, strict=True):
            shard.add(read, extraction.describe)
            if len(shard.names) >= SHARD:
                shard = shard.write()
            bar.update(len(part))
    shard.write()
    records = [asdict(problem) for problem in skipped.found]
    records += [record for file in sorted((out / UNFINISHED).glob("*.skipped.json")) for record in read_json(file)]
    if names_in(out, 0) is None:
        raise ValueError(f"none of the {len(paths)} pictures can be used. The first: {records[0]['sentence']}")
    finish(out, settings | {"skipped": records})
    shutil.rmtree(out / UNFINISHED)
    return read_json(out / ABOUT)


def _as_it_is(read: Read) -> Read:
    return read


def _end_with(parent: int, worker: int) -> None:
    """In a worker: end when the parent does. Torch's own watch misses a parent that was killed before it began."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Shard:
    """The shard that is being filled."""

    def __init__(self, out: Path, number: int):
        self.out, self.number = out, number
        self.names: list[str] = []
        self.parts: list[Regions] = []
        self.problems: list[Problem] = []

    def add(self, read: Read, describe: Callable[..., Regions]) -> None:
        self.problems += read.problems
        if read.arrays is None:
            return
        regions = describe(read.names, read.arrays)
        usable = np.isfinite(regions.features).all(axis=(1, 2))
        for name in (name for name, good in zip(read.names, usable, strict=True) if not good):
            sentence = f"The model makes NaN or infinity of {name!r}: leave it out, or use --precision float32."
            self.problems.append(Problem("picture without numbers", name, sentence))
        further = {key: array[usable] for key, array in regions.further.items()}
        self.parts.append(Regions(*(array[usable] for array in regions[:3]), further))
        self.names += [name for name, good in zip(read.names, usable, strict=True) if good]

    def write(self) -> _Shard:
        """To disk, what was skipped first: whoever finds the shard finds that, too. Returns the next one."""
        try:
            write_whole(_skipped(self.out, self.number), json.dumps([asdict(problem) for problem in self.problems]))
            if self.names:
                arrays = [np.concatenate(column) for column in zip(*(part[:3] for part in self.parts), strict=True)]
                keys = self.parts[0].further
                further = {key: np.concatenate([part.further[key] for part in self.parts]) for key in keys}
                write_shard(self.out, self.number, self.names, *arrays, **further)
        except OSError as error:
            raise OSError(
                f"shard {self.number} could not be written to {self.out} ({error}): is the disk full? Make room and run"
                " the same command again, it goes on from there"
            ) from error
        return _Shard(self.out, self.number + 1)


def checksum(path: Path) -> str:
    """Stands for what a file holds."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _fingerprint(paths: Sequence[Path]) -> str:
    about = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return f"{len(paths)}, {hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]}"


def _expect_room(out: Path) -> None:
    """Raise ``ValueError`` where the folder holds what no extraction wrote."""
    begun = is_set(out) or (out / SETTINGS).is_file()
    if out.exists() and not begun and (not out.is_dir() or {path.name for path in out.iterdir()} - {UNFINISHED, LOCK}):
        raise ValueError(f"{str(out)!r} holds something else: give a new folder as --out")


def _is_done(out: Path, settings: dict) -> bool:
    """Whether the set is there already; else the folder is made ready. ``ValueError`` where it holds another."""
    notes = out / SETTINGS
    told = read_json(out / ABOUT) if is_set(out) else read_json(notes) if notes.is_file() else None
    if told is None:
        (out / UNFINISHED).mkdir(parents=True, exist_ok=True)
        write_whole(notes, json.dumps(settings))
        return False
    other = [key for key in settings if not isinstance(told, dict) or told.get(key) != settings[key]]
    if other:
        was, now = (some.get(other[0]) if isinstance(some, dict) else None for some in (told, settings))
        raise ValueError(
            f"{str(out)!r} holds another extraction, whose {other[0]} is {was!r} and not {now!r}: give another folder"
            " as --out, or remove that one"
        )
    return is_set(out)


def _where_it_stopped(out: Path, paths: Sequence[Path], batch: int) -> tuple[int, int]:
    """How many shards are whole, and the picture to go on with, at the beginning of a batch."""
    place = {composed(path.name): at for at, path in enumerate(paths)}
    done, start = 0, 0
    while names := names_in(out, done):
        skipped = [one["record"] for one in read_json(_skipped(out, done))]
        start = (max(place[name] for name in names + skipped) // batch + 1) * batch  # shards end where a batch ends
        done += 1
    return done, min(start, len(paths))


def _skipped(out: Path, number: int) -> Path:
    """Where the pictures are listed that were skipped while a shard was filled."""
    return out / UNFINISHED / f"{number:05d}.skipped.json"
