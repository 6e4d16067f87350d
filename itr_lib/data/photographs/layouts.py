"""What lies in a folder, and which reader takes it.

A folder may hold the same photographs in more than one layout. What tells the field's split comes first; the notes say
what was taken and what was not. Where two layouts are equally good, a sentence asks to choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from itr_lib.data.photographs import caption_lines, precomputed
from itr_lib.data.photographs.assembly import PhotographData, assemble, picture_path
from itr_lib.data.photographs.caption_lines import is_caption_file, read_caption_lines
from itr_lib.data.photographs.coco import read_coco
from itr_lib.data.photographs.folders import Listing, find_features, find_images, only_feature_file
from itr_lib.data.photographs.karpathy import expect_splits, read_karpathy
from itr_lib.data.photographs.pictures import is_file
from itr_lib.data.photographs.precomputed import read_precomputed
from itr_lib.data.photographs.problems import Problems
from itr_lib.data.photographs.records import Source

TRIED = 100  # images whose pictures are looked for, before a folder of pictures is taken for theirs
KNOWN = ("flickr8k", "flickr30k", "coco")
WHY = {"karpathy": "the field's split", "precomputed": "a split with its features"}
EXPECTED = (
    "dataset_<name>.json (Karpathy), captions.txt or results.csv (Kaggle), Flickr8k.token.txt, captions_val2017.json"
    " (COCO), or test_caps.txt (SCAN)"
)


def load_folder(
    name: str,
    root,
    *,
    features=None,
    splits: Sequence[str] | None = None,
    layout: str | None = None,
    strict: bool = False,
    verify: bool | None = None,
    images=None,
    pictures_alone: bool = False,
) -> PhotographData:
    """A data set in one folder: captions in one of the field's layouts, pictures, features, each where there are some.

    Args:
        name: what the data set is called. It chooses among several files of one layout, such as ``dataset_*.json``.
        root: the folder; ``~`` is your home.
        features: the feature file or folder, where there are several.
        splits: which to read; None: those that are there.
        layout: ``"karpathy"``, ``"precomputed"`` (SCAN), ``"captions"`` (one caption a line) or ``"coco"``; None:
            what is there.
        strict: raise ``ValueError`` at the first bad record instead of skipping it.
        verify: decode every picture now; None: where ``strict``.
        images: the folder of pictures; None: the one of a usual name.
        pictures_alone: take neither features nor boxes, for a model that looks at pictures itself.

    Raises:
        ValueError: the folder holds nothing that is known, or too much to choose from, or a file cannot be used.
    """
    expect_splits(splits)
    listing, problems = Listing.of(_folder(root)), Problems(strict)
    found = _found(name, listing)
    chosen = _chosen(found, name, listing, layout, features)
    source = _read(chosen, found[chosen], listing, problems)
    images, notes = _pictures(source, listing, images)
    boxes = ()
    if pictures_alone:
        source = replace(source, regions=None)
    elif features is None and source.regions is None:
        features = only_feature_file(listing)
        boxes = _boxes(listing, found.get("coco", ())) if features is None else ()
    about = {"images": images, "features": features, "boxes": boxes, "decode": strict if verify is None else verify}
    data = assemble(source, problems, name=name, splits=splits, **about)
    notes += _features_left(source, found[chosen][0], listing, features)
    return replace(data, notes=(*data.notes, *notes, *_left(found, chosen)))


def _folder(root) -> Path:
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is no folder: expected one with {EXPECTED}")
    return folder


def _pictures(source: Source, listing: Listing, given) -> tuple[Path | None, list[str]]:
    """The folder of pictures, and a note where it cannot be used."""
    images = find_images(listing) if given is None else Path(given).expanduser()
    if images is None or source.regions is None or _any_picture(source, images):
        return images, []
    return None, [f"The pictures in {images} are not used: no id_mapping.json says which of them is which image."]


def _features_left(source: Source, taken: Path, listing: Listing, features) -> list[str]:
    """Which features were taken, and which were not, where a layout brings its own and others lie beside them."""
    others = [str(path) for path in find_features(listing) if path != taken]
    if source.regions is None or features is None and not others:
        return []
    if features is not None:
        return [f"Not read: the features of {source.layout} itself, since others were asked for."]
    return [f"Features: those of {source.layout} itself. Not read: {', '.join(others)}; features=PATH reads it."]


def _found(name: str, listing: Listing) -> dict[str, list[Path]]:
    """The files of each layout that is there, those that the name chooses."""
    captions = [path for pattern in caption_lines.FILES for path in listing.files(pattern) if is_caption_file(path)]
    found = {
        "karpathy": _called(name, listing.files("dataset_*.json"), "dataset_"),
        "precomputed": _precomputed(name, listing),
        "captions": captions,
        "coco": _one_year(name, listing.files("captions_*20??.json"), listing),
    }
    return {layout: paths for layout, paths in found.items() if paths}


def _called(name: str, paths: list[Path], before: str) -> list[Path]:
    """The file of a data set's name, or the only one, unless it is that of another data set."""
    same = [path for path in paths if path.stem.lower() == f"{before}{name}".lower()]
    if same or not paths:
        return same[:1]
    stem = paths[0].stem.lower().removeprefix(before)
    if len(paths) > 1 or stem in KNOWN and name in KNOWN:
        names = [path.name for path in paths]
        raise ValueError(f"{str(paths[0].parent)!r} holds no {before}{name}.json but {names}: give the name of one")
    return paths


