"""Negatives beyond the batch: key encoders that follow slowly, and a queue of the keys they made.

Momentum contrast (MoCo, He et al., CVPR 2020, section 3), as USER uses it for images and captions (Zhang et al.,
IEEE TIP 2024).
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from itr_lib.validation import expect_count, expect_dims, expect_float, expect_shape

NO_ID = -1  # of a key that came without one: it equals the id of no image
Holder = TypeVar("Holder")


def key_encoder(encoder: nn.Module) -> nn.Module:
    """A copy of an encoder that takes no gradient: what :func:`momentum_update` moves."""
    follower = copy.deepcopy(encoder).requires_grad_(False)
    for part in follower.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()  # cuDNN warns of weights that are not in one block, as those of a copy
    return follower


@torch.no_grad()
def momentum_update(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """Move the weights of ``target`` towards those of ``source``: ``target <- m target + (1 - m) source``, in place.

    Buffers (running means and the like) are copied. What the target was n updates ago still counts ``m ** n``:
    0.999 remembers about a thousand steps.

    Raises:
        ValueError: for a momentum outside 0..1, or modules whose weights differ in name or shape.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum is {momentum}, expected a number from 0 (a plain copy) to 1 (never move)")
    if _shapes(target) != _shapes(source):
        raise ValueError("target and source differ in the names or shapes of their weights: expected the same module")
    followers = dict((*target.named_parameters(), *target.named_buffers()))
    for name, leader in source.named_parameters():
        followers[name].lerp_(leader.to(followers[name]), 1 - momentum)
    for name, leader in source.named_buffers():
        followers[name].copy_(leader)


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in (*module.named_parameters(), *module.named_buffers())}


def to_device(holder: Holder, device: str) -> Holder:
    """Bring the tensors and modules among an object's attributes to a device; returns the object.

    For a queue that is no module, such as the one that a learner writes: its storage must stand where the keys do.
    """
    for name, value in list(vars(holder).items()):
        if isinstance(value, Tensor | nn.Module):
            setattr(holder, name, value.to(device))
    return holder


class FeatureQueue(nn.Module):
    """The last ``size`` keys, first in, first out, each with the id of its image.

    A ring buffer: new keys overwrite the oldest in place. All of it, how many keys came included, is in buffers, so
    that it is saved and restored with the model.

    Raises:
        ValueError: for a size or dim that is no whole number of at least 1.
    """

    stored: Float[Tensor, "size dim"]
    owners: Int[Tensor, " size"]
    came: Int[Tensor, ""]

    def __init__(self, size: int, dim: int):
        super().__init__()
        expect_count("size", size)
        expect_count("dim", dim)
        self.size, self.dim = int(size), int(dim)
        self.register_buffer("stored", torch.zeros(self.size, self.dim))
        self.register_buffer("owners", torch.full((self.size,), NO_ID))
        self.register_buffer("came", torch.zeros((), dtype=torch.long))  # keys so far; the next goes to came % size
        self._read: tuple[Tensor, int, int] | None = None

    def _came(self) -> int:
        """The number in ``came``, which is read once: later only where others than :meth:`enqueue` have changed it.

        The host waits for a GPU to read it. torch counts how often a tensor was changed in place.
        """
        if self._read is None or self._read[0] is not self.came or self._read[1] != self.came._version:
            self._read = (self.came, self.came._version, int(self.came))
        return self._read[2]

    @torch.no_grad()
    def enqueue(self, keys: Float[Tensor, "new dim"], ids: Integer[Tensor, " new"] | None = None) -> None:
        """Add keys, any number of them; of more than ``size`` the last ones stay. They are copied, without gradient.

        Args:
            keys: (n, dim); stored in the queue's own dtype.
            ids: (n,) whole numbers from 0, which image each key belongs to; None: unknown.

        Raises:
            ValueError: when shapes or types do not fit.
        """
        expect_dims("keys", keys, "new", "dim")
        expect_float("keys", keys)
        expect_shape("keys", keys, (len(keys), self.dim), f"this queue holds vectors of {self.dim} numbers")
        if ids is None:
            ids = torch.full((len(keys),), NO_ID, device=self.owners.device)
        expect_shape("ids", ids, (len(keys),), "one for each key")
        if ids.is_floating_point() or ids.dtype == torch.bool:
            raise ValueError(f"ids holds {ids.dtype}, expected whole numbers")
        came, new = self._came(), min(len(keys), self.size)
        places = torch.arange(came + len(keys) - new, came + len(keys), device=self.stored.device) % self.size
        self.stored[places] = keys[len(keys) - new :].to(self.stored)
        self.owners[places] = ids[len(keys) - new :].to(self.owners)
        self.came += len(keys)
        self._read = (self.came, self.came._version, came + len(keys))

    @property
    def keys(self) -> Float[Tensor, "filled dim"]:
        """The keys that came, oldest first. A copy: backward needs what the loss saw, :meth:`enqueue` overwrites."""
        return self.stored[self._oldest_first()]

    @property
    def ids(self) -> Int[Tensor, " filled"]:
        """The image of each key, in the same order; -1 where it came without."""
        return self.owners[self._oldest_first()]

    def __len__(self) -> int:
        return min(self._came(), self.size)

    def _oldest_first(self) -> Int[Tensor, " filled"]:
        came = self._came()
        return torch.arange(max(0, came - self.size), came, device=self.stored.device) % self.size
