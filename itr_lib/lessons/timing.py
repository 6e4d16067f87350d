"""How long a call takes, and what it keeps: for the lessons that compare costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from itr_lib.clock import seconds
from itr_lib.data.dataset import RetrievalData
from itr_lib.encoders.tokens import Encoded
from itr_lib.inference import encode, rows_of


def best_time(function: Callable[[], Tensor], repeats: int = 4) -> float:
    """Seconds of the fastest of ``repeats`` calls, after one that warms up; a GPU is waited for."""
    return min([seconds(function) for _ in range(repeats + 1)][1:])


def kept_bytes(function: Callable[..., Tensor], *inputs: Tensor) -> int:
    """Bytes that autograd keeps between the forward and the backward pass of ``function``, its inputs not counted."""
    inputs = tuple(tensor.detach().clone().requires_grad_(True) for tensor in inputs)
    own, kept = {tensor.data_ptr() for tensor in inputs}, {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function(*inputs)
    return sum(kept.values())


def bill(
    ways: Mapping[str, Callable[..., Tensor]],
    inputs: Sequence[Tensor],
    loss: Callable[[Tensor], Tensor] = torch.sum,
    unit: float | None = None,
    repeats: int = 4,
) -> pd.DataFrame:
    """What several ways to compute one thing cost: a row a way.

    Columns: ``forward``, ``and backward`` (with ``loss`` of what came out differentiated by the inputs), both in
    milliseconds or, with a ``unit`` of so many seconds, in multiples of it; ``kept (MiB)`` for the backward pass.
    """

    def there_and_back(function: Callable[..., Tensor]) -> Tensor:
        given = [tensor.detach().clone().requires_grad_(True) for tensor in inputs]
        loss(function(*given)).backward()
        return given[0].grad

    scale = 1e-3 if unit is None else unit
    rows = {}
    for name, function in ways.items():
        with torch.no_grad():
            forward = best_time(lambda function=function: function(*inputs), repeats)
        both = best_time(lambda function=function: there_and_back(function), repeats)
        rows[name] = [forward / scale, both / scale, kept_bytes(function, *inputs) / 2**20]
    units = ["forward (ms)", "and backward (ms)"] if unit is None else ["forward", "and backward"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*units, "kept (MiB)"]).round(1)


def milliseconds(ask: Callable[[Any], object], queries: Sequence[Any], warm: int = 5) -> float:
    """The median time of ``ask(query)`` of all queries, one by one; the first ``warm`` were asked once before."""
    times = [seconds(partial(ask, query)) for query in [*queries[:warm], *queries]]
    return 1e3 * float(np.median(times[len(queries[:warm]) :]))


@torch.inference_mode()
def query_milliseconds(
    models: Mapping[str, nn.Module],
    tokenizer: PreTrainedTokenizerBase,
    data: RetrievalData,
    device: str = "cpu",
    queries: int = 100,
) -> dict[str, float]:
    """What it takes a caption to rank all images and name the first ten, by model: the median in milliseconds.

    ``queries`` captions ask one by one, as people do who search; all images and captions are encoded beforehand.
    """
    rows = np.linspace(0, len(data.captions) - 1, min(queries, len(data.captions)), dtype=int)
    times = {}
    for name, model in models.items():
        images, captions = encode(model.to(device), tokenizer, data, device=device)

        def first_ten(caption: Encoded, model: nn.Module = model, images: Encoded = images) -> list:
            scores = model.scores(images, caption)[:, 0]
            return scores.topk(min(10, len(scores))).indices.tolist()

        times[name] = milliseconds(first_ten, [rows_of(captions, torch.tensor([row])) for row in rows])
    return times
