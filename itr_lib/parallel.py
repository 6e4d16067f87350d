"""Several processes that train one model: each encodes its share of every batch, all of them compute the whole loss.

Where a launcher started several (``torchrun``, ``accelerate launch``), each has the whole model and encodes its share
of the batch. :func:`gather_rows` then hands the encodings of the whole batch to everyone, so that a pair meets as many
negatives as it would in one process, and every process computes the same loss of them; objectives do not notice, since
they ask :class:`itr_lib.training_view.TrainingView`, whose encoders answer for the whole batch. Backward, a row's
gradients from all P processes are summed where the row was encoded: P times what it should be, since P processes
computed the same loss. :func:`average_gradients` takes that P out again, for encoders and for a weight behind them (a
temperature) alike, so that all processes make the step, up to rounding, that one process on the whole batch would make.
What is drawn at random (dropout, augmentation) is drawn anew in each process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Int, Shaped
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

PATIENCE = timedelta(minutes=10)  # for a process that does not answer; one that has ended is noticed at once
Kept = TypeVar("Kept")


@contextmanager
def together(device: str) -> Iterator[None]:
    """Inside, the processes of a launcher know each other; without a launcher, or inside already, nothing happens.

    Each takes the GPU of its number where the device is ``"cuda"``. After an error the group is left as it is: the
    process is about to end, which the others notice.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or world() > 1:
        yield
        return
    if device == "mps":
        raise ValueError("device is 'mps', which one process has for itself: start without torchrun, or use 'cpu'")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    yield
    dist.barrier()  # nobody hangs up while another still listens
    dist.destroy_process_group()


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if world() > 1 else 0


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world() > 1:
        dist.barrier()


def my_share(rows: Int[np.ndarray, " batch"]) -> Int[np.ndarray, " share"]:
    """The rows of a batch that this process encodes: parts differ by one at most, and follow each other by rank.

    Of fewer rows than processes the last processes get none. They encode the first once more; it comes behind the real
    ones when rows are gathered, so it can be cut off.
    """
    share = np.array_split(rows, world())[rank()]
    return share if len(share) else rows[:1]


def gather_rows(mine: Shaped[Tensor, "mine *rest"]) -> Shaped[Tensor, "all *rest_of_all"]:
    """The rows of every process, one process after the other, with gradient.

    Processes may have different numbers of rows, and rows of different width (axis 1): these are padded with zeros.
    """
    return _GatherRows.apply(mine) if world() > 1 else mine


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        shapes = torch.stack(_of_every_process(torch.tensor(mine.shape, device=mine.device)))
        ctx.rows, ctx.own = shapes[:, 0].tolist(), tuple(slice(length) for length in mine.shape)
        padded = mine.new_zeros(shapes.amax(dim=0).tolist())
        padded[ctx.own] = mine
        parts = _of_every_process(padded)
        return torch.cat([part[:rows] for part, rows in zip(parts, ctx.rows, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wanted: Tensor) -> Tensor:
        """Every process used every row, so what each wants of mine counts."""
        wanted = wanted.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(wanted)
        return wanted.split(ctx.rows)[rank()][ctx.own]


def _of_every_process(mine: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(mine) for _ in range(world())]
    dist.all_gather(parts, mine)
    return parts


def gather_objects(mine: Kept) -> list[Kept]:
    """What every process has, by rank."""
    if world() == 1:
        return [mine]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, mine)
    return found


def same_weights(model: nn.Module) -> None:
    """Give every process the weights and buffers of the first."""
    if world() > 1:
        state = model.state_dict()
        for value in state.values():
            dist.broadcast(value, src=0)
        model.load_state_dict(state)  # they are there already: this tells a queue that its number of keys may be new


def average_gradients(model: nn.Module) -> None:
    """Replace every gradient by its mean over the processes."""
    if world() > 1:
        for weight in model.parameters():
            if weight.requires_grad and weight.grad is not None:
                dist.all_reduce(weight.grad)
                weight.grad /= world()
