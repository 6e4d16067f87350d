"""Extract CLIP or ViT features of a folder of pictures into one .npz file that the lessons read.

The model is a name on the Hugging Face hub or a folder on disk. What is done is kept in FILE.npz.parts/, so a
run that was stopped goes on where it was; the .npz appears only when it is complete.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from itr_lib.data.photographs.features import load_arrays
from itr_lib.data.photographs.pictures import open_photograph
from itr_lib.data.unicode import composed
from itr_lib.encoders.images import joint_vectors, load_image_model
from itr_lib.lessons.machine import choose_device
from itr_lib.progress import progress_bar

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@torch.inference_mode()
def embed(model, processor, paths: list[Path], regions: str) -> np.ndarray:
    """Features (n, 1, D), the picture as a whole, or (n, R, D), one vector a patch; float16 where it holds them.

    Raises ``ValueError`` for NaN or infinity, which is what a model in half precision makes of some pictures.
    """
    pictures = [open_photograph(path) for path in paths]
    if regions == "image" and hasattr(model, "get_image_features"):
        vectors = joint_vectors(model, processor, pictures)[:, None]
    else:
        pixels = processor(images=pictures, return_tensors="pt")["pixel_values"].to(model.device)
        tokens = getattr(model, "vision_model", model)(pixel_values=pixels).last_hidden_state
        vectors = tokens[:, 1:] if regions == "patches" else tokens[:, :1]  # the class token comes first
    exact = vectors.float().cpu().numpy()
    for path, own in zip(paths, exact, strict=True):
        if not np.isfinite(own).all():
            raise ValueError(f"the model makes NaN or infinity of {path}: leave it out, or use the model in float32")
    with np.errstate(over="ignore"):  # DINOv2 has numbers beyond 65,504 in a few places
        small = exact.astype(np.float16)
    return small if np.isfinite(small).all() else exact


def patch_boxes(count: int) -> np.ndarray:
    """Boxes (count, 4) of a square grid of patches, row by row; one box for the whole picture if count is 1."""
    side = round(count**0.5)
    if side * side != count:
        raise ValueError(f"{count} patches are not a square grid: this model cannot be used with --regions patches")
    y, x = np.divmod(np.arange(count), side)
    return (np.stack([x, y, x + 1, y + 1], axis=1) / side).astype(np.float32)


def save_atomically(path: Path, **arrays: np.ndarray) -> None:
    """Write an .npz that is either whole or absent."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def extract_folder(images: Path, out: Path, model: str, regions: str, batch: int, device: str) -> int:
    """Extract all pictures of a folder; returns their number. Raises ``ValueError`` on an unreadable picture."""
    paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"{str(images)!r} holds no picture ({', '.join(sorted(SUFFIXES))})")
    names = [composed(path.name) for path in paths]
    if len(set(names)) < len(names):
        raise ValueError(f"{str(images)!r} holds a file name twice in its sub-folders: extract each on its own")
    versions = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    settings = json.dumps([model, regions, batch, versions])
    parts = out.with_name(out.name + ".parts") / hashlib.sha256(settings.encode()).hexdigest()[:12]
    net = None
    starts = range(0, len(paths), batch)
    with progress_bar(len(starts), "features", "batch") as bar:
        for start in starts:
            part = parts / f"{start:07d}.npz"
            if not part.exists():
                net = net or load_image_model(model, device)
                parts.mkdir(parents=True, exist_ok=True)
                save_atomically(part, features=embed(*net, paths[start : start + batch], regions))
            bar.update()
    features = np.concatenate([load_arrays(part)["features"] for part in sorted(parts.glob("*.npz"))])
    boxes = np.broadcast_to(patch_boxes(features.shape[1]), (*features.shape[:2], 4))
    save_atomically(out, filenames=np.array(names), features=features, boxes=boxes)
    shutil.rmtree(parts)
    with contextlib.suppress(OSError):  # parts of another extraction are not ours
        parts.parent.rmdir()
    return len(paths)


def main(arguments: Sequence[str] | None = None) -> int:
    """Extract and say where the result is."""
    parser = argparse.ArgumentParser(prog="python -m data_scripts.extract_features", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures, with sub-folders or without")
    parser.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    parser.add_argument("--model", default="openai/clip-vit-base-patch32", help="name or folder (default: %(default)s)")
    parser.add_argument("--regions", choices=["image", "patches"], default="image", help="one vector, or one a patch")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures at a time (default: %(default)s)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options = parser.parse_args(arguments)
    if options.out.suffix != ".npz" or options.batch_size < 1:
        parser.error("--out must end in .npz and --batch-size must be at least 1")
    images, out = options.images.expanduser(), options.out.expanduser()
    try:
        device = choose_device(options.device)
    except ValueError as error:
        parser.error(str(error))
    try:
        count = extract_folder(images, out, options.model, options.regions, options.batch_size, device)
    except (OSError, ValueError) as error:
        print(f"extract_features: {error}", file=sys.stderr)
        return 1
    print(f"{count:,} pictures: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
