"""How regions and words meet in a score, as one value that a model, its index and the index's file share."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from itr_lib.similarity.hard_and_soft import CODE_POOLINGS, CODINGS
from itr_lib.similarity.scores import ATTENDED, alignment_scores
from itr_lib.validation import expect_choice, expect_positive


@dataclass(frozen=True)
class Alignment:
    """The options of :func:`itr_lib.similarity.alignment_scores`, which explains them; by default TERAN's MrSw.

    ``Alignment(**TERAN_POOLING["Symm"])`` is one of TERAN's others.

    Raises:
        ValueError: for an option that ``alignment_scores`` does not have.
    """

    attend: str = "regions"
    coding: str = "hard"
    pooling: str = "sum"
    temperature: float = 0.1
    beta: float = 0.1

    def __post_init__(self) -> None:
        expect_choice("attend", self.attend, ATTENDED)
        expect_choice("coding", self.coding, CODINGS)
        expect_choice("pooling", self.pooling, CODE_POOLINGS)
        for name in ("temperature", "beta"):
            expect_positive(name, getattr(self, name))
            object.__setattr__(self, name, float(getattr(self, name)))  # numpy's, too, can go into an index's file

    def scores(
        self,
        regions: Float[Tensor, "images regions dim"],
        words: Float[Tensor, "captions words dim"],
        region_mask: Bool[Tensor, "images regions"] | None = None,
        word_mask: Bool[Tensor, "captions words"] | None = None,
    ) -> Float[Tensor, "images captions"]:
        """Every image against every caption; masks: True = a real element, None = all are."""
        return alignment_scores(regions, words, region_mask, word_mask, **asdict(self))


MRSW = Alignment()
