"""Captions to token ids: a vocabulary learnt from the training captions, or a pretrained model's own."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import BertWordPieceTokenizer
from tokenizers.trainers import WordPieceTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from itr_lib.data.offline import load_pretrained
from itr_lib.data.unicode import half_character


class TokenisedCaptions(NamedTuple):
    """Token ids of many captions, ``[CLS]`` and ``[SEP]`` included, padded to one width; mask: True = a real token."""

    ids: Int[np.ndarray, "captions tokens"]
    mask: Bool[np.ndarray, "captions tokens"]


SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def train_tokenizer(captions: Sequence[str], vocabulary_size: int = 8000) -> PreTrainedTokenizerFast:
    """A lower-case WordPiece vocabulary of at most ``vocabulary_size`` entries, learnt from the training captions.

    Give it training captions only: a word they do not hold must come out in pieces, or as ``[UNK]``.
    The same captions give the same vocabulary. Raises ``ValueError`` as :func:`tokenise` does.
    """
    _expect_whole_characters(captions)
    trained = BertWordPieceTokenizer(lowercase=True)
    normalise = trained._tokenizer.normalizer.normalize_str
    letters = sorted(set().union(*(normalise(caption) for caption in captions)) - {" "})
    # The trainer numbers inner letters in the order of a randomly seeded hash table and breaks ties by that number,
    # so two runs would learn two vocabularies. Naming these letters beforehand fixes their order.
    trainer = WordPieceTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[*SPECIAL_TOKENS.values(), *(f"##{letter}" for letter in letters)],
    )
    trained._tokenizer.train_from_iterator(captions, trainer)
    wordpiece = BertWordPieceTokenizer(vocab=trained.get_vocab(), lowercase=True)
    return PreTrainedTokenizerFast(tokenizer_object=wordpiece._tokenizer, **SPECIAL_TOKENS)


def load_tokenizer(name: str | os.PathLike) -> PreTrainedTokenizerBase:
    """The tokenizer of a pretrained model: a hub name such as ``"bert-base-uncased"``, a folder, or a packaged one.

    Raises ``OSError`` that says what to do instead, see :mod:`itr_lib.data.offline`.
    """
    return load_pretrained(AutoTokenizer, name, "tokenizer")


def tokenise(tokenizer: PreTrainedTokenizerBase, captions: Sequence[str], max_tokens: int = 64) -> TokenisedCaptions:
    """Token ids of all captions, padded to the longest; what exceeds ``max_tokens`` is cut off before ``[SEP]``.

    Raises:
        ValueError: names a caption that holds half a character (a lone surrogate), which no tokenizer takes.
    """
    _expect_whole_characters(captions)
    encoded = tokenizer(list(captions), padding=True, truncation=True, max_length=max_tokens, return_tensors="np")
    return TokenisedCaptions(encoded["input_ids"].astype(np.int32), encoded["attention_mask"].astype(bool))


def _expect_whole_characters(captions: Sequence[str]) -> None:
    for row, caption in enumerate(captions):
        if half := half_character(caption):
            raise ValueError(f"Caption {row}, {caption!r}, holds {half}, half a character: correct it, or leave it out")


def unknown_words(tokenizer: PreTrainedTokenizerBase, sentence: str) -> list[str]:
    """The words of a sentence that a trained tokenizer has only in pieces, or not at all: it never learnt them."""
    normaliser = getattr(tokenizer, "backend_tokenizer", None) and tokenizer.backend_tokenizer.normalizer
    words = re.findall(r"\w+", unicodedata.normalize("NFC", sentence).lower())
    spelled = {
        word: normaliser.normalize_str(word).strip() if normaliser else word for word in words
    }  # "mädchen": "madchen"
    return [word for word, plain in spelled.items() if tokenizer.tokenize(word) != [plain]]
