"""How long a call takes, and what it keeps: for the lessons that compare costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from itr_lib.data.dataset import RetrievalData
from itr_lib.encoders.tokens import Encoded
from itr_lib.inference import encode, rows_of


def best_time(function: Callable[[], Tensor], repeats: int = 4) -> float:
    """Seconds of the fastest of ``repeats`` calls, after one that warms up; the result is waited for on a GPU too."""
    times = []
    for _ in range(repeats + 1):
        began = perf_counter()
        function().sum().item()  # a GPU answers only when it is asked for a number
        times.append(perf_counter() - began)
    return min(times[1:])


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


@torch.inference_mode()
def time_of_all(function: Callable[[Any], Tensor], images: Encoded, budget: float = 40.0) -> tuple[float, int]:
    """Seconds of ``function`` on all of ``images``, and on how many it was timed.

    ``images`` is what :func:`itr_lib.inference.encode` returned. Where all of them would take longer than ``budget``
    seconds, some are timed, and the rest is added in proportion.
    """
    total = len(images if isinstance(images, Tensor) else images[0])
    few = max(1, total // 50)

    def first(count: int) -> Any:
        return rows_of(images, torch.arange(count))

    guess = best_time(lambda: function(first(few)), repeats=1) * total / few
    timed = total if guess < budget else max(1, int(total * budget / 2 / guess))
    some = first(timed)
    if guess < budget / 20:
        return best_time(lambda: function(some)), timed
    began = perf_counter()
    function(some).sum().item()
    return (perf_counter() - began) * total / timed, timed


def milliseconds(ask: Callable[[Any], object], queries: Sequence[Any], warm: int = 5) -> float:
    """The median time of ``ask(query)`` of all queries, one by one; the first ``warm`` were asked once before."""
    times = []
    for query in [*queries[:warm], *queries]:
        began = perf_counter()
        ask(query)
        times.append(perf_counter() - began)
    return 1e3 * float(np.median(times[len(queries[:warm]) :]))


def query_milliseconds(
    models: Mapping[str, nn.Module], tokenizer: PreTrainedTokenizerBase, data: RetrievalData, device: str = "cpu"
) -> dict[str, float]:
    """What a caption's ranking of all images costs by model, in milliseconds; everything is encoded beforehand."""
    times = {}
    for name, model in models.items():
        images, captions = encode(model.to(device), tokenizer, data, device=device)
        seconds, _ = time_of_all(lambda some, model=model, captions=captions: model.scores(some, captions), images, 8.0)
        times[name] = 1e3 * seconds / len(data.captions)
    return times
