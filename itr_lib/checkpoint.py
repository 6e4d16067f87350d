"""A run on disk: written whole or not at all, and read again only by the run that wrote it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import is_dataclass
from inspect import isfunction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from filelock import FileLock
from torch import Tensor, nn

from itr_lib.data.dataset import RetrievalData
from itr_lib.data.rows import chunks
from itr_lib.data.tokenisation import TokenisedCaptions
from itr_lib.files import whole_file
from itr_lib.parallel import rank, wait_for_all, world

FORMAT = "checkpoint 3"  # 2 kept the generators of one process; it is refused as another run's


@contextmanager
def checkpoint_path(folder: str | Path | None) -> Iterator[Path | None]:
    """Where a run's checkpoint goes, in a folder that one run has for itself: a second one waits for the first."""
    if folder is None:
        yield None
        return
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock") if rank() == 0 else nullcontext():  # the first process locks it for all of a run's
        wait_for_all()
        yield folder / "training.pt"


def save_checkpoint(path: Path, label: str, state: dict) -> None:
    """Write ``state`` under the run's ``label``; of several processes the first does.

    Whenever it dies, ``path`` is the old one or the new one.
    """
    if rank() > 0:
        return
    with whole_file(path) as file:
        torch.save({"label": label, **state}, file)


def load_checkpoint(path: Path, label: str) -> dict:
    """What :func:`save_checkpoint` wrote, on the CPU.

    Raises:
        ValueError: when the file is damaged, or another run's: its label is not ``label``.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        there = state["label"]
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(f"{path} is no readable checkpoint ({error}); delete it to start again") from error
    if there != label:
        raise ValueError(
            f"{path} was written by another run:\n  there: {there}\n  here:  {label}\n"
            "Give another folder, or delete that file to start again."
        )
    return state


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of the generators that a run on ``device`` draws from: the CPU's always, and of GPUs its own alone."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Let the generators go on from where :func:`random_state` found them."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    if device.type == "mps":
        torch.mps.set_rng_state(state["mps"])


def fingerprint(
    model: nn.Module,
    objective: Any,
    config: object,
    splits: tuple[RetrievalData, ...],
    tokens: TokenisedCaptions,
    device: str,
) -> str:
    """Everything that decides how a run ends, in a line that can be compared and read. It reads all the data.

    Raises:
        ValueError: for an objective that is neither a dataclass nor a function, whose settings nobody can see.
    """
    weights = _checksum([value.detach().cpu().double().numpy() for value in model.state_dict().values()])
    parts = [FORMAT, f"{type(model).__name__} #{weights}", getattr(model, "config", ""), _how(objective), config]
    backbone = getattr(model, "backbone", None)
    parts += [] if backbone is None else [backbone.config]
    parts += [f"{split.name}/{split.split} {len(split)} images #{_checksum(_contents(split))}" for split in splits]
    parts += [f"tokens #{_checksum([tokens.ids, tokens.mask])}", f"{world()} x {device}"]
    parts += [f"torch {torch.__version__}", f"transformers {transformers.__version__}"]
    return ", ".join(map(str, parts))


def _how(objective: object) -> str:
    """A dataclass with its settings, a function by its name."""
    if is_dataclass(objective):
        return str(objective)
    if not isfunction(objective):
        raise ValueError(
            f"objective is a {type(objective).__name__}, expected a dataclass or a function: a run with a folder"
            " goes on only with the loss that it began with, and must see its settings"
        )
    return f"{objective.__module__}.{objective.__qualname__}"


def _contents(split: RetrievalData) -> Iterator[str | np.ndarray]:
    yield repr(split.captions)
    yield from chunks(split.features)
    arrays = [split.boxes, split.region_mask, split.image_of_caption, split.guides]
    yield from (array for array in arrays if array is not None)


def _checksum(parts: Iterable[str | np.ndarray]) -> str:
    total = 0
    for part in parts:
        total = zlib.crc32(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data, total)
    return f"{total:08x}"
