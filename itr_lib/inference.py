"""A trained model over a whole split: its vectors, its score matrix, its metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from itr_lib.data.batches import caption_batch, image_batch
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.tokenisation import TokenisedCaptions, tokenise
from itr_lib.encoders.tokens import Encoded
from itr_lib.evaluation import RetrievalMetrics, mean_over_folds, retrieval_metrics
from itr_lib.models.contract import Kind, RetrievalModel, TwoStageModel


@torch.no_grad()
def encode(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    data: RetrievalData,
    *,
    device: str = "cpu",
    batch_size: int = 256,
    tokens: TokenisedCaptions | None = None,
) -> tuple[Encoded, Encoded]:
    """Every image and every caption of a split through its encoder, in evaluation mode; ``(images, captions)``.

    What comes back is what the model's encoders return: a matrix with a vector a row, or
    :class:`itr_lib.encoders.tokens.Tokens`. Who encodes a split often gives its ``tokens``, all of its captions in
    their order; else they are made here.

    Raises:
        ValueError: when there are more or fewer tokenised captions than captions, or the model keeps no contract.
    """
    if tokens is None:
        tokens = tokenise(tokenizer, data.captions)
    if len(tokens.ids) != len(data.captions):
        raise ValueError(f"tokens holds {len(tokens.ids)} captions, expected the split's {len(data.captions)}")
    asked = expect_contract(model)
    # Captions of like length go together, so that little padding is computed; then back to their order.
    order = np.argsort(tokens.mask.sum(axis=1), kind="stable")
    look = getattr(model, "backbone", lambda regions: regions)  # of pictures, where a model looks at them itself
    with _evaluating(model):
        images = [asked.encode_images(look(image_batch(data, rows, device))) for rows in _chunks(len(data), batch_size)]
        captions = [
            asked.encode_captions(caption_batch(tokens, order[rows], device))
            for rows in _chunks(len(data.captions), batch_size)
        ]
    back = torch.from_numpy(np.argsort(order)).to(device)
    return _joined(images), rows_of(_joined(captions), back)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards, also after an error, each part is in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def rows_of(encoded: Kind, rows: Int[Tensor, " some"]) -> Kind:
    """Some rows of what an encoder returned."""
    if isinstance(encoded, Tensor):
        return encoded[rows]
    return encoded._make(part[rows] for part in encoded)


def _joined(parts: Sequence[Kind]) -> Kind:
    """Batches one after the other, padded to the widest."""
    first = parts[0]
    if isinstance(first, Tensor):
        return _stacked([part for part in parts if isinstance(part, Tensor)])
    return first._make(_stacked(column) for column in zip(*parts, strict=True))


def _stacked(parts: Sequence[Tensor]) -> Shaped[Tensor, "rows *rest"]:
    width = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, 0) * (part.ndim - 2) + (0, width - part.shape[1])) for part in parts])


@torch.no_grad()
def score(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    data: RetrievalData,
    *,
    device: str = "cpu",
    tokens: TokenisedCaptions | None = None,
) -> Float[Tensor, "images captions"]:
    """The score matrix of a split, on the CPU; ``tokens`` as for :func:`encode`."""
    return expect_contract(model).scores(*encode(model, tokenizer, data, device=device, tokens=tokens)).float().cpu()


def evaluate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    data: RetrievalData,
    *,
    device: str = "cpu",
    tokens: TokenisedCaptions | None = None,
    folds: int = 1,
) -> dict[str, float]:
    """Retrieval metrics of a split, see :func:`itr_lib.evaluation.retrieval_metrics`; ``tokens`` as for ``encode``.

    With ``folds`` they are the mean over consecutive folds of images, 5 of them in COCO's 1K protocol; then no score
    is made between folds.
    """
    if folds == 1:
        scores = score(model, tokenizer, data, device=device, tokens=tokens)
        return retrieval_metrics(scores, data.image_of_caption).as_dict()
    asked, encoded = expect_contract(model), encode(model, tokenizer, data, device=device, tokens=tokens)
    images, captions = cast(Any, encoded)

    @torch.no_grad()
    def measure(rows: Tensor, columns: Tensor, own: Tensor) -> RetrievalMetrics:
        scores = asked.scores(rows_of(images, rows.to(device)), rows_of(captions, columns.to(device)))
        return retrieval_metrics(scores.float().cpu(), own)

    return mean_over_folds(len(data), data.image_of_caption, folds, measure).as_dict()


@torch.no_grad()
def readings_of(model: nn.Module, images: Encoded, captions: Encoded) -> dict[str, Float[Tensor, "images captions"]]:
    """The scores of a model, under the name ``""``, and of one with two readings each: ``"global"``, ``"local"``."""
    sides = cast(Any, (images, captions))
    if not isinstance(model, TwoStageModel):
        return {"": expect_contract(model).scores(*sides).float().cpu()}
    whole, local = (part(*sides).float().cpu() for part in (model.global_scores, model.local_scores))
    return {"": whole + model.local_weight * local, "global": whole, "local": local}


def expect_contract(model: nn.Module) -> RetrievalModel:
    """The model, if it can encode and score. Raises ``ValueError``, also for one whose wrapper hides its methods."""
    if isinstance(model, RetrievalModel):
        return model
    inner = getattr(model, "module", None)
    way_out = "; several processes need no wrapper: pass its .module" if isinstance(inner, RetrievalModel) else ""
    raise ValueError(f"model is a {type(model).__name__}, expected encode_images, encode_captions and scores{way_out}")


def _chunks(total: int, size: int) -> Iterator[Int[np.ndarray, " some"]]:
    return (np.arange(start, min(start + size, total)) for start in range(0, total, size))
