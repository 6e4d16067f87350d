"""Guides: one frozen global vector an image from a CLIP, for the CLIP-guided enhancement of USER (Zhang et al., 2024).

They come from any CLIP that can be loaded, from a file of embeddings, or from a small CLIP trained on the spot.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from itr_lib.data.cache import cached_folder
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.load import Splits
from itr_lib.data.photographs.features import read_features
from itr_lib.data.photographs.problems import Problems
from itr_lib.data.photographs.shards import is_set
from itr_lib.data.rows import chunks
from itr_lib.data.scenes.rendering import render
from itr_lib.data.tokenisation import load_tokenizer, tokenise
from itr_lib.encoders.pretrained import ImageEncoder, load_image_encoder
from itr_lib.encoders.text import padded_as_trained
from itr_lib.guides.small_clip import small_clip_folder
from itr_lib.progress import progress_bar
from itr_lib.similarity import l2_normalise

KEPT = "guides.npy"


def guided(
    splits: Splits,
    source: str = "small",
    *,
    profile: str = "quick",
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Splits:
    """The same splits, probes included, with guides.

    Args:
        splits: what :func:`itr_lib.data.load.load_splits` returned.
        source: ``"small"``, the small CLIP of ``profile`` and ``seed`` (it and its guides are kept in the cache);
            an ``.npz`` or a feature set, see :func:`file_guides`; else a CLIP's name or folder.
        profile: of the small CLIP: ``"smoke"``, ``"quick"`` or ``"full"``.
        seed: of the small CLIP.
        device: where the CLIP runs, and a small one is trained.
        progress: show bars.

    Raises:
        ValueError: the file has not every image, the model is no CLIP, the data came without pictures.
        OSError: the model cannot be loaded, or the cache not be written.
    """
    if str(source).endswith(".npz") or is_set(Path(source).expanduser()):
        add = functools.partial(file_guides, path=source)
    elif source == "small":
        folder = small_clip_folder(seed, progress, profile=profile, device=device)
        add = functools.partial(_kept_guides, folder=folder, device=device, progress=progress)
    else:
        add = functools.partial(_with_vectors, encoder=_load_clip(source, device), progress=progress)
    parts = {part: add(getattr(splits, part)) for part in ("train", "val", "test")}
    return replace(splits, **parts, probes={name: add(data) for name, data in splits.probes.items()})


def clip_guides(
    data: RetrievalData,
    model: str | Path,
    *,
    device: str = "cpu",
    batch_size: int = 64,
    progress: bool = True,
) -> RetrievalData:
    """The split with what a CLIP (a name or a folder) makes of each picture: unit vectors in float16.

    Raises ``OSError`` where it cannot be loaded, ``ValueError`` where it is no CLIP or a picture cannot be read.
    """
    return _with_vectors(data, _load_clip(model, device), batch_size, progress)


def file_guides(data: RetrievalData, path: str | Path, *, only_covered: bool = False) -> RetrievalData:
    """The split with the embeddings of an ``.npz``: ``filenames`` (N,) and ``features`` (N, D), made unit vectors.

    A feature set of whole pictures will do, too. An image is found by its id, the file's name. With ``only_covered``
    the images that the file lacks are left out; otherwise they raise ``ValueError``, as do vectors that cannot be used.
    """
    missing = _OnlyMissing()
    found = read_features(path, data.image_ids, missing)
    if found.features.shape[1] > 1:
        raise ValueError(f"{path} holds {found.features.shape[1]} vectors an image: a guide is one, of shape (N, D)")
    if missing.found and not only_covered:
        lacking, split = f"{len(missing.found):,} of the {len(data):,} images", f"{data.name!r}/{data.split!r}"
        raise ValueError(
            f"{path} has no vector for {lacking} of {split} ({missing.found[0].record!r}, say): extract them"
            " with data_scripts.extract_features, or leave these images out with file_guides(..., only_covered=True)"
        )
    if missing.found:
        data = data.take(found.rows)
    return replace(data, guides=_units(torch.from_numpy(found.features[:, 0])))


def zero_shot_scores(
    data: RetrievalData, model: str | Path, *, device: str = "cpu"
) -> Float[Tensor, "images captions"]:
    """The cosines of a CLIP that runs on ``device``, without any training on these data; they come on the CPU."""
    encoder, tokenizer = _load_clip(model, device), load_tokenizer(model)
    images = _with_vectors(data, encoder, progress=False).guides
    clip = encoder.model
    ids, mask = tokenise(tokenizer, data.captions, clip.config.text_config.max_position_embeddings)
    with torch.inference_mode():
        sides = (torch.from_numpy(array).to(device) for array in (ids.astype(np.int64), mask))
        parts = zip(*(side.split(256) for side in sides), strict=True)
        texts = [padded_as_trained(*part, clip.config.text_config, tokenizer.pad_token_id) for part in parts]
        captions = [clip.get_text_features(some, attention_mask=real).pooler_output for some, real in texts]
    return torch.from_numpy(images).float() @ l2_normalise(torch.cat(captions)).cpu().T


class _OnlyMissing(Problems):
    """Collects the images that a file lacks; whatever else is wrong with it is raised."""

    def add(self, cause: str, record: str, sentence: str) -> None:
        if cause != "no features":
            raise ValueError(sentence)
        super().add(cause, record, sentence)


def _load_clip(name: str | Path, device: str) -> ImageEncoder:
    encoder = load_image_encoder(name, device, crop=True)
    if not hasattr(encoder.model, "get_image_features"):
        kind = "network without a text side" if encoder.model is None else type(encoder.model).__name__
        raise ValueError(f"{str(name)!r} is a {kind}: a guide comes from a CLIP")
    return encoder


def _with_vectors(data: RetrievalData, encoder: ImageEncoder, batch_size: int = 64, progress: bool = True):
    """Every picture through a loaded CLIP."""
    picture = _pictures(data, encoder.model.config.vision_config.image_size)
    parts = []
    with progress_bar(len(data), f"guides of {data.split}", "image", show=progress) as bar:
        for start in range(0, len(data), batch_size):
            pictures = [picture(row) for row in range(start, min(start + batch_size, len(data)))]
            parts.append(_units(encoder(pictures).whole))
            bar.update(len(pictures))
    return replace(data, guides=np.concatenate(parts))


def _pictures(data: RetrievalData, size: int) -> Callable[[int], Image.Image]:
    """Scenes are drawn as large as the CLIP reads them (``picture`` would draw them larger); photographs are opened."""
    if data.truth is None:
        return data.picture
    return lambda row: Image.fromarray(render(data.truth.scenes[row], size))


def _units(vectors: Float[Tensor, "images dim"]) -> Float[np.ndarray, "images dim"]:
    return l2_normalise(vectors.float()).cpu().numpy().astype(np.float16)


def _kept_guides(data: RetrievalData, folder: Path, device: str, progress: bool) -> RetrievalData:
    """Guides of the small CLIP in ``folder``, from the cache or made now."""

    def make(path: Path) -> None:
        np.save(path / KEPT, clip_guides(data, folder, device=device, progress=progress).guides)

    kept = cached_folder(f"guides-{len(data)}-{_content(data, folder.name)}", make)
    return replace(data, guides=np.load(kept / KEPT, allow_pickle=False))


def _content(data: RetrievalData, clip: str) -> str:
    """Stands for a CLIP and the images: scenes of two seeds share their ids, but not their captions and regions."""
    own = Path(__file__).read_text(encoding="utf-8")
    total = hashlib.sha256(repr((own, clip, data.name, data.split, data.image_ids, data.captions)).encode())
    for array in itertools.chain(chunks(data.features), [data.boxes]):
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()[:12]
