"""One call for a lesson's data, whatever it is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from itr_lib.data.dataset import RetrievalData
from itr_lib.data.photographs.entities import Phrases, load_entities
from itr_lib.data.photographs.karpathy import hold_out, load_folder
from itr_lib.data.scenes.make import PROFILES, load_scenes
from itr_lib.validation import expect_choice


@dataclass(frozen=True)
class Splits:
    """What a lesson works on.

    Attributes:
        train: what gradients come from.
        val: what checkpoints and settings are chosen by.
        test: what is reported, and nothing else.
        probes: further splits by name; the scenes have ``"swaps"`` and ``"replaces"``.
        notes: what a reader should know about where the data come from.
        phrases: of photographs with Flickr30k Entities, the phrases of the test split and their regions.
    """

    train: RetrievalData
    val: RetrievalData
    test: RetrievalData
    probes: dict[str, RetrievalData] = field(default_factory=dict)
    notes: str = ""
    phrases: Phrases | None = None


def load_splits(name: str, root: str = "", *, profile: str = "quick", seed: int = 0, strict: bool = False) -> Splits:
    """The embedded scenes, or photographs in Karpathy's format from the folder ``root`` (``~`` is your home).

    ``"entities"`` takes the boxes of Flickr30k Entities (``entities.json`` in that folder) as regions.

    Photographs without a test split are reported on their val split; then a tenth of the training images is held
    out to choose the checkpoint by, since a maximum over the reported split is no honest number. The smoke profile
    takes the first 300 training images of photographs.

    Raises:
        ValueError: for another profile, or when the data cannot be read; ``strict``: at the first bad record.
    """
    expect_choice("profile", profile, tuple(PROFILES))
    if name == "scenes":
        scenes = load_scenes(profile, seed)
        named = ", ".join(f"{head} {100 * share:.0f} %" for head, share in scenes.detector.items())
        return Splits(
            scenes.train,
            scenes.val,
            scenes.test,
            {"swaps": scenes.swaps, "replaces": scenes.replaces},
            f"The detector behind the region features names, on pictures it never saw: {named}.",
        )
    if name == "entities":
        read = load_entities(root, limit={"smoke": 300}.get(profile), strict=strict)
    else:
        read = load_folder(name, root, strict=strict)
    parts = dict(read.splits)
    if "train" not in parts or len(parts) < 2:
        raise ValueError(f"{root!r} holds the splits {list(parts)}: a lesson needs train, and val or test to report on")
    test = parts.get("test") or parts["val"]
    train, val = parts["train"], parts.get("val")
    if val is None or val is test:
        train, val = hold_out(train)
    if profile == "smoke" and name != "entities":  # whose loader was given a limit, and has made its phrases
        sizes = ((train, 300), (val, 60), (test, 100))
        train, val, test = (part.take(np.arange(min(most, len(part)))) for part, most in sizes)
    notes = f"{read.report()}\nReported on: {test.split}; checkpoints chosen by: {val.split}."
    phrases = read.phrases[test.split] if name == "entities" else None
    return Splits(train, val, test, {}, notes, phrases)
