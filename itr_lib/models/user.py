"""USER: global embeddings that know the whole picture, trained against queues of keys (Zhang et al., IEEE TIP 2024).

What is compared is still one vector with one vector. New are the image side, where each region is told about the
picture as a whole, and the training, where negatives come from far more pictures than a batch holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from itr_lib.data.batches import Batch, CaptionBatch, ImageBatch
from itr_lib.encoders.pooling import GPO, mean_pool
from itr_lib.encoders.regions import box_geometry, transformer
from itr_lib.encoders.text import TextConfig, TextEncoder
from itr_lib.momentum import FeatureQueue, key_encoder, momentum_update
from itr_lib.parallel import gather_rows, rank, world
from itr_lib.similarity import cosine_scores, l2_normalise
from itr_lib.validation import expect_choice, expect_count

GUIDES = ("self", "clip", "none")


@dataclass(frozen=True)
class USERConfig:
    """Sizes, the guide, and what is kept beyond the batch.

    Attributes:
        feature_dim: width of the region vectors; 0 until the data are known.
        dim: width of the common space.
        geometry: regions know where their box is; the paper's do not.
        guide: where the vector of the whole picture comes from: ``"self"``, learnt from the regions (SGE); ``"clip"``,
            ``ImageBatch.guide`` (CGE); ``"none"``: regions stay as they are.
        guide_dim: width of that vector for ``"clip"``, ``RetrievalData.guide_dim``, else 0.
        sharpness: lambda of the paper, what the products of regions and guide are multiplied by before the softmax.
        guide_dropout: dropout inside the attention of SGE.
        queue_size: keys kept a modality; 0: neither queues nor key encoders.
        momentum: of the key encoders.
        random_keys: fill the queues at the start with random vectors of positive numbers, as the released code does.
        region_layers: transformer layers over the regions before they are pooled; the paper has none.
    """

    feature_dim: int = 0
    text: TextConfig = TextConfig()
    dim: int = 256
    geometry: bool = True
    guide: str = "self"
    guide_dim: int = 0
    sharpness: float = 1.0
    guide_dropout: float = 0.4
    queue_size: int = 2048
    momentum: float = 0.99
    random_keys: bool = False
    region_layers: int = 0

    def __post_init__(self) -> None:
        expect_choice("guide", self.guide, GUIDES)
        if self.queue_size < 0 or not 0 <= self.momentum <= 1:
            raise ValueError(
                f"queue_size {self.queue_size}, momentum {self.momentum}: expected at least 0, and a number from 0 to 1"
            )


PAPER = USERConfig(dim=1024, geometry=False, momentum=0.999)


class USER(nn.Module):
    """An image encoder and a caption encoder, a key encoder and a queue for each."""

    def __init__(self, config: USERConfig):
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.caption_encoder = CaptionEncoder(config)
        self.image_queue = self.caption_queue = None
        if config.queue_size:
            self.key_image_encoder = key_encoder(self.image_encoder)
            self.key_caption_encoder = key_encoder(self.caption_encoder)
            self.image_queue = FeatureQueue(config.queue_size, config.dim)
            self.caption_queue = FeatureQueue(config.queue_size, config.dim)
            if config.random_keys:
                for queue in (self.image_queue, self.caption_queue):
                    queue.enqueue(l2_normalise(torch.rand(config.queue_size, config.dim)))

    @property
    def text(self) -> TextEncoder:
        """The text encoder that is trained."""
        return self.caption_encoder.text

    def encode_images(self, batch: ImageBatch) -> Float[Tensor, "images dim"]:
        """One unit vector an image."""
        return self.image_encoder(batch)

    def encode_captions(self, batch: CaptionBatch) -> Float[Tensor, "captions dim"]:
        """One unit vector a caption."""
        return self.caption_encoder(batch)

    def scores(
        self, images: Float[Tensor, "images dim"], captions: Float[Tensor, "captions dim"]
    ) -> Float[Tensor, "images captions"]:
        """Cosine of every image with every caption."""
        return cosine_scores(images, captions)

    @torch.no_grad()
    def encode_keys(self, batch: Batch) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        """Move the key encoders one step, then encode a batch with them: keys of its images and of its captions.

        They are in the mode of the model: in training their keys carry dropout, too. Raises ``ValueError`` for a model
        without queues.
        """
        if self.image_queue is None:
            raise ValueError("this model has no key encoders: expected a queue_size of 1 or more")
        momentum_update(self.key_image_encoder, self.image_encoder, self.config.momentum)
        momentum_update(self.key_caption_encoder, self.caption_encoder, self.config.momentum)
        return self.key_image_encoder(batch.images), self.key_caption_encoder(batch.captions)


class ImageEncoder(nn.Module):
    """Regions, enhanced by the whole picture, a linear layer plus a perceptron, layers if any, GPO, length 1."""

    def __init__(self, config: USERConfig):
        super().__init__()
        expect_count("feature_dim", config.feature_dim)
        if (config.guide == "clip") != (config.guide_dim > 0):
            raise ValueError(
                f"guide is {config.guide!r} and guide_dim {config.guide_dim}: 'clip' needs the width of its vectors,"
                " the others 0"
            )
        self.config = config
        self.guide = Guide(config) if config.guide != "none" else None
        width = config.feature_dim + 5 * config.geometry
        self.linear = nn.Linear(width, config.dim)
        self.perceptron = nn.Sequential(
            nn.Linear(width, config.dim // 2), nn.ReLU(), nn.Linear(config.dim // 2, config.dim)
        )
        self.relate_regions = None
        if config.region_layers:
            self.relate_regions = transformer(config.dim, config.region_layers, heads=4, dropout=0.1)
        self.pool = GPO()

    def forward(self, batch: ImageBatch) -> Float[Tensor, "images dim"]:
        """One unit vector an image."""
        regions = batch.features
        if self.guide is not None:
            regions = enhance(regions, batch.mask, self.guide(batch), self.config.sharpness)
        if self.config.geometry:
            regions = torch.cat([regions, box_geometry(batch.boxes)], dim=-1)
        regions = self.linear(regions) + self.perceptron(regions)
        if self.relate_regions is not None:
            regions = self.relate_regions(regions, src_key_padding_mask=~batch.mask)
        return l2_normalise(self.pool(regions, batch.mask))


class CaptionEncoder(nn.Module):
    """BERT, a linear layer, GPO, length 1."""

    def __init__(self, config: USERConfig):
        super().__init__()
        self.text = TextEncoder(config.text, config.dim)
        self.pool = GPO()

    def forward(self, batch: CaptionBatch) -> Float[Tensor, "captions dim"]:
        """One unit vector a caption."""
        return l2_normalise(self.pool(self.text(*batch), batch.mask))


def enhance(
    regions: Float[Tensor, "images regions features"],
    mask: Bool[Tensor, "images regions"],
    guide: Float[Tensor, "images features"],
    sharpness: float = 1.0,
) -> Float[Tensor, "images regions features"]:
    """Give the picture's vector g back to its regions: ``x_r + b_r g`` with ``b = l2norm(softmax_r(lambda x_r . g))``.

    Padded regions get nothing and take no part in the softmax.
    """
    products = sharpness * torch.einsum("nrf,nf->nr", regions, guide)
    share = products.masked_fill(~mask, torch.finfo(products.dtype).min).softmax(dim=1).masked_fill(~mask, 0)
    share = l2_normalise(share)
    return regions + share[..., None] * guide[:, None]


class Guide(nn.Module):
    """One vector of length 1 for the whole picture, as wide as a region.

    SGE learns it by attention: regions are weighted by
    ``softmax_r(Linear(tanh(BN(Linear x_r)) * tanh(BN(Linear g0))))``, where ``g0`` is their mean. CGE takes a frozen
    CLIP's embedding of the picture; where its width is not a region's, a linear layer is learnt between the two.
    """

    def __init__(self, config: USERConfig):
        super().__init__()
        width = config.feature_dim
        self.clip = config.guide == "clip"
        if self.clip:
            same = config.guide_dim == width
            self.fit = nn.Identity() if same else nn.Linear(config.guide_dim, width, bias=False)
            return
        self.local, self.local_norm = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.whole, self.whole_norm = nn.Linear(width, width), nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(config.guide_dropout)
        self.weigh = nn.Linear(width, 1)

    def forward(self, batch: ImageBatch) -> Float[Tensor, "images features"]:
        """The picture's vector. Raises ``ValueError`` where CGE meets a batch without guides."""
        if self.clip:
            if batch.guide is None:
                raise ValueError("the batch has no guide vectors: give the data some with itr_lib.guides.clip")
            return l2_normalise(self.fit(batch.guide))
        return l2_normalise(torch.einsum("nr,nrf->nf", self.weights(batch), batch.features))

    def weights(self, batch: ImageBatch) -> Float[Tensor, "images regions"]:
        """SGE's attention over the regions; each row sums to 1, padding has 0."""
        regions, mask = batch.features, batch.mask
        whole = self.dropout(_normed(self.whole_norm, self.whole(mean_pool(regions, mask))).tanh())
        rows, flat = mask.flatten().nonzero()[:, 0], regions.flatten(0, 1)  # once: each makes the host wait for a GPU
        real = self.dropout(_normed(self.local_norm, self.local(flat[rows])).tanh()).to(flat)
        local = torch.zeros_like(flat).index_put((rows,), real).view_as(regions)
        logits = self.weigh(local * whole[:, None])[..., 0]
        return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(dim=1).masked_fill(~mask, 0)


def _normed(norm: nn.BatchNorm1d, rows: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
    """Batch normalisation over the rows of all processes; a single row has no variance: it is as in evaluation.

    Of a batch with fewer pairs than processes the first pair counts more than once, see ``my_share``.
    """
    if norm.training:
        whole = gather_rows(rows)
        if len(whole) > 1 and world() == 1:
            return norm(whole)
        if len(whole) > 1:
            counts = gather_rows(torch.tensor([len(rows)], device=rows.device))
            return norm(whole).split(counts.tolist())[rank()]
    return F.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
