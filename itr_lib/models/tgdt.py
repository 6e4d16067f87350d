"""TGDT: one network, two readings. Global vectors find candidates, local ones rank them (Liu et al., IEEE TIP 2023).

The branches are TERAN's; a further transformer on top of each makes the global vector from all of their tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor, nn

from itr_lib.data.batches import CaptionBatch, ImageBatch
from itr_lib.encoders.regions import FirstToken, MeanToken
from itr_lib.encoders.tokens import GlobalTokens
from itr_lib.models.teran import PAPER as TERAN_PAPER
from itr_lib.models.teran import TERAN, TERANConfig
from itr_lib.similarity import Alignment, cosine_scores, l2_normalise


@dataclass(frozen=True)
class TGDTConfig(TERANConfig):
    """Sizes of TERAN's branches, and of what stands on top of them.

    Attributes:
        global_layers: transformer layers on top of each branch; of none the global vector is the mean of its tokens.
        detach: the global task sends no gradient into the branches, as in the released training; False: joint.
        local_weight: what the local score counts beside the global one.
    """

    global_layers: int = 2
    detach: bool = True
    local_weight: float = 1.0


PAPER = TGDTConfig(**vars(TERAN_PAPER))
Guidance = Callable[[Tensor, Tensor, nn.Module, bool], Tensor]


def global_vectors(
    tokens: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"], on_top: nn.Module, detach: bool
) -> Float[Tensor, "batch dim"]:
    """Token guidance: the first token that ``on_top`` returns, at length 1.

    Of a transformer that is the whole-image token or ``[CLS]``.

    Args:
        tokens: of a branch.
        mask: True = real.
        on_top: called like torch's encoders.
        detach: whether the tokens keep their gradient to themselves.
    """
    tokens = tokens.detach() if detach else tokens
    return l2_normalise(on_top(tokens, src_key_padding_mask=~mask)[:, 0])


class TGDT(nn.Module):
    """TERAN's two branches, and a global transformer on top of each; ``guidance`` makes a vector of what it returns."""

    def __init__(self, config: TGDTConfig):
        super().__init__()
        self.config = config
        self.local = TERAN(config)
        settings = (config.heads, config.dropout, config.feed_forward)
        layers = config.dim, config.global_layers, *settings
        self.global_regions = FirstToken(*layers) if config.global_layers else MeanToken()
        self.global_words = FirstToken(*layers) if config.global_layers else MeanToken()
        self.guidance: Guidance = global_vectors

    @property
    def text(self) -> nn.Module:
        """The text encoder."""
        return self.local.text

    @property
    def alignment(self) -> Alignment:
        """How the local score aligns regions and words: as TERAN does."""
        return self.local.alignment

    @property
    def local_weight(self) -> float:
        """What the local score counts beside the global one."""
        return self.config.local_weight

    def encode_images(self, batch: ImageBatch) -> GlobalTokens:
        """A unit vector an image, and a unit vector a region."""
        tokens, real = self.local.image_sequence(batch)
        whole = self.guidance(tokens, real, self.global_regions, self.config.detach)
        return GlobalTokens(whole, *self.local.as_regions(tokens, batch))

    def encode_captions(self, batch: CaptionBatch) -> GlobalTokens:
        """A unit vector a caption, and a unit vector a token, ``[CLS]`` and ``[SEP]`` masked out."""
        tokens = self.local.caption_sequence(batch)
        whole = self.guidance(tokens, batch.mask, self.global_words, self.config.detach)
        return GlobalTokens(whole, *self.local.as_words(tokens, batch))

    def scores(self, images: GlobalTokens, captions: GlobalTokens) -> Float[Tensor, "images captions"]:
        """Global plus weighted local scores: the exhaustive ranking that two stages approximate."""
        scores, weight = self.global_scores(images, captions), self.local_weight
        return scores + weight * self.local_scores(images, captions) if weight else scores

    def global_scores(self, images: GlobalTokens, captions: GlobalTokens) -> Float[Tensor, "images captions"]:
        """Cosines of the global vectors."""
        return cosine_scores(images.whole, captions.whole)

    def local_scores(self, images: GlobalTokens, captions: GlobalTokens) -> Float[Tensor, "images captions"]:
        """Alignments of regions and words, pooled as TERAN's."""
        return self.local.scores(images.tokens, captions.tokens)

    @contextmanager
    def global_alone(self) -> Iterator[None]:
        """Inside, branches stay as they are and the score is the global one: to train what stands on top of them."""
        config, training = self.config, [p.requires_grad for p in self.local.parameters()]
        self.config = replace(config, local_weight=0.0)
        self.local.requires_grad_(False)
        try:
            yield
        finally:
            self.config = config
            for parameter, before in zip(self.local.parameters(), training, strict=True):
                parameter.requires_grad_(before)
