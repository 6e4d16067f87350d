"""One call for a lesson's data, whatever it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from itr_lib.data.dataset import RetrievalData
from itr_lib.data.photographs.entities import Phrases, load_entities
from itr_lib.data.photographs.karpathy import hold_out
from itr_lib.data.photographs.layouts import load_folder
from itr_lib.data.scenes.make import PROFILES, load_scenes
from itr_lib.validation import expect_choice


@dataclass(frozen=True)
class Splits:
    """What a lesson works on.

    Attributes:
        train: what gradients come from.
        val: what checkpoints and settings are chosen by.
        test: what is reported, and nothing else.
        probes: further splits by name: ``"swaps"`` and ``"replaces"`` of the scenes, ``"test_1k"`` of COCO precomputed.
        notes: what a reader should know about where the data come from.
        phrases: of photographs with Flickr30k Entities, the phrases of the test split and their regions.
        features: of photographs, the file or folder that their features come from, where it is one of its own.
    """

    train: RetrievalData
    val: RetrievalData
    test: RetrievalData
    probes: dict[str, RetrievalData] = field(default_factory=dict)
    notes: str = ""
    phrases: Phrases | None = None
    features: Path | None = None


def load_splits(
    name: str,
    root: str = "",
    *,
    profile: str = "quick",
    seed: int = 0,
    strict: bool = False,
    features=None,
    layout: str | None = None,
    pictures_alone: bool = False,
) -> Splits:
    """The embedded scenes, or the photographs in the folder ``root`` (``~`` is your home).

    ``"scenes"`` are drawn. ``"entities"`` takes the boxes of Flickr30k Entities as regions. Any other name is what the
    photographs are called, such as ``"flickr8k"``: the folder is looked through for captions in one of the field's
    layouts, pictures and features (:func:`itr_lib.data.photographs.layouts.load_folder`), and ``notes`` say what was
    taken. Where features are still to be extracted, the rest is there.

    Photographs without a test split are reported on their val split; then a tenth of the training images is held
    out to choose the checkpoint by, since a maximum over the reported split is no honest number. The smoke profile
    takes the first 300 training images of photographs.

    Args:
        name: what to load.
        root: the folder of photographs.
        profile: ``"smoke"``, ``"quick"`` or ``"full"``.
        seed: of the scenes.
        strict: stop at the first bad record of photographs instead of skipping it.
        features: the feature file or folder of photographs, where there are several.
        layout: the layout of their captions, where there are several.
        pictures_alone: take no features of photographs, and decode every picture now: for a model that looks at
            pictures itself.

    Raises:
        ValueError: for another profile, or when the data cannot be read; ``strict``: at the first bad record.
    """
    expect_choice("profile", profile, tuple(PROFILES))
    if name in ("scenes", "entities") and (features, layout) != (None, None):
        raise ValueError(f"features and layout choose among files of photographs: with {name!r} there is no choice")
    if name == "scenes":
        return _drawn(profile, seed)
    if name == "entities":
        read = load_entities(root, limit={"smoke": 300}.get(profile), strict=strict)
    else:
        how = {"pictures_alone": pictures_alone, "verify": strict or pictures_alone}
        read = load_folder(name, root, features=features, layout=layout, strict=strict, **how)
    train, val, test = _three(read.splits, root)
    if profile == "smoke" and name != "entities":  # whose loader was given a limit, and has made its phrases
        sizes = ((train, 300), (val, 60), (test, 100))
        train, val, test = (part.take(np.arange(min(most, len(part)))) for part, most in sizes)
    probes = {split: part for split, part in read.splits.items() if split not in ("train", "val", "test")}
    notes = f"{read.report()}\nReported on: {test.split}; checkpoints chosen by: {val.split}."
    phrases = read.phrases[test.split] if name == "entities" else None
    return Splits(train, val, test, probes, notes, phrases, read.features)


def _three(parts: dict[str, RetrievalData], root: str) -> tuple[RetrievalData, RetrievalData, RetrievalData]:
    """What to train on, to choose by and to report on; no two of them are the same."""
    if "train" not in parts or not parts.keys() & {"val", "test"}:
        raise ValueError(f"{root!r} holds the splits {list(parts)}: a lesson needs train, and val or test to report on")
    test = parts.get("test") or parts["val"]
    train, val = parts["train"], parts.get("val")
    return (*hold_out(train), test) if val is None or val is test else (train, val, test)


def _drawn(profile: str, seed: int) -> Splits:
    scenes = load_scenes(profile, seed)
    named = ", ".join(f"{head} {100 * share:.0f} %" for head, share in scenes.detector.items())
    return Splits(
        scenes.train,
        scenes.val,
        scenes.test,
        {"swaps": scenes.swaps, "replaces": scenes.replaces},
        f"The detector behind the region features names, on pictures it never saw: {named}.",
    )
