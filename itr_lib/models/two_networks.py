"""Two networks asked as one: the first finds candidates by its vectors, the second ranks them by its tokens."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from itr_lib.data.batches import CaptionBatch, ImageBatch
from itr_lib.encoders.tokens import GlobalTokens, Tokens
from itr_lib.models.contract import AligningModel, RetrievalModel, TwoStageModel
from itr_lib.similarity import Alignment


class TwoNetworks(nn.Module):
    """TGDT's two readings without sharing: a model of one vector (VSE, USER) and one of tokens (TERAN, CHAN).

    Args:
        whole: gives the vectors, and the global score.
        fine: gives the tokens, and the local score.
        local_weight: what the local score counts beside the global one.

    Raises:
        ValueError: for networks that return something else.
    """

    def __init__(self, whole: RetrievalModel[Tensor], fine: AligningModel[Tokens], local_weight: float = 1.0):
        super().__init__()
        if isinstance(whole, AligningModel) or not isinstance(fine, AligningModel) or isinstance(fine, TwoStageModel):
            raise ValueError(
                f"whole is a {type(whole).__name__} and fine a {type(fine).__name__}, expected a model of vectors alone"
                " and one of tokens alone"
            )
        self.whole, self.fine = whole, fine
        self.local_weight = local_weight

    @property
    def alignment(self) -> Alignment:
        """How the local score aligns regions and words: as the second network does."""
        return self.fine.alignment

    def encode_images(self, batch: ImageBatch) -> GlobalTokens:
        """A vector an image of the one, a vector a region of the other."""
        return GlobalTokens(self.whole.encode_images(batch), *self.fine.encode_images(batch))

    def encode_captions(self, batch: CaptionBatch) -> GlobalTokens:
        """A vector a caption of the one, a vector a token of the other."""
        return GlobalTokens(self.whole.encode_captions(batch), *self.fine.encode_captions(batch))

    def scores(self, images: GlobalTokens, captions: GlobalTokens) -> Float[Tensor, "images captions"]:
        """Global plus weighted local scores: the exhaustive ranking that two stages approximate."""
        return self.global_scores(images, captions) + self.local_weight * self.local_scores(images, captions)

    def global_scores(self, images: GlobalTokens, captions: GlobalTokens) -> Float[Tensor, "images captions"]:
        """Scores of the first network."""
        return self.whole.scores(images.whole, captions.whole)

    def local_scores(self, images: GlobalTokens, captions: GlobalTokens) -> Float[Tensor, "images captions"]:
        """Scores of the second."""
        return self.fine.scores(images.tokens, captions.tokens)
