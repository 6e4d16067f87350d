"""An index as one safetensors file that is whole or not there, and notices when it was changed."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT, VERSION = "itr_lib.search.TwoStageIndex", "2"


def write(path: str | Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors, and what JSON can say about them. Raises ``OSError`` when the file cannot be written."""
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f"{path.name}.{secrets.token_hex(4)}.making")
    text = json.dumps(about)
    try:
        header = {"format": FORMAT, "version": VERSION, "about": text, "sha256": _digest(tensors, text)}
        save_file(tensors, making, header)
        with open(making, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(making, path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        making.unlink(missing_ok=True)


def read(path: str | Path, *, check: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`write` wrote. Tensors are maps of the file; to ``check`` what they hold reads all of it once.

    Raises:
        ValueError: for a file that is not there, is damaged, holds something else, or has another version.
    """
    path = Path(path).expanduser()
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as an index, it is missing, damaged or no index: {error}") from error
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} holds no index: expected a file that TwoStageIndex.save wrote")
    if header.get("version") != VERSION:
        raise ValueError(
            f"{path} holds an index of version {header.get('version')}, expected {VERSION}: make the index again"
        )
    if check and header.get("sha256") != _digest(tensors, header.get("about", "")):
        raise ValueError(f"{path} is damaged, its content is not what was saved: make the index again")
    return tensors, json.loads(header["about"])


def _digest(tensors: dict[str, Tensor], about: str) -> str:
    """SHA-256 of everything that is read back; safetensors itself notices only a file of another length."""
    digest = hashlib.sha256(json.dumps(about).encode())
    for key in sorted(tensors):
        digest.update(f"{key} {tensors[key].dtype} {tuple(tensors[key].shape)}".encode())
        digest.update(tensors[key].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
