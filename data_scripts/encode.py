"""Encode a collection of pictures that need not fit into memory, part by part, and make an index of it.

    python -m data_scripts.encode --pictures FOLDER --run RUN --out ENCODED --index images.index
    python -m data_scripts.encode --pictures shards/*.tar --model openai/clip-vit-base-patch32 --out ENCODED
    python -m data_scripts.encode --pictures paths.parquet --model openai/clip-vit-base-patch32 --out ENCODED --ray 4

A part is a tar file, as WebDataset and img2dataset pack them, or 512 pictures of a folder or of a list; it becomes
one file in ``--out``. A list is a parquet file with a column ``path``, relative to the file or not, and ``id`` where
the paths are not to be the pictures' names. The same command may run in any number of processes, also on machines
that share the disk: each takes the next part that nobody has. ``--ray`` starts so many on a Ray cluster, or here.
Whoever is killed loses a part at most, which the next call makes anew; nothing is lost or doubled. ``--run`` is a run
of ``data_scripts.train --pictures``, whose model looks at pictures; ``--model`` is an image encoder, of which the
vector of the whole picture is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np
import torch
from PIL.Image import Image
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from data_scripts.extraction import PICTURES, find_pictures
from itr_lib.data.archives import unpack
from itr_lib.data.batches import ImageBatch
from itr_lib.data.boxes import WHOLE
from itr_lib.data.photographs.pictures import open_photograph
from itr_lib.data.photographs.problems import Problems, by_cause
from itr_lib.data.pixels import Squashed
from itr_lib.data.scenes.worker import usable_cores
from itr_lib.data.unicode import composed
from itr_lib.encoders.pretrained import PRECISIONS, faster_precision, load_image_encoder
from itr_lib.encoders.tokens import Encoded, GlobalTokens, Tokens
from itr_lib.files import whole_file, write_whole
from itr_lib.lessons.machine import choose_device
from itr_lib.models import load_model
from itr_lib.search import TwoStageIndex
from itr_lib.similarity import l2_normalise
from itr_lib.transfer import upload

PART = 512  # pictures of a folder
SETTINGS = "settings.json"
NO_COMPILER = "--compile asks for a C++ compiler that works, such as g++: install one, or leave --compile out"
Encode = Callable[[list[Image]], Encoded]


class Part(NamedTuple):
    """Pictures that become one file: those of ``tar``, or ``paths``, with the names of their files or with ``ids``."""

    number: int
    tar: Path | None
    paths: tuple[Path, ...] = ()
    ids: tuple[str, ...] = ()

    def file(self, out: Path) -> Path:
        """What it becomes."""
        return out / f"{self.number:06d}.safetensors"


# --- what there is to do ---------------------------------------------------------------------------------------------


def parts_of(sources: Sequence[Path], problems: Problems) -> list[Part]:
    """The parts of folders, tar files and lists, in order. Raises ``ValueError`` for what is none of them."""
    found: list[Part] = []
    for source in sources:
        if tars := tars_of(source):
            found += [Part(len(found) + place, tar) for place, tar in enumerate(tars)]
            continue
        if source.is_dir():
            paths, ids = find_pictures(source, problems), []
        elif source.suffix == ".parquet" and source.is_file():
            paths, ids = listed(source)
        else:
            raise ValueError(f"--pictures {source} is neither a folder nor a .tar or .parquet file")
        for at in range(0, len(paths), PART):
            found.append(Part(len(found), None, tuple(paths[at : at + PART]), tuple(ids[at : at + PART])))
    return found


def tars_of(source: Path) -> list[Path]:
    """A tar file, or those of a folder that holds no picture beside them, as img2dataset leaves one."""
    if source.is_dir():
        tars = sorted(source.glob("*.tar"))
        return [] if tars and any(path.suffix.lower() in PICTURES for path in source.rglob("*")) else tars
    return [source] if source.suffix == ".tar" and source.is_file() else []


def listed(table: Path) -> tuple[list[Path], list[str]]:
    """Paths and names of a list. Raises ``ValueError`` for one that cannot be read, has gaps, or has a name twice."""
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ValueError(
            f"{table}: parquet asks for pyarrow: pip install -c constraints.txt -e '.[collections]'"
        ) from error
    try:
        columns = parquet.read_schema(table).names
        named = [name for name in ("path", "id") if name in columns]
        rows = parquet.read_table(table, columns=named).to_pydict()
    except (OSError, ValueError) as error:  # pyarrow's own errors are one or the other
        raise ValueError(f"{table} is no parquet file that can be read: {error}") from error
    if "path" not in rows:
        raise ValueError(f"{table} has the columns {', '.join(columns)}, expected one named path")
    paths = rows["path"]
    ids = rows.get("id", paths)
    if any(one is None or one == "" for one in (*paths, *ids)):
        raise ValueError(f"{table} has rows without a path or an id")
    if not all(isinstance(path, str) for path in paths):
        raise ValueError(f"{table} has a {type(paths[0]).__name__} in its column path, expected text")
    ids = [composed(str(one)) for one in ids]
    if twice := [name for name, count in Counter(ids).items() if count > 1]:
        raise ValueError(f"{table} has {twice[0]!r} twice: an index knows pictures by their ids")
    return [table.parent / path for path in paths], ids


def settings_of(name: str, precision: str, parts: Sequence[Part]) -> dict[str, str | int]:
    """What the numbers depend on: the encoder, and every file's name, size and time (a list may name what is gone)."""
    files = [path for part in parts for path in ([part.tar] if part.tar else part.paths)]
    states = [path.stat() if path.exists() else None for path in files]
    about: list = [(path.name, s and s.st_size, s and s.st_mtime_ns) for path, s in zip(files, states, strict=True)]
    about += [name for part in parts for name in part.ids]
    files_known = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]
    return {"encoder": name, "precision": precision, "parts": len(parts), "files": files_known}


