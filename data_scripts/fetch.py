"""Fetch Flickr8k, COCO or Flickr30k into one folder, as `load_splits` and the lessons read it.

It says first what a data set is, how large, and on what terms. What is on disk already is taken; the rest is fetched,
checked and unpacked. Stopped at any moment, the same command goes on where it was. Flickr30k's photographs need a
request: the command says what to do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_scripts.alone import alone_in
from data_scripts.folders import ARCHIVES, Place, found, lacking, place_archive, place_files
from data_scripts.sources import LIST, Part, Source, read_sources
from itr_lib.data.download import DownloadError, download, expect_room, fault_of


class Missing(Exception):
    """A part that cannot be fetched, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what the data set is and fetch it; the exit status is 1 where something is missing, 130 after Ctrl-C."""
    options = _options(arguments)
    try:
        _run(options)
        return 0
    except KeyboardInterrupt:
        print("\nfetch: stopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except Missing as missing:
        print(f"\n{missing}", file=sys.stderr)
    except (OSError, ValueError) as error:
        ours = isinstance(error, OSError) and error.strerror and error.filename is None  # a sentence, after a number
        print(f"fetch: {error.strerror if ours else error}", file=sys.stderr)
    return 1


def _run(options: argparse.Namespace) -> None:
    place = _place(options)
    parts = _chosen(place.source, options.parts)
    print(introduction(place, parts))
    if options.say:
        print("\n".join(_steps(parts)))
    else:
        with alone_in(place.downloads):
            fetch(place, parts)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data_scripts.fetch", description=__doc__)
    parser.add_argument("name", choices=("flickr8k", "coco", "flickr30k"), help="the data set")
    parser.add_argument("--root", type=Path, help="the folder it comes to lie in (default: data/NAME)")
    parser.add_argument(
        *("--from", "-f"), dest="others", metavar="FOLDER", type=Path, action="append", default=[],
        help="where archives or pictures lie already; may be given several times",
    )  # fmt: skip
    parser.add_argument("--parts", nargs="+", metavar="PART", help="some of it, such as: captions val2014")
    parser.add_argument(
        "--say", action="store_true", help="say what would be fetched, and on what terms; fetch nothing"
    )
    parser.add_argument("--keep", action="store_true", help="keep the archives, once unpacked")
    parser.add_argument(
        "--sources", type=Path, default=LIST, help="another list of addresses, such as your own mirror's"
    )
    return parser.parse_args(arguments)


def _place(options: argparse.Namespace) -> Place:
    sources = read_sources(options.sources)
    if options.name not in sources:
        raise ValueError(f"{options.sources} lists {', '.join(sources) or 'nothing'}, and not {options.name}")
    root = options.root or Path("data") / options.name
    others = tuple(path.expanduser() for path in options.others)
    for path in others:
        if not path.is_dir():
            raise ValueError(f"--from {path}: there is no such folder")
    show = sys.stdout.isatty()  # hours of a bar would fill a log
    return Place(sources[options.name], root.expanduser(), others, options.keep, show)


def _chosen(source: Source, names: Sequence[str] | None) -> list[Part]:
    known = [part.name for part in source.parts]
    for name in names or ():
        if name not in known:
            raise ValueError(f"{source.name} has no part {name!r}: it has {', '.join(known)}")
    chosen = [part for part in source.parts if not names or not part.is_folder or part.name in names]
    return sorted(chosen, key=lambda part: part.is_folder)  # captions say which pictures there should be


def introduction(place: Place, parts: Sequence[Part]) -> str:
    """What the data set is, how large, on what terms, and where it goes."""
    source = place.source
    lines = [source.title, f"Licence: {source.licence}", *(f"  {line}" for line in source.terms)]
    lines += [f"Cite: {source.cite}"] if source.cite else []
    for part in parts:
        about = "" if part.size else "about "
        how = f"{about}{_told(part.bytes)}" if part.bytes else "of unknown size"
        lines.append(f"  {part.name}: {part.file}, {how}" + ("" if part.urls else ", to be asked for"))
    return "\n".join([*lines, f"Folder: {place.root}"])


def _steps(parts: Sequence[Part]) -> list[str]:
    """What to do about the parts that nothing can fetch."""
    return [line for part in parts if not part.urls for line in (f"{part.name}:", *part.account)]


def _told(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def fetch(place: Place, parts: Sequence[Part]) -> None:
    """Bring every part. What can be had is brought before :class:`Missing` says what cannot."""
    expect_disk(place, parts)
    missing = []
    for part in parts:  # captions come first: they say which pictures there should be
        try:
            provide(part, place)
        except Missing as error:
            missing.append(str(error))
            if not part.is_folder:
                missing += _steps(parts)
                break
    if missing:
        raise Missing("\n".join(missing))
    print(f"Complete: {place.root} holds what was asked for. docs/USAGE.md shows how features are made of it.")


def expect_disk(place: Place, parts: Sequence[Part]) -> None:
    """Raise ``OSError`` now, rather than in an hour, where the disk cannot hold it. Photographs hardly pack."""
    there = {part: list(found(part, place)) for part in parts if lacking(part, place)}
    unpacked = sum(part.bytes for part, paths in there.items() if part.is_folder and not any(map(Path.is_dir, paths)))
    archives = [max(part.bytes - _fetched(part, place), 0) for part, paths in there.items() if part.urls and not paths]
    beside = sum(archives) if place.keep else max(archives, default=0)
    expect_room(place.root, unpacked + beside, place.source.name)


def _fetched(part: Part, place: Place) -> int:
    paths = [place.downloads / name for name in (part.file, f"{part.file}.part")]
    return sum(path.stat().st_size for path in paths if path.exists())


def provide(part: Part, place: Place) -> None:
    """Bring one part: what is there, what lies elsewhere on disk, what can be fetched."""
    lack = lacking(part, place)
    if not lack:
        print(f"{part.name}: there already")
        return
    for path in found(part, place):
        if _take(part, path, place) and not (lack := lacking(part, place)):
            print(f"{part.name}: taken from {path}")
            return
    if not part.urls:
        raise Missing("\n".join([f"{part.name}: {lack}.", *part.account]))
    archive = _download(part, place)
    place_archive(part, archive, place)
    if lack := lacking(part, place):
        raise ValueError(f"{archive} was unpacked, and still: {lack}")
    if not place.keep:
        archive.unlink()
    print(f"{part.name}: fetched, checked and unpacked")


def _download(part: Part, place: Place) -> Path:
    print(f"{part.name}: fetching {part.file}", flush=True)
    try:
        target = place.downloads / part.file
        return download(part.urls, target, size=part.size, digest=part.digest, show=place.show)
    except DownloadError as error:
        by_hand = f"Fetch {part.file} with a browser and call this command again with --from and its folder."
        raise Missing("\n".join([str(error), by_hand, *part.account])) from error


def _take(part: Part, path: Path, place: Place) -> bool:
    """Use what lies on disk; False, and a line that says why, where that cannot be."""
    try:
        listed = path.name.casefold() == part.file.casefold()
        if listed and (fault := fault_of(path, part.size, part.digest, place.show)):
            raise ValueError(f"it is not the file of the list: {fault}")
        if path.suffix.lower() in ARCHIVES:
            place_archive(part, path, place)
        else:
            place_files(part, path, place)
    except ValueError as error:
        print(f"{part.name}: {path} is not used: {error}")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
