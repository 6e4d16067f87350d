"""What the rest of the library asks of a model, so that it need not know which one it is."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from itr_lib.data.batches import CaptionBatch, ImageBatch
from itr_lib.encoders.tokens import GlobalTokens, Tokens
from itr_lib.similarity import Alignment

Kind = TypeVar("Kind", Tensor, Tokens, GlobalTokens)  # of what its encoders return


@runtime_checkable
class RetrievalModel(Protocol[Kind]):
    """Both sides are encoded apart and meet in a score, so either can be encoded once and kept."""

    def encode_images(self, batch: ImageBatch) -> Kind:
        """What an image is compared by."""
        ...

    def encode_captions(self, batch: CaptionBatch) -> Kind:
        """What a caption is compared by."""
        ...

    def scores(self, images: Kind, captions: Kind) -> Float[Tensor, "images captions"]:
        """Every image against every caption, the better the higher. Of a vector each it is their cosine."""
        ...


@runtime_checkable
class AligningModel(RetrievalModel[Kind], Protocol[Kind]):
    """A model that keeps tokens, and says how those of an image and of a caption are aligned in its score."""

    @property
    def alignment(self) -> Alignment:
        """``alignment.scores`` of the tokens is the model's score, or its local score where it has two."""
        ...


@runtime_checkable
class TwoStageModel(AligningModel[GlobalTokens], Protocol):
    """A model with two scores: a cheap global one to find candidates by, and a local one to rank them.

    ``scores`` is the exhaustive ranking that two stages approximate: ``global_scores + local_weight * local_scores``.
    """

    @property
    def local_weight(self) -> float:
        """What the local score counts beside the global one."""
        ...

    def global_scores(self, images: GlobalTokens, captions: GlobalTokens) -> Float[Tensor, "images captions"]:
        """Cosines of the vectors for the whole."""
        ...

    def local_scores(self, images: GlobalTokens, captions: GlobalTokens) -> Float[Tensor, "images captions"]:
        """Alignments of the tokens."""
        ...
