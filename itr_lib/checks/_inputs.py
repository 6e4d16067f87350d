"""What cases are made of: random numbers that a seed decides, and masks (True: real) with padding anywhere."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from itr_lib.checks._mistakes import unit

_salt = ""  # graders draw the same cases with numbers that nobody has seen


@contextlib.contextmanager
def drawn_anew(salt: str) -> Iterator[None]:
    """Inside, every seed stands for another one, which ``salt`` decides."""
    global _salt
    before, _salt = _salt, salt
    try:
        yield
    finally:
        _salt = before


def drawn(seed: int) -> int:
    """The seed as it is, or the one that stands for it inside :func:`drawn_anew`."""
    return int.from_bytes(hashlib.sha256(f"{_salt} {seed}".encode()).digest()[:7], "big") if _salt else seed


def sizes(*shown: int) -> list[int]:
    """Sizes as shown; inside :func:`drawn_anew` one to three larger. A 1 stays, and equal ones stay equal."""
    if not _salt:
        return list(shown)
    chance = random.Random(f"{_salt} {shown}")
    larger = {size: size + chance.randint(1, 3) if size > 1 else size for size in sorted(set(shown))}
    return [larger[size] for size in shown]


def owners(shown: Sequence[int]) -> list[int]:
    """The picture of each caption as shown; inside :func:`drawn_anew` further pictures follow. One stays alone."""
    count = sizes(len(shown))[0] - len(shown) if len(set(shown)) > 1 else 0
    return [*shown, *range(max(shown, default=0) + 1, max(shown, default=0) + 1 + count)]


def longer(shown: list) -> list:
    """A list as shown; inside :func:`drawn_anew` with some of its first items again at its end. One stays alone."""
    return shown + shown[: sizes(len(shown))[0] - len(shown)]


def generator(seed: int) -> torch.Generator:
    """Chance for one case, apart from torch's own."""
    return torch.Generator().manual_seed(drawn(seed))


def normal(*shape: int, seed: int) -> Tensor:
    """Normally distributed numbers, float64."""
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def uniform(*shape: int, g: torch.Generator) -> Tensor:
    """Numbers between -1 and 1, as cosines are, float64."""
    return 2 * torch.rand(*shape, generator=g, dtype=torch.float64) - 1


def unit_vectors(*shape: int, seed: int) -> Tensor:
    """Vectors of length 1 along the last axis, float64."""
    return unit(normal(*shape, seed=seed))


def random_scores(size: int, seed: int) -> Tensor:
    """A (size, size) batch of scores between 0 and 1, float64."""
    return torch.rand(size, size, generator=generator(seed), dtype=torch.float64)


def mask_any_real(sets: int, width: int, g: torch.Generator) -> Tensor:
    """(sets, width): something real in every set, and nobody knows where."""
    mask = torch.rand(sets, width, generator=g) < 0.6
    mask[torch.arange(sets), torch.randint(width, (sets,), generator=g)] = True
    return mask


def mask_first_real(sets: int, width: int, seed: int) -> Tensor:
    """(sets, width): padding anywhere but in the first place."""
    mask = torch.rand(sets, width, generator=generator(seed)) < 0.6
    mask[:, 0] = True
    return mask


def mask_last_real(sets: int, width: int, seed: int) -> Tensor:
    """(sets, width): padding anywhere but in the last place; the first set begins with some, if it has two places."""
    mask = torch.rand(sets, width, generator=generator(seed)) < 0.6
    mask[:, -1] = True
    mask[0, 0] = width == 1
    return mask


class Copied(Tensor):
    """A kind of tensor of its own, which deepcopy keeps."""

    def __deepcopy__(self, memo: dict) -> Copied:
        return self.detach().clone()
