"""Questions of the pointing game: which tokens of which caption, and which regions show what they speak of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int, Shaped
from transformers import PreTrainedTokenizerBase

from itr_lib.data.dataset import RetrievalData, known_truth
from itr_lib.data.load import Splits
from itr_lib.data.photographs.entities import Phrases

WORD_KINDS = ("shape", "colour", "size", "texture", "position", "relation", "number")  # that speak of objects


@dataclass(frozen=True, eq=False)
class Questions:
    """Words or phrases with known regions, one row a question.

    Attributes:
        caption: row of the caption.
        start, stop: token positions ``start <= t < stop`` of the word in its tokenised caption; ``[CLS]`` is 0.
        right: True = a region that shows what the word speaks of; at least one a question.
        kind: what to report apart: ``"colour"``, ``"people"`` and the like.
        item: which word of its caption (scenes) or which phrase of the split (photographs) is asked for.
        dropped: how many questions could not be asked, by reason.
    """

    caption: Int[np.ndarray, " questions"]
    start: Int[np.ndarray, " questions"]
    stop: Int[np.ndarray, " questions"]
    right: Bool[np.ndarray, "questions regions"]
    kind: Shaped[np.ndarray, " questions"]
    item: Int[np.ndarray, " questions"]
    dropped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in ("caption", "start", "stop", "right", "kind", "item")}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the arrays of Questions differ in length: {lengths}")
        if (self.start < 0).any() or (self.stop <= self.start).any():
            raise ValueError("a question has no token: expected 0 <= start < stop")
        if not self.right.any(axis=1).all():
            raise ValueError(f"question {int(self.right.any(axis=1).argmin())} has no right region: leave it out")

    def __len__(self) -> int:
        return len(self.caption)


def questions_of(splits: Splits, tokenizer: PreTrainedTokenizerBase) -> Questions | None:
    """The questions of the test split, of scenes or of photographs with phrases; None where nothing is known."""
    if splits.test.truth is not None:
        return scene_questions(splits.test, tokenizer)
    if splits.phrases is not None:
        return phrase_questions(splits.test, tokenizer, splits.phrases)
    return None


def scene_questions(
    data: RetrievalData,
    tokenizer: PreTrainedTokenizerBase,
    kinds: Sequence[str] = ("shape", "colour", "size", "texture"),
    max_tokens: int = 64,
) -> Questions:
    """One question for each word of these kinds: its right regions show one of the objects it speaks of.

    ``max_tokens`` must be what the captions are tokenised with. Raises ``ValueError`` for data without truth,
    a kind that no word has, or a tokenizer that does not tell character offsets.
    """
    truth, unknown = known_truth(data), set(kinds) - set(WORD_KINDS)
    if unknown or isinstance(kinds, str):
        raise ValueError(f"kinds is {kinds!r}, expected some of {WORD_KINDS}")
    captions, spans, items, found, right = [], [], [], [], []
    for row, caption in enumerate(truth.captions):
        at, shown = 0, truth.region_object[data.image_of_caption[row]]
        for place, word in enumerate(caption.words):
            if word.kind in kinds and word.objects:
                captions.append(row)
                spans.append((at, at + len(word.text)))
                items.append(place)
                found.append(word.kind)
                right.append((shown[:, None] == word.objects).any(axis=1))
            at += len(word.text) + 1  # words are joined by single spaces
    if not found:
        raise ValueError(f"no word of {data.name!r}/{data.split!r} is of the kinds {list(kinds)}")
    asked = (np.array(captions), np.array(spans), np.array(right), np.array(found), np.array(items))
    return _questions(data, tokenizer, max_tokens, *asked)


def phrase_questions(
    data: RetrievalData, tokenizer: PreTrainedTokenizerBase, phrases: Phrases, max_tokens: int = 64
) -> Questions:
    """One question for each phrase of a split of photographs, see :func:`itr_lib.data.load_entities`."""
    if len(phrases.caption) and phrases.caption.max() >= len(data.captions):
        raise ValueError(
            f"a phrase is of caption {phrases.caption.max()}, {data.split!r} has {len(data.captions)}: another split?"
        )
    items = np.arange(len(phrases.caption))
    return _questions(data, tokenizer, max_tokens, phrases.caption, phrases.span, phrases.right, phrases.kind, items)


def _questions(data, tokenizer, max_tokens, caption, span, right, kind, item) -> Questions:
    """Find the tokens of each span, and leave out what cannot be asked."""
    start, stop, problem = token_spans(tokenizer, data.captions, caption, span, max_tokens)
    right = right & data.region_mask[data.image_of_caption[caption]]
    problem = np.where(right.any(axis=1), problem, "no right region")
    keep = problem == ""
    dropped = dict(Counter(problem[~keep].tolist()))
    return Questions(caption[keep], start[keep], stop[keep], right[keep], kind[keep], item[keep], dropped)


def token_spans(
    tokenizer: PreTrainedTokenizerBase,
    captions: Sequence[str],
    caption: Int[np.ndarray, " spans"],
    span: Int[np.ndarray, "spans 2"],
    max_tokens: int = 64,
) -> tuple[Int[np.ndarray, " spans"], Int[np.ndarray, " spans"], Shaped[np.ndarray, " spans"]]:
    """Token positions ``start``, ``stop`` of characters ``span[0]`` to ``span[1]`` of a caption, and what is wrong.

    By character offsets, so that words in several pieces and phrases of several words come out alike, and special
    tokens (no characters) never belong to one. What is wrong is ``""``, ``"cut off"`` (a part lies beyond
    ``max_tokens``) or ``"no token"``.
    """
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} does not tell character offsets: use a fast tokenizer")
    encoded = tokenizer(
        list(captions),
        padding=True,
        truncation=True,
        max_length=max_tokens,
        return_offsets_mapping=True,
        return_tensors="np",
    )
    offsets = encoded["offset_mapping"]  # (captions, tokens, 2), (0, 0) for special tokens and padding
    first, last = offsets[caption, :, 0], offsets[caption, :, 1]
    inside = (first < span[:, 1:]) & (last > span[:, :1])  # (spans, tokens)
    full = encoded["attention_mask"][caption].sum(axis=1) >= max_tokens
    cut = full & (last.max(axis=1) < span[:, 1])
    problem = np.where(cut, "cut off", np.where(inside.any(axis=1), "", "no token"))
    return inside.argmax(axis=1), inside.shape[1] - inside[:, ::-1].argmax(axis=1), problem
