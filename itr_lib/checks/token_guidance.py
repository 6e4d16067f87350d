"""``token-guidance``, lesson 05.

The first output of an encoder over the real tokens, with or without a gradient to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks._inputs import Copied, mask_first_real, normal
from itr_lib.checks._mistakes import as_it_is, unit
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs

NEVER_CUT = "with detach=True the gradient still reaches tokens: give on_top tokens.detach()"
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

    def __call__(self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            raise AssertionError(ATTENTION_MASK)
        if self.requires_grad:
            self._expect_gradient(src)
        logits = src @ src.mT / src.shape[-1]
        if src_key_padding_mask is not None:
            logits = logits.masked_fill(src_key_padding_mask[:, None], -torch.inf)
        return (src + 2 * logits.softmax(-1) @ src) @ self.as_subclass(Tensor)

    def _expect_gradient(self, src: Tensor) -> None:
        if not torch.is_grad_enabled():
            raise AssertionError(NOT_LEARNT)
        if self.joint and not src.requires_grad:
            raise AssertionError(ALWAYS_CUT)
        if not self.joint and src.requires_grad:
            src.register_hook(_too_far)  # not yet wrong: the output may be detached


class _OnTopAlone(_OnTop):
    """The same, above tokens that it must leave alone."""

    joint = False


def _too_far(gradient: Tensor) -> None:
    raise AssertionError(NEVER_CUT)


def guidance_cases() -> Iterator[Inputs]:
    """Padding with large numbers in it, with and without a gradient; one sequence, one token, no padding at all."""
    for seed, (batch, length, dim, detach) in enumerate(
        [(4, 4, 3, False), (3, 5, 4, True), (1, 4, 5, True), (2, 3, 4, False), (3, 1, 3, False), (1, 5, 4, False)]
    ):
        mask = mask_first_real(batch, length, seed=400 + seed) if seed != 3 else torch.ones(batch, length).bool()
        mask[0, -1] = length == 1 or seed == 3
        tokens = normal(batch, length, dim, seed=410 + seed)
        yield {
            "tokens": torch.where(mask[..., None], tokens, 3 * tokens),
            "mask": mask,
            "on_top": normal(dim, dim, seed=420 + seed).as_subclass(_OnTopAlone if detach else _OnTop),
            "detach": detach,
        }


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


def _guidance(cut=_cut, padding=torch.logical_not, read=_first_token, length=unit) -> Callable:
    """Variants of the global reading."""

    def vectors(tokens, mask, on_top, detach):
        return length(read(on_top(cut(tokens, detach), src_key_padding_mask=padding(mask)), mask))

    return vectors


def _no_padding(mask: Tensor) -> None:
    return None


def _guidance_without_gradient(tokens, mask, on_top, detach):
    with torch.no_grad():
        return _guidance()(tokens, mask, on_top, detach)


def _last_real(out: Tensor, mask: Tensor) -> Tensor:
    places = torch.arange(mask.shape[1], device=mask.device).masked_fill(~mask, -1).amax(1)
    return out[torch.arange(len(out), device=out.device), places]


GUIDANCE_MISTAKES = {
    "padded tokens take part: give on_top src_key_padding_mask=~mask": _guidance(padding=_no_padding),
    "the mask is turned round: here True is a real token, in torch's src_key_padding_mask it is one to leave out": (
        _guidance(padding=as_it_is)
    ),
    "padded tokens became zeros, and on_top still looks at them: give it src_key_padding_mask=~mask": (
        lambda tokens, mask, on_top, detach: _guidance(padding=_no_padding)(
            tokens * mask[..., None], mask, on_top, detach
        )
    ),
    "this is the mean of all tokens that on_top returns, padding too: take the first, [:, 0]": _guidance(
        read=lambda out, mask: out.mean(1)
    ),
    "this is the mean of the real tokens that on_top returns: take the first, [:, 0]": _guidance(
        read=lambda out, mask: (out * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    ),
    "this is the largest number of all tokens: take the first token, [:, 0]": _guidance(
        read=lambda out, mask: out.amax(1)
    ),
    "this is the last token, which may be padding: the first stands for the whole, [:, 0]": _guidance(
        read=lambda out, mask: out[:, -1]
    ),
    "this is the last real token: the first stands for the whole, [:, 0]": _guidance(read=_last_real),
    "these are all tokens of the first sequence: the first token of each is [:, 0], not [0]": _guidance(
        read=lambda out, mask: out[0]
    ),
    "the vectors do not have length 1: divide each by its length": _guidance(length=as_it_is),
    "you normalised over the batch (dim=0): each vector has its own length, over the last axis": _guidance(
        length=lambda vectors: F.normalize(vectors, dim=0)
    ),
    "you normalised over the tokens (dim=1) before you took the first: each vector has its own length, over the last "
    "axis": _guidance(read=lambda out, mask: F.normalize(out, dim=1)[:, 0], length=as_it_is),
    "you divided by the sum of absolute values: the length is the root of the sum of squares": _guidance(
        length=lambda vectors: F.normalize(vectors, p=1, dim=-1)
    ),
    "you divided by the length of the whole result: each vector has its own": _guidance(
        length=lambda vectors: vectors / vectors.norm()
    ),
    "the tokens have length 1 before on_top: it takes them as they come, and its result gets length 1": _guidance(
        cut=lambda tokens, detach: unit(_cut(tokens, detach))
    ),
    "this is the first token as it came: on_top has not seen it, nor the others": (
        lambda tokens, mask, on_top, detach: unit(_cut(tokens, detach)[:, 0])
    ),
    "on_top saw only the first token: give it all of them, and take the first of what it returns": (
        lambda tokens, mask, on_top, detach: unit(on_top(_cut(tokens, detach)[:, :1])[:, 0])
    ),
    NEVER_CUT: _guidance(cut=lambda tokens, detach: tokens),
    ALWAYS_CUT: _guidance(cut=lambda tokens, detach: tokens.detach()),
    NOT_LEARNT: _guidance_without_gradient,
}

EXERCISE = Exercise(
    "token-guidance", guidance_cases, guidance_specification, GUIDANCE_MISTAKES, gradients=("on_top", "tokens")
)
