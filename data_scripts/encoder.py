"""Which encoder made the features of a run, so that other photographs can be turned into features of the same kind."""

from __future__ import annotations

import tomllib
from pathlib import Path

from data_scripts import extract_features
from itr_lib.data.photographs.problems import read_json
from itr_lib.data.photographs.shards import ABOUT, is_set

KEPT = ("model", "regions", "grid", "precision")  # of what features.json says: what a picture's numbers depend on
PIXELS = "pixels"  # no regions at all: the run's model makes them itself
FROM_PICTURES = ("whole", "grid", "detector")  # regions that need no file of boxes


def encoder_of(features: Path | None) -> dict[str, str | int]:
    """What made the feature set that the data were read from; empty for other features."""
    if features is None or not is_set(features):
        return {}
    about = read_json(features / ABOUT)
    return {key: about[key] for key in KEPT if isinstance(about.get(key), str | int)}


def extract_alike(run: Path, images: str, out: Path | None, root: str, device: str) -> Path:
    """Features of a folder of pictures by the encoder of a run's own; returns the folder they lie in.

    Args:
        run: whose ``settings.toml`` says which encoder, and which regions.
        images: the pictures, with sub-folders or without.
        out: the folder to write, or to go on with; None: one in ``root``, named after the encoder.
        root: the data set's folder.
        device: where the encoder runs.

    Raises:
        ValueError: the settings do not say it, or the regions cannot be had from pictures alone.
        OSError: the extraction failed, and has said why.
    """
    try:
        encoder = tomllib.loads((run / "settings.toml").read_text(encoding="utf-8")).get("encoder", {})
    except (OSError, ValueError) as error:
        raise ValueError(f"{run / 'settings.toml'} cannot be read ({error})") from error
    if "model" not in encoder or encoder.get("regions") not in FROM_PICTURES:
        raise ValueError(
            f"{run / 'settings.toml'} does not say how to make its features from pictures alone (it says"
            f" {encoder or 'nothing'}): make features of the same kind, and give them with --features"
        )
    out = out or Path(root).expanduser() / f"{Path(encoder['model']).name}-{encoder['regions']}"
    words = [word for key, value in encoder.items() for word in (f"--{key}", str(value))]
    words += ["--images", images, "--out", str(out), "--device", device]
    try:
        failed = extract_features.main(words)
    except SystemExit as error:  # it has told which argument will not do
        failed = error.code
    if failed:
        raise OSError(f"no features of {images}: see above")
    return out
