"""A CLIP small enough to train in a minute: two real towers of ``transformers``, CLIP's loss, scenes of its own.

It stands in for the big one where nothing can be downloaded: saved as any CLIP is, it is read by whatever reads one.
CLIP (Radford et al., ICML 2021) starts with 400 million pairs of all degrees of difficulty, and a minute has
thousands. So the first steps show single objects with the words for them; without these it learns little more than
to tell grass from snow.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerBase

from itr_lib.data.batches import caption_batch, epoch_order
from itr_lib.data.cache import cached_folder
from itr_lib.data.offline import no_bars_of_transformers
from itr_lib.data.scenes import Caption
from itr_lib.data.scenes.make import digest
from itr_lib.data.scenes.rendering import render
from itr_lib.data.scenes.worker import Drawn, draw_in_processes
from itr_lib.data.tokenisation import TokenisedCaptions, tokenise, train_tokenizer
from itr_lib.progress import progress_bar
from itr_lib.transfer import upload

OWN_SCENES = 1_000_000  # added to the seed: no course scene has this random stream, so the CLIP has seen none of them
RECORD = "small_clip.json"  # seed and settings, beside the weights
FILES = {
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    RECORD,
}


@dataclass(frozen=True)
class SmallClip:
    """Sizes and training; ``single_steps`` of the steps are on single objects, before the others on whole scenes."""

    scenes: int = 6000
    single_steps: int = 400
    scene_steps: int = 900
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 30
    temperature: float = 0.02  # where it starts; it is learnt
    image_size: int = 56
    patch_size: int = 8
    width: int = 64
    image_layers: int = 3
    text_layers: int = 2
    dim: int = 128


PROFILES = {
    "smoke": SmallClip(scenes=200, single_steps=10, scene_steps=10),
    "quick": SmallClip(),
    "full": SmallClip(scenes=20000, single_steps=2000, scene_steps=6000),
}


class Pairs(NamedTuple):
    """Pictures with the captions of each."""

    pictures: UInt8[np.ndarray, "images size size 3"]
    captions: list[str]
    image_of_caption: Int[np.ndarray, " captions"]


def small_clip_folder(seed: int = 0, progress: bool = True, *, profile: str = "quick", device: str = "cpu") -> Path:
    """The folder of a trained small CLIP for ``CLIPModel.from_pretrained``, from the cache or made now on ``device``.

    Raises ``ValueError`` for an unknown profile or a negative seed, ``OSError`` where the cache cannot be written.
    """
    settings = settings_of(profile, seed)
    sources = [Path(__file__).read_text(encoding="utf-8"), transformers.__version__, repr(settings)]
    version = hashlib.sha256("\0".join([digest(), *sources]).encode()).hexdigest()[:12]
    make = functools.partial(train_small_clip, seed=seed, settings=settings, progress=progress, device=device)
    return cached_folder(f"small-clip-{profile}-{seed}-{version}", make)


def settings_of(profile: str, seed: int = 0) -> SmallClip:
    """The settings of a profile; ``ValueError`` for one that is unknown, or a seed that cannot be."""
    if profile not in PROFILES:
        raise ValueError(f"profile is {profile!r}, expected one of {list(PROFILES)}")
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected a whole number of at least 0")
    return PROFILES[profile]


def train_small_clip(
    folder: Path,
    seed: int = 0,
    settings: SmallClip = PROFILES["quick"],
    progress: bool = True,
    device: str = "cpu",
):
    """Train on ``device`` and save model, tokenizer and image processor into an existing folder.

    On the CPU the same seed gives the same weights with as many threads; a GPU adds up in another order at each run.
    """
    with progress_bar(settings.scenes, "CLIP: scenes", "image", show=progress) as bar:
        singles, scenes = draw_pairs(settings, seed, bar)
    tokenizer = train_tokenizer(scenes.captions)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.manual_seed(seed)
        model = CLIPModel(_config(settings, tokenizer))
    with progress_bar(settings.single_steps + settings.scene_steps, "CLIP: training", "step", show=progress) as bar:
        _train(model.to(device), tokenizer, singles, scenes, settings, seed, bar)
    with no_bars_of_transformers():
        model.eval().cpu().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _processor(settings).save_pretrained(folder)
    (folder / RECORD).write_text(json.dumps({"seed": seed, **asdict(settings)}, indent=1))


def draw_pairs(settings: SmallClip, seed: int, bar) -> tuple[Pairs, Pairs]:
    """Single objects with the words for them, one of each scene, and whole scenes with their captions."""
    rng = np.random.default_rng(seed)
    singles, scenes = [], []
    for drawn in draw_in_processes("train", seed + OWN_SCENES, settings.scenes):
        for row, captions in enumerate(drawn.captions):
            picture = Image.fromarray(drawn.pictures[row]).resize([settings.image_size] * 2, Image.Resampling.BOX)
            scenes.append((np.asarray(picture), [caption.text for caption in captions]))
            singles += _single(drawn, row, settings.image_size, rng)
        bar.update(len(drawn.scenes))
    return _pairs(singles), _pairs(scenes)


def _single(drawn: Drawn, row: int, size: int, rng: np.random.Generator) -> list[tuple[np.ndarray, list[str]]]:
    """One of the objects that the captions speak of, alone at its place, with their words for it; or nothing."""
    scene, phrases = drawn.scenes[row], phrases_of(drawn.captions[row])
    if not phrases:
        return []
    chosen = sorted(phrases)[rng.integers(len(phrases))]
    alone = replace(scene, objects=(scene.objects[chosen],))
    return [(render(alone, size), phrases[chosen])]


def phrases_of(captions: tuple[Caption, ...]) -> dict[int, list[str]]:
    """The words that each caption has for one object alone ("small striped box"), by object."""
    phrases: dict[int, list[str]] = {}
    for caption in captions:
        for place in sorted({word.objects[0] for word in caption.words if len(word.objects) == 1}):
            words = [word.text for word in caption.words if word.objects == (place,)]
            phrases.setdefault(place, []).append(" ".join(words))
    return phrases


def _pairs(drawn: list[tuple[np.ndarray, list[str]]]) -> Pairs:
    pictures, captions = zip(*drawn, strict=True)
    owner = np.repeat(np.arange(len(drawn)), [len(some) for some in captions])
    return Pairs(np.stack(pictures), [caption for some in captions for caption in some], owner)


def _config(settings: SmallClip, tokenizer: PreTrainedTokenizerBase) -> CLIPConfig:
    """The text tower pools at the first ``eos_token_id``: its default is no token of a small vocabulary."""
    shape = {
        "hidden_size": settings.width,
        "intermediate_size": 2 * settings.width,
        "num_attention_heads": settings.width // 32,
        "hidden_act": "gelu",
    }
    text = {
        "vocab_size": len(tokenizer),
        "num_hidden_layers": settings.text_layers,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "image_size": settings.image_size,
        "patch_size": settings.patch_size,
        "num_hidden_layers": settings.image_layers,
    }
    return CLIPConfig(
        text_config={**shape, **text},
        vision_config={**shape, **vision},
        projection_dim=settings.dim,
        logit_scale_init_value=math.log(1 / settings.temperature),
    )


def _processor(settings: SmallClip) -> CLIPImageProcessorPil:
    """Pictures to numbers in -1..1; what :func:`_pixels` does."""
    side, half = settings.image_size, [0.5] * 3
    crop = {"height": side, "width": side}
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=crop, image_mean=half, image_std=half)


def _pixels(
    pictures: UInt8[np.ndarray, "batch size size 3"], device: torch.device | str = "cpu"
) -> Float[Tensor, "batch 3 size size"]:
    return upload(torch.from_numpy(pictures), device).permute(0, 3, 1, 2).float() / 127.5 - 1


def _train(model, tokenizer, singles: Pairs, scenes: Pairs, settings: SmallClip, seed: int, bar) -> None:
    """CLIP's loss, AdamW, and a learning rate that climbs, then falls along a cosine."""
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    steps_in_all = settings.single_steps + settings.scene_steps
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, settings.warmup_steps, steps_in_all)
    rng = np.random.default_rng(seed)
    for pairs, steps in ((singles, settings.single_steps), (scenes, settings.scene_steps)):
        tokens = tokenise(tokenizer, pairs.captions)
        batches = _batches(pairs.image_of_caption, settings.batch_size, rng)
        for rows in (next(batches) for _ in range(steps)):
            loss = _loss(model, pairs, tokens, rows)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.update()


def _batches(owner: Int[np.ndarray, " captions"], size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Caption rows without end, no image twice in a batch; without the small batches that close an epoch."""
    least = min(size, len(np.unique(owner))) / 2
    while True:
        yield from (rows for rows in epoch_order(owner, size, rng) if len(rows) >= least)


def _loss(model: CLIPModel, pairs: Pairs, tokens: TokenisedCaptions, rows: np.ndarray) -> Float[Tensor, ""]:
    ids, mask = caption_batch(tokens, rows, model.device)
    pixels = _pixels(pairs.pictures[pairs.image_of_caption[rows]], model.device)
    return model(input_ids=ids, attention_mask=mask.long(), pixel_values=pixels, return_loss=True).loss
