"""Graded relevance from words: how much of an image's captions a query caption says too (ROUGE-L).

ROUGE-L (Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004) compares two sentences by their longest
common subsequence of words, LCS: precision is LCS over the words of the query, recall LCS over those of the
reference. Words of a-z are what the package ``rouge-score`` makes of a sentence without stemming; other scripts, which
it drops, have words too (:func:`words_of`). Millions of pairs take it half an hour, so the LCS comes from
``rapidfuzz``, with the same numbers; the tests hold one against the other.

TERAN (Messina et al., ACM TOMM 17(4), 2021) reports NDCG@25 with this relevance. Its released code takes neither the
mean nor the maximum of five F-measures: it takes the best precision and the best recall over the five captions, each
on its own, and then one F-measure with beta = 1.2, as the COCO caption server does (Chen et al., arXiv 1504.00325).
That is followed here. Two things differ: the release splits at blanks only, so that "dog." is not "dog", and its gain
is 2^relevance - 1, where :func:`itr_lib.evaluation.ndcg` has a linear one.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from rapidfuzz import process
from rapidfuzz.distance import LCSseq

from itr_lib.data.dataset import RetrievalData
from itr_lib.progress import progress_bar

TERAN_BETA = 1.2
WORD = re.compile("[a-z0-9]+")
NO_BLANKS = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")  # how letters are named
PAIRS_AT_ONCE = 4_000_000  # keeps the working arrays below some 150 MB
PAIRS_WORTH_A_BAR = 100_000_000  # a few seconds


def rouge_relevance(
    data: RetrievalData,
    captions: Int[np.ndarray, " queries"] | Sequence[int] | None = None,
    *,
    beta: float = TERAN_BETA,
) -> Float[np.ndarray, "queries images"]:
    """ROUGE-L of query captions against the captions of every image, from 0 to 1; a caption's own image has 1.

    With P and R the best precision and the best recall over an image's captions, the relevance is
    ``(1 + beta^2) P R / (R + beta^2 P)``, and 0 where nothing is shared. With one caption an image and ``beta=1``
    it is the F-measure that ``rouge-score`` gives.

    Args:
        data: the split whose images are ranked.
        captions: (Q,) rows of ``data.captions`` that ask; None: all of them, in their order.
        beta: how much recall counts against precision; TERAN's 1.2 leans to recall.

    Returns:
        (Q, N) float64: 8 bytes a pair, 40 MB for 5,000 queries and 1,000 images.

    Raises:
        ValueError: for a caption row that does not exist, or a beta that is not above 0.
    """
    queries = _query_rows(data, captions)
    if not beta > 0:
        raise ValueError(f"beta is {beta}, expected a number above 0")
    order = np.argsort(data.image_of_caption, kind="stable")  # the captions of an image side by side
    starts = np.searchsorted(data.image_of_caption[order], np.arange(len(data)))
    texts = _as_symbols(data.captions)
    references = [texts[c] for c in order]
    relevance = np.zeros((len(queries), len(data)))
    block = max(1, PAIRS_AT_ONCE // len(references))
    show = len(queries) * len(references) > PAIRS_WORTH_A_BAR
    with progress_bar(len(queries), "ROUGE-L", "captions", show=show) as bar:
        for start in range(0, len(queries), block):
            asking = [texts[c] for c in queries[start : start + block]]
            precision, recall = _best_overlap(asking, references, starts)
            relevance[start : start + block] = _f_measure(precision, recall, beta)
            bar.update(len(asking))
    return relevance


def words_of(text: str) -> list[str]:
    """A sentence's words: runs of letters and digits in any script, in lower case.

    Of a-z and 0-9 these are the words of ``rouge-score`` without stemming, which knows no other letters: "Mädchen" is
    two words to it, and a caption in Greek none. Accents count, however they are stored. Where writing puts no blank
    between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each letter stands for one.
    """
    if text.isascii():
        return WORD.findall(text.lower())
    return "".join(_spaced(c) for c in unicodedata.normalize("NFKC", text.casefold())).split()


@functools.cache
def _spaced(character: str) -> str:
    """A letter (alone, where its script has no blanks), its mark or a digit; else a blank, or nothing if invisible."""
    kind = unicodedata.category(character)
    if kind == "Cf":  # joiners and soft hyphens inside a word
        return ""
    if kind[0] not in "LMN":
        return " "
    alone = kind[0] == "L" and unicodedata.name(character, "").startswith(NO_BLANKS)
    return f" {character}" if alone else character


def _query_rows(
    data: RetrievalData, captions: Int[np.ndarray, " queries"] | Sequence[int] | None
) -> Int[np.ndarray, " queries"]:
    rows = np.arange(len(data.captions)) if captions is None else np.asarray(captions)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(f"captions has shape {rows.shape} and type {rows.dtype}, expected a list of caption rows")
    if rows.size and not 0 <= rows.min() <= rows.max() < len(data.captions):
        raise ValueError(f"captions names a row outside 0..{len(data.captions) - 1}")
    return rows.astype(int)


def _as_symbols(texts: Sequence[str]) -> list[str]:
    """Each text as a string with one character a word: what the LCS compares fastest, and exactly."""
    symbols: dict[str, str] = {}
    return ["".join(symbols.setdefault(word, chr(len(symbols) + 1)) for word in words_of(text)) for text in texts]


def _best_overlap(
    queries: Sequence[str], references: Sequence[str], starts: Int[np.ndarray, " images"]
) -> tuple[Float[np.ndarray, "queries images"], Float[np.ndarray, "queries images"]]:
    """Best precision and best recall of each query over the references of an image, which begin at ``starts``."""
    common = process.cdist(queries, references, scorer=LCSseq.similarity, dtype=np.uint32, workers=1)  # (Q, M)
    asked = np.maximum([len(q) for q in queries], 1)  # an empty text shares nothing: 0 / 1
    given = np.maximum([len(r) for r in references], 1)
    precision = np.maximum.reduceat(common, starts, axis=1) / asked[:, None]  # (Q, M) -> (Q, N)
    recall = np.maximum.reduceat(common / given, starts, axis=1)
    return precision, recall


def _f_measure(
    precision: Float[np.ndarray, "queries images"], recall: Float[np.ndarray, "queries images"], beta: float
) -> Float[np.ndarray, "queries images"]:
    below = recall + beta**2 * precision
    return (1 + beta**2) * precision * recall / np.where(below > 0, below, 1)