def claim(out: Path, settings: dict[str, str | int]) -> None:
    """Make the folder these parts', or see that it is. Raises ``ValueError`` where it holds something else."""
    out.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(out / ".lock"):
        notes = out / SETTINGS
        if not notes.exists():
            if others := {path.name for path in out.iterdir()} - {".lock", f"{SETTINGS}.partial"}:
                raise ValueError(f"--out {out} holds something else, such as {min(others)!r}: give a new folder")
            write_whole(notes, json.dumps(settings))
        known = json.loads(notes.read_text(encoding="utf-8"))
    if different := [key for key in settings if known.get(key) != settings[key]]:
        key = different[0]
        raise ValueError(f"--out {out} is of other {key}, {known.get(key)!r} and not {settings[key]!r}: give another")


# --- encoders --------------------------------------------------------------------------------------------------------


def of_run(run: Path, device: str, precision: str, compiled: bool) -> tuple[Encode, TwoStageIndex]:
    """The image side of a trained model, and an empty index that ranks as it does. Raises ``ValueError``.

    What looks at pictures may take bfloat16 and be compiled; what makes vectors of that is small, and stays as it is.
    """
    model = load_model(run).to(device)
    index, look = TwoStageIndex.for_model(model, "images"), getattr(model, "backbone", None)
    if look is None:
        raise ValueError(f"--run {run} looks at features of regions: expected one of data_scripts.train --pictures")
    if compiled:
        look.network.compile()

    def encode(pictures: list[Image]) -> Encoded:
        count = len(pictures)
        pixels = Squashed(pictures.__getitem__, count, look.network.size, look.network.resample)
        features = upload(torch.from_numpy(pixels[np.arange(count), slice(None)]), device).float()
        boxes = torch.from_numpy(WHOLE).to(device).expand(count, -1, -1)
        mask = torch.ones(count, 1, dtype=torch.bool, device=device)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            regions = look(ImageBatch(features, boxes, mask))
        return model.encode_images(regions)

    return encode, index


def of_encoder(name: str, device: str, precision: str, compiled: bool) -> tuple[Encode, TwoStageIndex]:
    """An image encoder's vector of the whole picture, at length 1; and an index of vectors."""
    encoder = load_image_encoder(name, device, crop=True, precision=precision, compiled=compiled)
    return lambda pictures: l2_normalise(encoder(pictures).whole), TwoStageIndex("images")


def encoder_alone(make: Callable, name: str | Path, *how: str | bool) -> Encode:
    """The encoder without an index, for a process of its own."""
    return make(name, *how)[0]


# --- part by part ----------------------------------------------------------------------------------------------------


def work(parts: Sequence[Part], out: Path, encode: Encode, batch: int) -> None:
    """Encode the parts that nobody has encoded, and that nobody is at work on."""
    for part in parts:
        if part.file(out).exists():
            continue
        with contextlib.suppress(filelock.Timeout), filelock.FileLock(out / f"{part.number:06d}.lock", timeout=0):
            if not part.file(out).exists():
                write(part, out, encode, batch)


@torch.inference_mode()
def write(part: Part, out: Path, encode: Encode, batch: int) -> None:
    """Encode one part; its file is whole or not there."""
    ids, encoded, problems = [], [], Problems()
    with files_of(part, problems) as paths, ThreadPoolExecutor(usable_cores()) as threads:
        names = part.ids or [composed(path.name) for path in paths]
        for start in range(0, len(paths), batch):
            some = names[start : start + batch]
            tried = zip(some, threads.map(opened_or_why_not, paths[start : start + batch]), strict=True)
            opened = []
            for name, one in tried:  # in order, whoever was first to open
                if isinstance(one, str):
                    problems.add("picture that cannot be used", name, one)
                else:
                    opened.append((name, one))
            if opened:
                ids += [name for name, _ in opened]
                encoded.append(encode([picture for _, picture in opened]))
    about = json.dumps({"ids": ids, "skipped": [problem.sentence for problem in problems.found]})
    with whole_file(part.file(out)) as file:
        file.write(save(joined(encoded), {"about": about}))  # one entry: safetensors writes several in any order
    print(f"{part.file(out).name}: {len(ids)} pictures", *by_cause(problems.found), sep="\n  ", flush=True)