def _precomputed(name: str, listing: Listing) -> list[Path]:
    """The folder with SCAN's files: this one, or one in it, such as ``f30k_precomp`` in SCAN's archive."""
    folders = sorted({path.parent for path in listing.files("*_caps.txt")})
    if len(folders) > 1:
        short = {"flickr30k": "f30k", "flickr8k": "f8k"}.get(name, name)
        named = [folder for folder in folders if folder.name.lower().startswith((short, name))]
        if len(named) != 1:
            names = [folder.name for folder in folders]
            raise ValueError(f"{str(listing.root)!r} holds SCAN's files in {names}: give one of these folders")
        return named
    return folders


def _one_year(name: str, paths: list[Path], listing: Listing) -> list[Path]:
    """COCO's caption files of one year: that of the name (coco2017), or the one whose pictures are there."""
    years = sorted({path.stem[-4:] for path in paths})
    if len(years) > 1:
        images = find_images(listing)
        there = [year for year in years if name.endswith(year)] or [
            year for year in years if images and any((images / f"{part}{year}").is_dir() for part in ("train", "val"))
        ]
        if len(there) != 1:
            where = str(listing.root)
            raise ValueError(f"{where!r} holds COCO's captions of {years}: say which by the name, coco{years[-1]}")
        years = there
    return [path for path in paths if path.stem.endswith(tuple(years))]


def _chosen(found: dict[str, list[Path]], name: str, listing: Listing, layout: str | None, features) -> str:
    """The layout to read."""
    root = listing.root
    if layout is not None:
        if layout not in found:
            raise ValueError(f"{str(root)!r} holds no files of layout {layout!r}: it has {list(found) or 'none'}")
        return layout
    if not found:
        if listing.files("entities.json") or (root / "Sentences").is_dir():
            raise ValueError(f"{str(root)!r} holds Flickr30k Entities: load_splits('entities', root) reads it")
        there = listing.names[root][:8]
        raise ValueError(
            f"{str(root)!r} holds no dataset_{name}.json and no other captions: expected {EXPECTED}; it has {there}"
        )
    bring = "precomputed" in found and precomputed.has_features(found["precomputed"][0])
    if len(found) > 1 and bring and (features is not None or find_features(listing)):
        raise ValueError(f"{_both(found, root)}, and features for both: say which with layout=...")
    if bring:
        return "precomputed"
    if {"captions", "coco"} == found.keys():
        raise ValueError(f"{_both(found, root)}: say which with layout=...")
    return next(iter(found))


def _both(found: dict[str, list[Path]], root: Path) -> str:
    told = " and ".join(f"{layout!r} ({paths[0].name})" for layout, paths in found.items())
    return f"{str(root)!r} holds captions in the layouts {told}"


def _left(found: dict[str, list[Path]], chosen: str) -> list[str]:
    """What else was there, and how to have it."""
    further = found["captions"][1:] if chosen == "captions" else []
    why = WHY.get(chosen, "the layout asked for")
    return [f"Not read: {path}." for path in further] + [
        f"Not read: {paths[0]}, since what was read is {why}; layout={layout!r} reads it."
        for layout, paths in found.items()
        if layout != chosen
    ]


def _read(layout: str, paths: list[Path], listing: Listing, problems: Problems) -> Source:
    if layout == "karpathy":
        return read_karpathy(paths[0], problems)
    if layout == "precomputed":
        return read_precomputed(paths[0], problems)
    return read_coco(paths, problems) if layout == "coco" else read_caption_lines(paths[0], listing, problems)


def _any_picture(source: Source, images: Path) -> bool:
    return any(is_file(picture_path(images, record)) for record in source.records[:TRIED])


def _boxes(listing: Listing, captions: Sequence[Path]) -> list[Path]:
    """Files of labelled boxes: ``boxes.json``, or COCO's instances beside its captions."""
    beside = [path.with_name(path.name.replace("captions_", "instances_")) for path in captions]
    return listing.files("boxes.json") or [path for path in beside if path.is_file()]
