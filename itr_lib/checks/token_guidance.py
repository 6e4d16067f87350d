"""``token-guidance``, lesson 05.

The first output of an encoder over the real tokens, with or without a gradient to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks._inputs import Copied, mask_first_real, normal, sizes
from itr_lib.checks._mistakes import as_it_is, unit
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.encoders.regions import FirstToken
from itr_lib.models.tgdt import global_vectors

NEVER_CUT = (
    "with detach=True tokens come to on_top with their gradient: give it tokens.detach() (not its result: "
    "on_top must learn)"
)
ALWAYS_CUT = "with detach=False the tokens come to on_top without their gradient: detach them only when detach is True"
NOT_LEARNT = (
    "no gradient reaches on_top, so it cannot learn: detach what goes into it, do not call it under torch.no_grad()"
)
ATTENTION_MASK = (
    "the second argument of torch's encoders is another mask, of who may look at whom: name it, src_key_padding_mask="
)


class _OnTop(Copied):
    """A matrix that is called like torch's encoders: one attention over the real tokens, then the matrix.

    Being a tensor, the frame copies and casts it and differentiates by it, as by every input. Padding changes what
    the real tokens get.
    """

    joint = True  # whether it should get tokens with their gradient
    mixes = True

    def __call__(self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            raise AssertionError(ATTENTION_MASK)
        if self.requires_grad:
            self._expect_gradient(src)
        if not self.mixes:
            return 2 * src @ self.as_subclass(Tensor)
        logits = src @ src.mT / src.shape[-1]
        if src_key_padding_mask is not None:
            logits = logits.masked_fill(src_key_padding_mask[:, None], -torch.inf)
        return (src + 2 * logits.softmax(-1) @ src) @ self.as_subclass(Tensor)

    def _expect_gradient(self, src: Tensor) -> None:
        if not torch.is_grad_enabled():
            raise AssertionError(NOT_LEARNT)
        if self.joint != src.requires_grad:
            raise AssertionError(ALWAYS_CUT if self.joint else NEVER_CUT)


class _OnTopAlone(_OnTop):
    """The same, above tokens that it must leave alone."""

    joint = False


class _Doubles(_OnTop):
    """The docstring's, which only doubles its tokens."""

    mixes = False


EXAMPLE = Case(
    {
        "tokens": torch.tensor([[[3.0, 4.0], [1.0, 0.0]]], dtype=torch.float64),
        "mask": torch.ones(1, 2, dtype=torch.bool),
        "on_top": torch.eye(2, dtype=torch.float64).as_subclass(_Doubles),
        "detach": False,
    },
    worked=[[0.6, 0.8]],
)
SHAPES = [
    (4, 4, 3, False, "the batch has padding, with large numbers in it"),
    (3, 5, 4, True, "detach is True, and there is padding"),
    (1, 4, 5, True, "the batch has one sequence"),
    (2, 3, 4, False, ""),
    (3, 1, 3, False, "a sequence has one token"),
    (1, 5, 4, False, "the batch has one sequence"),
]


def guidance_cases() -> Iterator[Case]:
    """Padding with large numbers in it, with and without a gradient; one sequence, one token, no padding at all."""
    for seed, (*shape, detach, trap) in enumerate(SHAPES):
        batch, length, dim = sizes(*shape)
        mask = mask_first_real(batch, length, seed=400 + seed) if seed != 3 else torch.ones(batch, length).bool()
        mask[0, -1] = length == 1 or seed == 3
        tokens = normal(batch, length, dim, seed=410 + seed)
        inputs = {
            "tokens": torch.where(mask[..., None], tokens, 3 * tokens),
            "mask": mask,
            "on_top": normal(dim, dim, seed=420 + seed).as_subclass(_OnTopAlone if detach else _OnTop),
            "detach": detach,
        }
        yield Case(inputs, trap)


def guidance_specification(tokens: Tensor, mask: Tensor, on_top: Callable, detach: bool) -> Tensor:
    """Sequence by sequence, each without its padding: the first output over its length."""
    rows = []
    for sequence, is_real in zip(tokens, mask.tolist(), strict=True):
        kept = torch.stack([token for token, real in zip(sequence, is_real, strict=True) if real])
        first = on_top(kept.detach()[None] if detach else kept[None])[0, 0]
        rows.append(first / (first * first).sum().sqrt())
    return torch.stack(rows)


def _cut(tokens: Tensor, detach: bool) -> Tensor:
    return tokens.detach() if detach else tokens


def _first_token(out: Tensor, mask: Tensor) -> Tensor:
    return out[:, 0]


def guidance_with(
    tokens, mask, on_top, detach, cut=_cut, padding=torch.logical_not, read=_first_token, length=unit, before=None
) -> Tensor:
    """The global reading, with options to spoil it."""
    tokens = cut(tokens if before is None else before(tokens, mask), detach)
    return length(read(on_top(tokens, src_key_padding_mask=padding(mask)), mask))


def _no_padding(mask: Tensor) -> None:
    return None


def _without_gradient(tokens, mask, on_top, detach):
    with torch.no_grad():
        return guidance_with(tokens, mask, on_top, detach)


def _attention_mask(tokens, mask, on_top, detach):
    return unit(on_top(_cut(tokens, detach), ~mask)[:, 0])


def _last_real(out: Tensor, mask: Tensor) -> Tensor:
    places = torch.arange(mask.shape[1], device=mask.device).masked_fill(~mask, -1).amax(1)
    return out[torch.arange(len(out), device=out.device), places]


