"""A feature set: a folder of shards, each some images' features, boxes, mask and names; written once, mapped later.

    features.json        written last: what these are, how many shards; without it the set is not finished
    00000.features.npy   (n, R, D) float16, or float32 where float16 has no room for the numbers
    00000.boxes.npy      (n, R, 4) float32, (x1, y1, x2, y2) divided by width and height
    00000.mask.npy       (n, R) bool, True = a real region
    00000.names.json     n file names, and the CRC-32 of each file of the shard; written last of these

Whoever is killed while he writes leaves a shard whole or absent, for a shard without its names does not count.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped

from itr_lib.data.photographs.box_units import relative_boxes
from itr_lib.data.photographs.problems import Problems, read_json
from itr_lib.data.rows import CHUNK_BYTES, Mapped, Rows, is_finite, map_npy
from itr_lib.data.unicode import composed
from itr_lib.files import whole_file, write_whole

ABOUT, FORMAT = "features.json", "itr_lib feature set 1"


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """What a folder holds, row by row; the features stay on disk."""

    about: dict
    names: tuple[str, ...]
    features: Rows
    boxes: Float[np.ndarray, "images regions 4"]
    mask: Bool[np.ndarray, "images regions"]
    labels: Shaped[np.ndarray, "images regions"] | None


def write_shard(
    folder: str | Path,
    number: int,
    names: Sequence[str],
    features: Float[np.ndarray, "images regions features"],
    boxes: Float[np.ndarray, "images regions 4"],
    mask: Bool[np.ndarray, "images regions"],
    **further: Shaped[np.ndarray, "images *_"],
) -> None:
    """Write one shard, whole or not at all; one that has this number is replaced.

    Args:
        folder: of the set; made if need be.
        number: of the shard, from 0.
        names: the pictures' file names.
        features: any floats; stored as float16, or as float32 if a number is too large for it. Zero where padded.
        boxes: divided by width and height; zero where padded.
        mask: True = a real region. Every image has one.
        further: more arrays with a row an image, such as a detector's ``scores``; ``labels`` (images, regions) are read
            with the set, what else there is can be opened with numpy.

    Raises:
        ValueError: an argument that does not fit, NaN or infinity, a box outside its picture; the image is named.
        OSError: the disk is full, or the folder cannot be written to.
    """
    names = [composed(Path(name).name) for name in names]
    _expect_fit(names, features, boxes, mask, further)
    arrays = {
        "features": _small(np.where(mask[..., None], features, 0)),
        "boxes": np.where(mask[..., None], boxes, 0).astype(np.float32).clip(0, 1),
        "mask": mask,
        **further,
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = _file(folder, number, "names.json")
    record.unlink(missing_ok=True)
    sums = {"names": zlib.crc32(json.dumps(names).encode())}
    for what, array in arrays.items():
        path = _file(folder, number, f"{what}.npy")
        with whole_file(path) as file:
            np.save(file, array, allow_pickle=False)
        sums[what] = _checksum(path)
    write_whole(record, json.dumps({"names": names, "crc32": sums}))


def names_in(folder: str | Path, number: int) -> list[str] | None:
    """The file names of one shard; None where it was never written to its end."""
    try:
        return _record(Path(folder), number)[0]
    except ValueError:
        return None


def finish(folder: str | Path, about: dict) -> None:
    """Declare a set complete: count its shards and write ``features.json``.

    ``about`` says what a user must know (``model``, ``regions``, what was skipped, ...) and must be JSON.

    Raises ``ValueError`` where a shard is missing, shards do not fit together, or an image stands in two of them.
    """
    folder = Path(folder)
    numbers = _numbers(folder)
    if not numbers or numbers != list(range(len(numbers))):
        raise ValueError(f"{folder} has the shards {numbers}: expected 0, 1, 2 and so on, at least one")
    names = [name for number in numbers for name in _record(folder, number)[0]]
    _expect_once(names, folder)
    features = Rows([map_npy(_file(folder, number, "features.npy")) for number in numbers])
    numbers = {"shards": len(numbers), "images": len(names), "dim": features.shape[2], "dtype": str(features.dtype)}
    content = json.dumps({"format": FORMAT, **about, **numbers}, indent=1, ensure_ascii=False)
    write_whole(folder / ABOUT, content)


def is_set(path: str | Path) -> bool:
    """Whether a path is the folder of a finished feature set."""
    return (Path(path) / ABOUT).is_file()


def expect_no_unfinished(folder: Path) -> None:
    """Raise ``ValueError`` for a folder of shards without the file that is written last."""
    if not is_set(folder) and _numbers(folder):
        raise ValueError(f"{folder} is a feature set that lacks {ABOUT}: let the extraction run to its end")


def reading(folder: str | Path, problems: Problems) -> FeatureSet:
    """A finished set; every byte is held against its checksum, the features a piece at a time.

    Shards that are damaged go to ``problems``, and their images are not there. Raises ``ValueError`` where the set
    as a whole cannot be used.
    """
    folder = Path(folder)
    about = _about(folder)
    shards, missing = [], set(range(about["shards"])).difference(_numbers(folder))
    if missing:
        sentence = f"{folder} lacks {len(missing)} of its {about['shards']} shards, {min(missing):05d} first: copy or"
        problems.add("shard of features missing", f"{min(missing):05d}", f"{sentence} extract them again.")
    for number in sorted(set(range(about["shards"])) - missing):
        try:
            shards.append(_open(folder, number, about["dim"]))
        except ValueError as error:
            problems.add("damaged shard of features", f"{number:05d}", str(error))
    if not shards:
        raise ValueError(f"{folder} holds no shard that can be used: {problems.found[-1]}")
    names = [name for shard in shards for name in shard[0]]
    _expect_once(names, folder)
    features = Rows([shard[1] for shard in shards])
    arrays = {part: [shard[2][part] for shard in shards if part in shard[2]] for part in ("boxes", "mask", "labels")}
    whole = {
        part: _joined(some, features.shape[1]) if len(some) == len(shards) else None for part, some in arrays.items()
    }
    return FeatureSet(about, tuple(names), features, **whole)


def _about(folder: Path) -> dict:
    about = read_json(folder / ABOUT)
    counts = [about.get(key) for key in ("shards", "images", "dim")] if isinstance(about, dict) else [None]
    if not all(isinstance(count, int) and count > 0 for count in counts) or about.get("format") != FORMAT:
        raise ValueError(f"{folder / ABOUT} does not describe a feature set ({FORMAT!r}): extract the features again")
    if about["shards"] > about["images"]:
        raise ValueError(
            f"{folder / ABOUT} counts {about['shards']} shards for {about['images']} images: it is damaged"
        )
    return about


def _open(folder: Path, number: int, dim: int) -> tuple[list[str], Mapped, dict[str, np.ndarray]]:
    """Names, features, and boxes, mask and labels (where it has them) of one shard, verified."""
    names, sums = _record(folder, number)
    for what in sums:
        path = _file(folder, number, f"{what}.npy")
        if what != "names" and _checksum(path) != sums[what]:
            raise ValueError(f"{path} is damaged (its checksum is another): extract these images again")
    features = map_npy(_file(folder, number, "features.npy"))
    small = [what for what in ("boxes", "mask", "labels") if what in sums]
    arrays = {what: np.load(_file(folder, number, f"{what}.npy"), allow_pickle=False) for what in small}
    shapes = {"features": features.shape} | {what: array.shape for what, array in arrays.items()}
    sides = (len(names), features.shape[1])
    expected = {"features": (*sides, dim), "boxes": (*sides, 4), "mask": sides, "labels": sides}
    if any(shape != expected[what] for what, shape in shapes.items()):
        raise ValueError(f"Shard {number:05d} of {folder} has arrays {shapes} for {len(names)} images of {dim} numbers")
    return names, features, arrays


def _record(folder: Path, number: int) -> tuple[list[str], dict[str, int]]:
    """The names of a shard, and its files' checksums."""
    path = _file(folder, number, "names.json")
    if not path.is_file():
        raise ValueError(f"{path} does not exist: the shard was not written to its end")
    record = read_json(path)
    names, sums = (record.get(key) for key in ("names", "crc32")) if isinstance(record, dict) else (None, None)
    whole = isinstance(sums, dict) and {"names", "features", "boxes", "mask"} <= sums.keys()
    if not whole or sums["names"] != zlib.crc32(json.dumps(names).encode()):
        raise ValueError(
            f"{path} is damaged: expected 'names' and the 'crc32' of each file; extract these images again"
        )
    return names, sums


