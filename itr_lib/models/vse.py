"""Global embeddings: one vector an image, one a caption, one dot product to compare them.

VSE++ (Faghri et al., BMVC 2018) trains it with the hardest negative, VSE-infinity (Chen et al., CVPR 2021) pools
with GPO. Everything later in the course is a reply to what this model cannot say in one vector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from itr_lib.data.batches import CaptionBatch, ImageBatch
from itr_lib.encoders.pooling import Pooling
from itr_lib.encoders.regions import RegionEncoder
from itr_lib.encoders.text import TextConfig, TextEncoder
from itr_lib.similarity import cosine_scores, l2_normalise


@dataclass(frozen=True)
class VSEConfig:
    """Sizes of the two encoders.

    Attributes:
        feature_dim: width of the region vectors, ``RetrievalData.feature_dim``; 0 until the data are known.
        dim: width of the common space.
        learnt_temperature: InfoNCE's temperature is a weight of the model (CLIP, Radford et al. 2021, section 2.4),
            which ``InfoNCEObjective(temperature=None)`` divides by.
    """

    feature_dim: int = 0
    text: TextConfig = TextConfig()
    dim: int = 256
    pooling: str = "gpo"
    region_layers: int = 0
    heads: int = 4
    dropout: float = 0.1
    learnt_temperature: bool = False


FIRST_TEMPERATURE, LEAST_TEMPERATURE = 0.07, 0.01  # CLIP's
PAPER = VSEConfig(dim=1024)


class VSE(nn.Module):
    """Region encoder and text encoder, each pooled to one vector of length 1."""

    def __init__(self, config: VSEConfig):
        super().__init__()
        self.config = config
        self.regions = RegionEncoder(config.feature_dim, config.dim, config.region_layers, config.heads, config.dropout)
        self.text = TextEncoder(config.text, config.dim)
        self.pool_regions = Pooling(config.pooling)
        self.pool_words = Pooling(config.pooling)
        # The logarithm of what scores are multiplied by: a step of the optimizer changes it by a share.
        self.log_scale = nn.Parameter(torch.tensor(-math.log(FIRST_TEMPERATURE))) if config.learnt_temperature else None

    @property
    def temperature(self) -> Float[Tensor, ""] | None:
        """The learnt temperature, brought back to 0.01 where a step went below it; None where none is learnt."""
        if self.log_scale is None:
            return None
        with torch.no_grad():  # in place, as in CLIP's training: beyond a bound in the graph it would have no gradient
            self.log_scale.clamp_(max=-math.log(LEAST_TEMPERATURE))
        return (-self.log_scale).exp()

    def encode_images(self, batch: ImageBatch) -> Float[Tensor, "images dim"]:
        """One unit vector an image."""
        return l2_normalise(self.pool_regions(self.regions(batch.features, batch.boxes, batch.mask), batch.mask))

    def encode_captions(self, batch: CaptionBatch) -> Float[Tensor, "captions dim"]:
        """One unit vector a caption."""
        return l2_normalise(self.pool_words(self.text(*batch), batch.mask))

    def scores(
        self, images: Float[Tensor, "images dim"], captions: Float[Tensor, "captions dim"]
    ) -> Float[Tensor, "images captions"]:
        """Cosine of every image with every caption."""
        return cosine_scores(images, captions)
