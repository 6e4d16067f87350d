"""What boxes of background do to a model that aligns regions with words, as lesson 03 measures it: for its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from itr_lib.data import scene_questions, with_background
from itr_lib.data.dataset import RetrievalData, known_truth
from itr_lib.encoders.tokens import Tokens
from itr_lib.evaluation import image_ranks, question_alignments
from itr_lib.inference import encode
from itr_lib.similarity import Alignment

COUNTS = (0, 4, 16, 32)  # boxes of background a picture
PICTURES = 200
PICTURES_AT_ONCE = 50
TEMPERATURES = {"hard": None, "sharp": 0.02, "soft": 0.1}


def background_metrics(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, data: RetrievalData, device: str = "cpu"
) -> dict[str, float]:
    """Attention and recall among up to 200 pictures with their boxes on objects and more and more background.

    By number of boxes and coding (``hard``, ``sharp`` at temperature 0.02, ``soft`` at 0.1), as in
    ``background_4_hard_share``: ``share``, the percentage of the attention of words of shape and colour that falls on
    regions of what they speak of; ``regions``, the exponential of its entropy; ``t2i_r1`` of all captions, of those
    that name the ground (``t2i_r1_ground``), and of the others (``t2i_r1_objects``). ``clear_4_hard_share`` and so on:
    with boxes that touch no object. ``background_4_alignment_right`` and ``background_4_alignment_ground`` are the
    mean alignments of these words with regions of what they speak of, and with the added boxes.

    Args:
        model: whose regions and words meet in hard or soft codes, pooled by log-sum-exp.
        tokenizer: that of its captions.
        data: a split of scenes. ``ValueError`` where the scenes are not known.
        device: where to encode.
    """
    few = data.take(np.arange(min(PICTURES, len(data))))
    bare = replace(few, region_mask=known_truth(few).region_object >= 0)
    worlds = {f"background_{count}": with_background(few, count) if count else bare for count in COUNTS}
    worlds["clear_4"] = with_background(few, 4, clear=True)
    metrics: dict[str, float] = {}
    for name, world in worlds.items():
        images, captions = encode(model, tokenizer, world, device=device)
        found = _attention(images, captions, world, tokenizer) | _recall(images, captions, world)
        metrics |= {f"{name}_{what}": float(value) for what, value in found.items()}
    return metrics


def recorded_curves(
    runs: Sequence[Mapping[str, float]], coding: str, measures: Sequence[str] = ("share", "regions", "t2i_r1_objects")
) -> Float[np.ndarray, "counts measures"]:
    """What :func:`background_metrics` found with one coding, a row a count: the mean of the runs that have it."""
    names = [[f"background_{count}_{coding}_{what}" for what in measures] for count in COUNTS]
    return np.array([[fmean(run[name] for run in runs if name in run) for name in row] for row in names])


def _attention(
    images: Tokens, captions: Tokens, world: RetrievalData, tokenizer: PreTrainedTokenizerBase
) -> dict[str, float]:
    questions = scene_questions(world, tokenizer, kinds=("shape", "colour"))
    A = torch.from_numpy(question_alignments(*images, *captions, world.image_of_caption, questions))
    right = torch.from_numpy(questions.right)
    owner = world.image_of_caption[questions.caption]
    ground = torch.from_numpy(world.region_mask & (known_truth(world).region_object < 0))[owner]
    found = {"alignment_right": A[right].mean()}
    if ground.any():
        found["alignment_ground"] = A[ground].mean()
    for coding, tau in TEMPERATURES.items():
        weights = _weights(A, tau)
        found[f"{coding}_share"] = 100 * (weights * right).sum(dim=1).mean()
        found[f"{coding}_regions"] = (-torch.xlogy(weights, weights).sum(dim=1)).exp().mean()
    return found


def _weights(A: Float[Tensor, "words regions"], tau: float | None) -> Float[Tensor, "words regions"]:
    """Attention at a temperature; None: all of it on the first of the best regions."""
    return torch.eye(A.shape[1])[A.argmax(dim=1)] if tau is None else (A / tau).softmax(dim=1)


@torch.no_grad()
def _recall(images: Tokens, captions: Tokens, world: RetrievalData) -> dict[str, float]:
    found, ground = {}, _names_ground(world)
    groups = {"": np.ones(len(ground), bool), "_ground": ground, "_objects": ~ground}
    for coding, tau in TEMPERATURES.items():
        way = Alignment(coding="hard", pooling="lse") if tau is None else Alignment("regions", "soft", "lse", tau)
        blocks = zip(*(part.split(PICTURES_AT_ONCE) for part in images), strict=True)
        S = torch.cat([way.scores(vectors, captions.vectors, mask, captions.mask) for vectors, mask in blocks])
        hit = image_ranks(S.cpu(), world.image_of_caption) == 1
        found |= {f"{coding}_t2i_r1{name}": 100 * hit[some].mean() for name, some in groups.items() if some.any()}
    return found


def _names_ground(data: RetrievalData) -> Bool[np.ndarray, " captions"]:
    """Which captions name the ground."""
    said = known_truth(data).captions
    return np.array([any(word.kind == "ground" for word in caption.words) for caption in said])