def _expect_fit(names: list[str], features, boxes, mask, further: dict[str, np.ndarray]) -> None:
    if features.ndim != 3 or features.dtype.kind != "f" or 0 in features.shape or len(features) != len(names):
        raise ValueError(
            f"features have shape {features.shape} and type {features.dtype}: expected floats of shape"
            f" ({len(names)}, R, D), a row for each of the {len(names)} names"
        )
    if mask.shape != features.shape[:2] or mask.dtype != bool or boxes.shape != (*mask.shape, 4):
        raise ValueError(
            f"mask has shape {mask.shape} and type {mask.dtype}, boxes {boxes.shape}: expected {features.shape[:2]}"
            f" bool and {(*features.shape[:2], 4)}"
        )
    for what, array in further.items():
        if len(array) != len(names) or array.dtype.hasobject or not what.isidentifier() or what == "names":
            raise ValueError(f"{what} has shape {array.shape} and type {array.dtype}: expected a row an image, plain")
    _expect_once(names, "this shard")
    for name, own, real, corners in zip(names, features, mask, boxes, strict=True):
        if not real.any():
            raise ValueError(f"{name!r} has no region: leave the image out")
        if not is_finite(own[real]).all():
            raise ValueError(f"features of {name!r} hold NaN or infinite values: leave the image out")
        problem = relative_boxes(corners[real], (1, 1))[1]
        if problem:
            raise ValueError(f"{name!r} has {problem}")


def _expect_once(names: Sequence[str], where) -> None:
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{where} holds {name!r} {times} times: keep one row an image")


def _small(features: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        small = features.astype(np.float16)
    return small if is_finite(small).all() else features.astype(np.float32)


def _joined(arrays: list[np.ndarray], regions: int) -> np.ndarray:
    """One array of those of all shards, padded to the most regions."""
    joined = np.zeros((sum(map(len, arrays)), regions, *arrays[0].shape[2:]), np.result_type(*arrays))  # longest label
    start = 0
    for array in arrays:
        joined[start : start + len(array), : array.shape[1]] = array
        start += len(array)
    return joined


def _file(folder: Path, number: int, what: str) -> Path:
    return folder / f"{number:05d}.{what}"


def _numbers(folder: Path) -> list[int]:
    stems = [path.name.split(".")[0] for path in folder.glob("*.names.json")]
    return sorted(int(stem) for stem in stems if stem.isdecimal() and len(stem) == 5)


def _checksum(path: Path) -> int:
    total = 0
    try:
        with open(path, "rb") as file:
            while block := file.read(CHUNK_BYTES):
                total = zlib.crc32(block, total)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): copy it again") from error
    return total
