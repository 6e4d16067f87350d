"""A trained model over a whole split: its vectors, its score matrix, its metrics."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from itr_lib.data.batches import caption_batch, image_batch
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.tokenisation import TokenisedCaptions, tokenise
from itr_lib.encoders.tokens import Encoded
from itr_lib.evaluation import retrieval_metrics


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
        ValueError: when there are more or fewer tokenised captions than captions.
    """
    if tokens is None:
        tokens = tokenise(tokenizer, data.captions)
    if len(tokens.ids) != len(data.captions):
        raise ValueError(f"tokens holds {len(tokens.ids)} captions, expected the split's {len(data.captions)}")
    training = model.training
    model.eval()
    images = [model.encode_images(image_batch(data, rows, device)) for rows in _chunks(len(data), batch_size)]
    # Captions of like length go together, so that little padding is computed; then back to their order.
    order = np.argsort(tokens.mask.sum(axis=1), kind="stable")
    captions = [
        model.encode_captions(caption_batch(tokens, order[rows], device))
        for rows in _chunks(len(data.captions), batch_size)
    ]
    model.train(training)
    back = torch.from_numpy(np.argsort(order)).to(device)
    return _joined(images), rows_of(_joined(captions), back)


def rows_of(encoded: Encoded, rows: Int[Tensor, " some"]) -> Encoded:
    """Some rows of what an encoder returned."""
    if isinstance(encoded, Tensor):
        return encoded[rows]
    return type(encoded)(*(rows_of(part, rows) for part in encoded))


def _joined(parts: list[Encoded]) -> Encoded:
    """Batches one after the other, padded to the widest."""
    if isinstance(parts[0], Tensor):
        width = max(part.shape[1] for part in parts)
        return torch.cat([F.pad(part, (0, 0) * (part.ndim - 2) + (0, width - part.shape[1])) for part in parts])
    return type(parts[0])(*(_joined(list(column)) for column in zip(*parts, strict=True)))


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
    return model.scores(*encode(model, tokenizer, data, device=device, tokens=tokens)).float().cpu()


def evaluate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    data: RetrievalData,
    *,
    device: str = "cpu",
    tokens: TokenisedCaptions | None = None,
) -> dict[str, float]:
    """Retrieval metrics of a split, see :func:`itr_lib.evaluation.retrieval_metrics`; ``tokens`` as for ``encode``."""
    scores = score(model, tokenizer, data, device=device, tokens=tokens)
    return retrieval_metrics(scores, data.image_of_caption).as_dict()


def _chunks(total: int, size: int):
    return (np.arange(start, min(start + size, total)) for start in range(0, total, size))