@contextlib.contextmanager
def files_of(part: Part, problems: Problems) -> Iterator[Sequence[Path]]:
    """The pictures of a part on disk; a tar is unpacked for as long as it takes."""
    if part.tar is None:
        yield part.paths
        return
    with tempfile.TemporaryDirectory() as folder:
        unpack(part.tar, folder, "*", show=False)
        yield find_pictures(Path(folder), problems)


def opened_or_why_not(path: Path) -> Image | str:
    """The picture, or what is wrong with it."""
    try:
        return open_photograph(path)
    except ValueError as error:
        return str(error)


def joined(encoded: Sequence[Encoded]) -> dict[str, Tensor]:
    """Batches one after the other, by the name of what they are, on the CPU. A picture has as many tokens as any."""
    named = [{"whole": one} if isinstance(one, Tensor) else one._asdict() for one in encoded]
    return {key: torch.cat([one[key] for one in named]).cpu().contiguous() for key in (named[0] if named else ())}


# --- on a cluster ----------------------------------------------------------------------------------------------------


class Worker:
    """One process of Ray Data's: it loads the encoder once, and encodes the parts that it is handed."""

    def __init__(self, make: Callable[[], Encode], out: Path, batch: int):
        self.encode, self.out, self.batch = make(), out, batch

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same rows: what is encoded lies in files."""
        work(rows["part"].tolist(), self.out, self.encode, self.batch)
        return {"number": rows["number"]}


def work_on_ray(parts: Sequence[Part], out: Path, make: Callable[[], Encode], batch: int, processes: int) -> None:
    """What :func:`work` does, in so many processes of Ray Data's. Raises ``ValueError`` where Ray is not installed."""
    try:
        ray, ray_data = importlib.import_module("ray"), importlib.import_module("ray.data")
    except ImportError as error:
        raise ValueError("--ray asks for Ray: pip install -c constraints.txt -e '.[collections]'") from error
    left = [{"number": part.number, "part": part} for part in parts if not part.file(out).exists()]
    if not left:
        return
    ray.init(ignore_reinit_error=True, include_dashboard=False, log_to_driver=False)
    rows = ray_data.from_items(left, override_num_blocks=len(left))
    made = {"fn_constructor_args": (make, out, batch), "batch_size": 1, "concurrency": processes}
    try:
        rows.map_batches(Worker, **made).materialize()
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"a process of Ray's stopped: {str(error).strip().splitlines()[-1]}") from error


def encoded_in(out: Path) -> Iterator[tuple[list[str], Encoded]]:
    """What lies in a folder, part by part: the pictures' names, and what their encoder returned."""
    for path in sorted(out.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            ids = json.loads(file.metadata()["about"])["ids"]
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if ids:
            kind = GlobalTokens if len(found) == 3 else Tokens if "vectors" in found else None
            yield ids, kind(**found) if kind else found["whole"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Encode what is left to be encoded, and make the index where all of it is."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.encode", description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="folders, .tar and .parquet files")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", type=Path, help="a trained model that looks at pictures")
    which.add_argument("--model", help="an image encoder: name or folder")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the encoded parts")
    parser.add_argument("--index", type=Path, help="an index file to write when all parts are there")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--ray", type=int, metavar="PROCESSES", help="encode in so many processes of Ray Data's")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--precision", default="auto", choices=("auto", *PRECISIONS), help="auto: the faster one here")
    parser.add_argument("--compile", action="store_true", help="torch.compile: a minute first, then faster")
    options = parser.parse_args(arguments)
    for name in ("batch_size", "ray"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    out, problems = options.out.expanduser(), Problems()
    try:
        device = choose_device(options.device)
        parts = parts_of([path.expanduser().resolve() for path in options.pictures], problems)
        chosen = (of_run, options.run) if options.run else (of_encoder, options.model)
        precision = faster_precision(device) if options.precision == "auto" else options.precision
        how = device, precision, options.compile
        encode, index = chosen[0](chosen[1], *how)
        claim(out, settings_of(str(chosen[1]), precision, parts))
        if options.ray:
            there = Path(chosen[1]).exists()  # Ray's processes stand elsewhere
            where = Path(chosen[1]).resolve() if there else chosen[1]
            make = partial(encoder_alone, chosen[0], where, *how)
            work_on_ray(parts, out.resolve(), make, options.batch_size, options.ray)
        else:
            work(parts, out, encode, options.batch_size)
        left = sum(not part.file(out).exists() for part in parts)
        print("\n".join([*by_cause(problems.found), f"{len(parts) - left} of {len(parts)} parts are encoded in {out}"]))
        if left:
            print(f"others are at work on {left}: run the same command again when they are done")
        elif options.index:
            for ids, encoded in encoded_in(out):
                index.add(ids, encoded)
            index.save(options.index)
            print(f"{options.index}: {len(index):,} pictures, {index.bytes_per_item:,.0f} bytes each")
    except (OSError, ValueError, RuntimeError) as error:  # the last: no memory left
        no_compiler = options.compile and "C++ compiler" in str(error)
        print(f"encode: {NO_COMPILER if no_compiler else error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