def _mean_of_real(out: Tensor, mask: Tensor) -> Tensor:
    return (out * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _root_of_mean(vectors: Tensor) -> Tensor:
    return vectors / vectors.square().mean(-1, keepdim=True).sqrt()


TOGGLES = {
    "padded tokens take part: give on_top src_key_padding_mask=~mask": {"padding": _no_padding},
    "the mask is turned round: here True is a real token, in torch's src_key_padding_mask it is one to leave out": {
        "padding": as_it_is
    },
    "this is the mean or the sum of all tokens that on_top returns, padding too: take the first, [:, 0]": {
        "read": lambda out, mask: out.mean(1)
    },
    "this is the mean or the sum of the real tokens that on_top returns: take the first, [:, 0]": {
        "read": _mean_of_real
    },
    "each token that on_top returns has length 1, and this is their mean: take the first, [:, 0]": {
        "read": lambda out, mask: F.normalize(out, dim=-1).mean(1),
        "length": as_it_is,
    },
    "this is the largest number of all tokens: take the first token, [:, 0]": {"read": lambda out, mask: out.amax(1)},
    "this is the last token, which may be padding: the first stands for the whole, [:, 0]": {
        "read": lambda out, mask: out[:, -1]
    },
    "this is the last real token: the first stands for the whole, [:, 0]": {"read": _last_real},
    "this is the token at place mask.sum() - 1, the last real one where padding comes last: the first stands for the "
    "whole, [:, 0]": {"read": lambda out, mask: out[torch.arange(len(out), device=out.device), mask.sum(1) - 1]},
    "this is the largest number of the real tokens: take the first token, [:, 0]": {
        "read": lambda out, mask: out.masked_fill(~mask[..., None], -torch.inf).amax(1)
    },
    "this is the second token: the first stands for the whole, [:, 0], and counting starts at 0": {
        "read": lambda out, mask: out[:, 1]
    },
    "these are all tokens of the first sequence: the first token of each is [:, 0], not [0]": {
        "read": lambda out, mask: out[0]
    },
    "these are all tokens: take the first of each sequence, [:, 0]": {"read": lambda out, mask: out},
    "these are the first numbers of all tokens, [:, :, 0]: the first token of each sequence is [:, 0]": {
        "read": lambda out, mask: out[:, :, 0]
    },
    "the vectors do not have length 1: divide each by its length": {"length": as_it_is},
    "you normalised over the batch (dim=0): each vector has its own length, over the last axis": {
        "length": lambda vectors: F.normalize(vectors, dim=0)
    },
    "you normalised over the tokens (dim=1) before you took the first: each vector has its own length, over the last "
    "axis": {"read": lambda out, mask: F.normalize(out, dim=1)[:, 0], "length": as_it_is},
    "you divided by the sum of absolute values: the length is the root of the sum of squares": {
        "length": lambda vectors: F.normalize(vectors, p=1, dim=-1)
    },
    "you divided by the square of the length: the length is the root of the sum of squares": {
        "length": lambda vectors: vectors / vectors.square().sum(-1, keepdim=True)
    },
    "you divided by the root of the mean of squares: the length is the root of their sum": {"length": _root_of_mean},
    "you divided by the largest number: the length is the root of the sum of squares": {
        "length": lambda vectors: vectors / vectors.abs().amax(-1, keepdim=True)
    },
    "a softmax is no length: divide each vector by the root of the sum of squares": {
        "length": lambda vectors: vectors.softmax(-1)
    },
    "you divided by the length of the whole result: each vector has its own": {
        "length": lambda vectors: vectors / vectors.norm()
    },
    "the tokens have length 1 before on_top: it takes them as they come, and its result gets length 1": {
        "before": lambda tokens, mask: unit(tokens)
    },
    "padded tokens became zeros, which changes nothing where on_top leaves them out, and does not replace "
    "src_key_padding_mask=~mask": {"before": lambda tokens, mask: tokens * mask[..., None], "padding": _no_padding},
}

GUIDANCE_MISTAKES = {
    ATTENTION_MASK: _attention_mask,
    "this is the first token as it came: on_top has not seen it, nor the others": (
        lambda tokens, mask, on_top, detach: unit(_cut(tokens, detach)[:, 0])
    ),
    "this is the mean of the tokens as they came: on_top has not seen them; take the first that it returns": (
        lambda tokens, mask, on_top, detach: unit(_mean_of_real(_cut(tokens, detach), mask))
    ),
    "on_top saw only the first token: give it all of them, and take the first of what it returns": (
        lambda tokens, mask, on_top, detach: unit(on_top(_cut(tokens, detach)[:, :1])[:, 0])
    ),
    "on_top was applied twice: once is enough": lambda tokens, mask, on_top, detach: unit(
        on_top(on_top(_cut(tokens, detach), src_key_padding_mask=~mask), src_key_padding_mask=~mask)[:, 0]
    ),
    "the first tokens were added to what on_top returns: take its result alone": lambda tokens, mask, on_top, detach: (
        unit((on_top(_cut(tokens, detach), src_key_padding_mask=~mask) + tokens)[:, 0])
    ),
}


def rehearsal() -> Inputs:
    """One side of a training step: 128 sequences under two layers, of which the last computes its first token alone."""
    on_top = FirstToken(128, 2, 4, 0.1, 256)
    mask = torch.arange(36) < torch.randint(10, 37, (128, 1), generator=torch.Generator().manual_seed(0))
    return {"tokens": normal(128, 36, 128, seed=0).float(), "mask": mask, "on_top": on_top, "detach": True}


EXERCISE = Exercise(
    "token-guidance",
    library=global_vectors,
    example=EXAMPLE,
    cases=guidance_cases,
    specification=guidance_specification,
    mistakes=GUIDANCE_MISTAKES,
    family=(guidance_with, TOGGLES),
    gradients=("on_top", "tokens"),
    rehearsal=Rehearsal(rehearsal, calls=1250),
)
