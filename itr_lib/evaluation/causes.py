"""What makes a caption hard: recall apart for captions that count, negate, say where, or use rare words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from itr_lib.evaluation.inputs import as_tensor
from itr_lib.evaluation.relevance import words_of

CAUSES: dict[str, set[str]] = {
    "counting": {"two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "dozen", "several", "many",
                 "few", "both", "pair"},
    "negation": {"no", "not", "without", "nobody", "none", "nothing", "never", "neither", "nor"},
    "relations": {"above", "around", "behind", "below", "beneath", "beside", "between", "front", "inside", "left",
                  "near", "next", "opposite", "over", "right", "under", "underneath"},
}  # fmt: skip
NONE = "none"  # what captions without any cause are called


def rare_words(captions: Sequence[str], training_captions: Sequence[str], at_most: int = 5) -> set[str]:
    """The words of ``captions`` that stand ``at_most`` times in all training captions together, or never."""
    seen = Counter(word for caption in training_captions for word in words_of(caption))
    return {word for caption in captions for word in words_of(caption) if seen[word] <= at_most}


def recall_by_cause(
    captions: Sequence[str],
    hits: Bool[np.ndarray, " captions"] | Bool[Tensor, " captions"],
    causes: Mapping[str, Collection[str]],
) -> dict[str, tuple[float, int]]:
    """Recall in percent, and the number of captions, of each cause: those that hold one of its words.

    A caption with several causes counts for each of them; one with no cause is in the group ``"none"``, which comes
    last. A group that no caption is in has no recall, and is left out. Causes meet in captions, and rare words stand
    in long ones: that a group is found less often does not say that its words are the reason.

    Args:
        captions: the queries.
        hits: whether each found its match.
        causes: words in lower case by the name of what they stand for, such as :data:`CAUSES`.

    Raises:
        ValueError: for hits that are not one for each caption, or a cause that is called ``"none"``.
    """
    found = as_tensor("hits", hits).cpu().numpy().astype(bool)
    if found.shape != (len(captions),):
        raise ValueError(f"hits has shape {found.shape}, expected ({len(captions)},), one for each caption")
    if NONE in causes:
        raise ValueError(f"a cause is called {NONE!r}, as captions without any cause are: give it another name")
    words = [set(words_of(caption)) for caption in captions]
    groups = {cause: np.array([not own.isdisjoint(some) for own in words]) for cause, some in causes.items()}
    groups[NONE] = ~np.any([*groups.values(), np.zeros(len(captions), bool)], axis=0)
    return {
        cause: (100 * float(found[inside].mean()), int(inside.sum()))
        for cause, inside in groups.items()
        if inside.any()
    }
