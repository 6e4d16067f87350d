"""Fine-grained alignment: one vector a region, one a word, and a score from all their dot products.

TERAN (Messina et al., ACM TOMM 17(4), 2021). The two sides never see each other before the score, so both can be
encoded once and kept. Nobody tells the model which word belongs to which region.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from itr_lib.data.batches import CaptionBatch, ImageBatch, words_only
from itr_lib.encoders.regions import RegionEncoder, transformer
from itr_lib.encoders.text import TextConfig, TextEncoder
from itr_lib.encoders.tokens import Tokens
from itr_lib.similarity import TERAN_POOLING, Alignment, l2_normalise
from itr_lib.validation import expect_choice


@dataclass(frozen=True)
class TERANConfig:
    """Sizes of the two branches.

    Attributes:
        feature_dim: width of the region vectors; 0 until the data are known.
        dim: width of the common space, where words and regions are compared.
        region_dim: width of the region branch before it.
        region_layers: transformer layers over the regions, before the common space.
        joint_layers: transformer layers in the common space, on both sides.
        shared: the same joint layers for regions and words.
        pooling: how the alignment matrix becomes a score, a name in ``TERAN_POOLING``.
    """

    feature_dim: int = 0
    text: TextConfig = TextConfig()
    dim: int = 128
    region_dim: int = 128
    region_layers: int = 0
    joint_layers: int = 1
    shared: bool = False
    heads: int = 4
    feed_forward: int = 256
    dropout: float = 0.1
    pooling: str = "MrSw"


PAPER = TERANConfig(dim=1024, region_dim=2048, region_layers=4, joint_layers=2, feed_forward=2048)


class TERAN(nn.Module):
    """Region branch and word branch; position 0 of each is a global token, which takes no part in the alignment."""

    def __init__(self, config: TERANConfig):
        super().__init__()
        expect_choice("pooling", config.pooling, tuple(TERAN_POOLING))
        self.config = config
        settings = (config.heads, config.dropout, config.feed_forward)
        self.regions = RegionEncoder(config.feature_dim, config.region_dim)
        self.whole_image = nn.Parameter(torch.randn(config.region_dim) / config.region_dim**0.5)
        self.relate_regions = None
        if config.region_layers:
            self.relate_regions = transformer(config.region_dim, config.region_layers, *settings)
        self.project_regions = nn.Linear(config.region_dim, config.dim)
        self.text = TextEncoder(config.text, config.dim)
        self.joint_regions = transformer(config.dim, config.joint_layers, *settings)
        self.joint_words = None if config.shared else transformer(config.dim, config.joint_layers, *settings)

    @property
    def alignment(self) -> Alignment:
        """Regions and words as the pooling's name says."""
        return Alignment(**TERAN_POOLING[self.config.pooling])

    def image_sequence(
        self, batch: ImageBatch
    ) -> tuple[Float[Tensor, "images tokens dim"], Bool[Tensor, "images tokens"]]:
        """The whole-image token and the regions in the common space, as they are; and a mask, True = real."""
        regions = self.regions(batch.features, batch.boxes, batch.mask)
        whole = self.whole_image.expand(len(regions), 1, -1)
        tokens = torch.cat([whole, regions], dim=1)  # (images, 1 + regions, region_dim)
        real = torch.cat([torch.ones_like(batch.mask[:, :1]), batch.mask], dim=1)
        if self.relate_regions is not None:
            tokens = self.relate_regions(tokens, src_key_padding_mask=~real)
        return self.joint_regions(self.project_regions(tokens), src_key_padding_mask=~real), real

    def caption_sequence(self, batch: CaptionBatch) -> Float[Tensor, "captions tokens dim"]:
        """``[CLS]``, the words and ``[SEP]`` in the common space, as they are; ``batch.mask`` says what is real."""
        joint = self.joint_regions if self.joint_words is None else self.joint_words
        return joint(self.text(*batch), src_key_padding_mask=~batch.mask)

    def encode_images(self, batch: ImageBatch) -> Tokens:
        """A unit vector a region."""
        return self.as_regions(self.image_sequence(batch)[0], batch)

    def encode_captions(self, batch: CaptionBatch) -> Tokens:
        """A unit vector a token; ``[CLS]`` and ``[SEP]`` are masked out."""
        return self.as_words(self.caption_sequence(batch), batch)

    @staticmethod
    def as_regions(tokens: Float[Tensor, "images tokens dim"], batch: ImageBatch) -> Tokens:
        """Of an image's sequence what takes part in the alignment."""
        return Tokens(l2_normalise(tokens[:, 1:]), batch.mask)

    @staticmethod
    def as_words(tokens: Float[Tensor, "captions tokens dim"], batch: CaptionBatch) -> Tokens:
        """Of a caption's sequence what takes part in the alignment."""
        return Tokens(l2_normalise(tokens), words_only(batch.mask))

    def scores(self, images: Tokens, captions: Tokens) -> Float[Tensor, "images captions"]:
        """Every image against every caption, pooled as the configuration says."""
        return self.alignment.scores(images.vectors, captions.vectors, images.mask, captions.mask)
