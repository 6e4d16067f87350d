"""Hard alignment: each word is compared with the one region that fits it best.

CHAN (Pan et al., CVPR 2023, 19275-19284) reads attention as coding: a picture is a codebook, a word is coded by it.
With ``coding="soft"`` the same model is SCAN's (Lee et al., ECCV 2018) way to do it, so that the two can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from itr_lib.data.augment import corrupt_words, drop_regions
from itr_lib.data.batches import CaptionBatch, ImageBatch, words_only
from itr_lib.encoders.regions import RegionEncoder
from itr_lib.encoders.text import TextConfig, TextEncoder
from itr_lib.encoders.tokens import Tokens
from itr_lib.similarity import CODE_POOLINGS, CODINGS, Alignment, l2_normalise
from itr_lib.validation import expect_choice


@dataclass(frozen=True)
class CHANConfig:
    """Sizes, coding and pooling.

    Attributes:
        feature_dim: width of the region vectors; 0 until the data are known.
        dim: width of the common space.
        geometry: regions through a perceptron that knows where each box is; False: the paper's one linear layer.
        region_layers: transformer layers over the regions; the paper has one beside a BiGRU, none beside BERT.
        coding, pooling, temperature, beta: see ``alignment_scores``; each word is coded over the regions.
        drop_regions, corrupt_words: size augmentation in training, the share of regions and of word pieces; the
            latter needs ``text.mask_token``.
    """

    feature_dim: int = 0
    text: TextConfig = TextConfig()
    dim: int = 128
    geometry: bool = True
    region_layers: int = 0
    heads: int = 4
    dropout: float = 0.1
    coding: str = "hard"
    pooling: str = "lse"
    temperature: float = 0.1
    beta: float = 0.1
    drop_regions: float = 0.2
    corrupt_words: float = 0.2

    def __post_init__(self) -> None:
        expect_choice("coding", self.coding, CODINGS)
        expect_choice("pooling", self.pooling, CODE_POOLINGS)


PAPER = CHANConfig(dim=1024, geometry=False)


class CHAN(nn.Module):
    """Region vectors and word vectors that meet in hard (or soft) coding."""

    def __init__(self, config: CHANConfig):
        super().__init__()
        if config.corrupt_words and config.text.mask_token is None:
            raise ValueError("corrupt_words puts [MASK] into captions: give TextConfig(mask_token=...), its id")
        self.config = config
        self.regions = RegionEncoder(
            config.feature_dim, config.dim, config.region_layers, config.heads, config.dropout, config.geometry
        )
        self.text = TextEncoder(config.text, config.dim)

    @property
    def alignment(self) -> Alignment:
        """Each word is coded over the regions, hard or soft, and its codes are pooled."""
        config = self.config
        return Alignment("regions", config.coding, config.pooling, config.temperature, config.beta)

    def encode_images(self, batch: ImageBatch) -> Tokens:
        """A unit vector a region; in training some regions are left out."""
        if self.training:
            batch = drop_regions(batch, self.config.drop_regions)
        return Tokens(l2_normalise(self.regions(batch.features, batch.boxes, batch.mask)), batch.mask)

    def encode_captions(self, batch: CaptionBatch) -> Tokens:
        """A unit vector a token, ``[CLS]`` and ``[SEP]`` masked out; in training some words are changed or left out."""
        if self.training and self.config.corrupt_words:
            text = self.config.text
            assert text.mask_token is not None  # __init__ saw to it
            batch = corrupt_words(batch, self.config.corrupt_words, text.mask_token, text.vocabulary_size)
        return Tokens(l2_normalise(self.text(*batch)), words_only(batch.mask))

    def scores(self, images: Tokens, captions: Tokens) -> Float[Tensor, "images captions"]:
        """Every image against every caption, coded and pooled as the configuration says."""
        return self.alignment.scores(images.vectors, captions.vectors, images.mask, captions.mask)
