"""The list of what can be fetched, and from where: sources.toml, whose head says what each field means."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

LIST = Path(__file__).with_name("sources.toml")


@dataclass(frozen=True)
class Part:
    """One file of a data set; the fields are those of the list."""

    name: str
    file: str
    gives: str
    wanted: str = ""
    urls: tuple[str, ...] = ()
    size: int | None = None
    about: int | None = None
    digest: str = ""
    also: tuple[str, ...] = ()
    account: tuple[str, ...] = ()

    @property
    def is_folder(self) -> bool:
        """Pictures become a folder, captions a file."""
        return bool(self.wanted)

    @property
    def bytes(self) -> int:
        """How much there is to fetch, as far as the list knows."""
        return self.size or self.about or 0


@dataclass(frozen=True)
class Source:
    """One data set of the list."""

    name: str
    title: str
    licence: str
    parts: tuple[Part, ...]
    terms: tuple[str, ...] = ()
    cite: str = ""


def read_sources(path: Path = LIST) -> dict[str, Source]:
    """The data sets of a list, by name. Raises ``ValueError`` that names what is wrong with the list."""
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        return {name: _source(name, dict(table)) for name, table in tables.items()}
    except (TypeError, KeyError, ValueError) as error:  # TypeError: a field too many, or one that is missing
        raise ValueError(f"{path} is no list of sources: {error}") from error


def _source(name: str, table: dict) -> Source:
    parts = tuple(_part(name, entry) for entry in table.pop("parts"))
    if sum(not part.is_folder for part in parts) != 1:
        raise ValueError(f"{name} needs one part without 'wanted': its captions")
    return Source(name=name, parts=parts, terms=tuple(table.pop("terms", ())), **table)


def _part(source: str, entry: dict) -> Part:
    lists = {key: tuple(entry[key]) for key in ("urls", "also", "account") if key in entry}
    part = Part(**{**entry, **lists})
    where = f"{source}, part {part.name!r}"
    if not all(url.startswith(("https://", "http://")) for url in part.urls):
        raise ValueError(f"{where}: an address starts with https:// or http://")
    if part.digest and part.digest.split(":")[0] not in ("sha256", "md5"):
        raise ValueError(f"{where}: digest is {part.digest!r}, expected 'sha256:...' or 'md5:...'")
    for name in (part.gives, part.file):
        if PurePosixPath(name).is_absolute() or ".." in name:
            raise ValueError(f"{where}: {name!r} does not lie in the folder")
    return part
