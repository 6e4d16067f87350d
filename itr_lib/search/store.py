"""Arrays on disk that grow at their end and are read through memory maps.

What counts is what ``state.json`` says. It is replaced in one step after the arrays were written,
and what a killed program had begun behind that is cut away when the folder is opened again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = "itr_lib.search.store/1"


class Store:
    """A folder with a file an array, and one of names.

    Args:
        folder: where; made where it is not there.
        about: what JSON can say about how it is used; a folder made for something else is refused.

    Raises:
        ValueError: for a folder that holds something else, or less than its ``state.json`` says.
        OSError: when it cannot be read or made.
    """

    def __init__(self, folder: str | Path, about: dict[str, Any]):
        self.folder = Path(folder).expanduser()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "state.json"
        if path.exists():
            self.state = self._read(path, about)
        elif any(self.folder.iterdir()):
            raise ValueError(f"{self.folder} holds files but no index: expected an empty folder, or one of an index")
        else:
            self.state = {"format": FORMAT, "about": about, "names": 0, "arrays": {}}
        lines = self._whole_part("names", self.state["names"])
        self.names: list[str] = [json.loads(line) for line in lines.splitlines()]
        self._maps: dict[str, Tensor] = {}

    @property
    def widths(self) -> dict[str, int]:
        """Numbers a row of each array."""
        return {key: array["width"] for key, array in self.state["arrays"].items()}

    @property
    def bytes(self) -> int:
        """Of all arrays; names are not counted."""
        return sum(array["bytes"] for array in self.state["arrays"].values())

    def append(self, names: list[str], arrays: dict[str, Tensor]) -> None:
        """Add rows to the arrays, all or none of them; in every call the same arrays, widths and kinds."""
        text = "".join(json.dumps(name) + "\n" for name in names).encode()
        state = self.state | {"names": self._write("names", text), "arrays": dict(self.state["arrays"])}
        for key, rows in arrays.items():
            kind, width = str(rows.dtype).removeprefix("torch."), rows.shape[1] if rows.ndim > 1 else 1
            size = self._write(key, rows.contiguous().view(torch.uint8).numpy().tobytes())
            state["arrays"][key] = {"kind": kind, "width": width, "bytes": size}
        making = self.folder / "state.making"
        with open(making, "w") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(making, self.folder / "state.json")
        self.state, self._maps = state, {}
        self.names += names

    def array(self, key: str) -> Tensor:
        """All rows, (rows, width), or (rows,) where a row is one number: a map of the file, not to be written into."""
        if key not in self._maps:
            about = self.state["arrays"][key]
            kind = getattr(torch, about["kind"])
            count = about["bytes"] // kind.itemsize
            flat = (
                torch.from_file(str(self.folder / key), size=count, dtype=kind) if count else torch.empty(0, dtype=kind)
            )
            self._maps[key] = (
                flat.view(-1, about["width"]) if about["width"] > 1 or key in ("whole", "tokens") else flat
            )
        return self._maps[key]

    def _write(self, key: str, content: bytes) -> int:
        """The size of the file's part that counts, once this has been added behind it."""
        before = self.state["names"] if key == "names" else self.state["arrays"].get(key, {"bytes": 0})["bytes"]
        with open(self.folder / key, "r+b" if (self.folder / key).exists() else "w+b") as file:
            file.truncate(before)  # what an earlier call could not finish
            file.seek(before)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return before + len(content)

    def _read(self, path: Path, about: dict[str, Any]) -> dict[str, Any]:
        try:
            state = json.loads(path.read_text())
            found = state["about"] if state["format"] == FORMAT else None
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} cannot be read as that of an index, it is damaged or something else") from error
        if found != about:
            raise ValueError(f"{self.folder} holds an index with {found}, expected {about}: make the index again")
        for key, array in state["arrays"].items():
            self._whole_part(key, array["bytes"], read=False)
        return state

    def _whole_part(self, key: str, size: int, read: bool = True) -> bytes:
        """The part of a file that counts. Raises ``ValueError`` where the file is shorter."""
        path = self.folder / key
        there = path.stat().st_size if path.exists() else 0
        if there < size:
            raise ValueError(f"{path} has {there:,} bytes, expected {size:,}: it is damaged, make the index again")
        if not read or not size:
            return b""
        with open(path, "rb") as file:
            return file.read(size)
