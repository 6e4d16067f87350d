"""Captions to token vectors, through ``transformers``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoModel, BertConfig, BertModel

from itr_lib.data.offline import load_pretrained
from itr_lib.data.tokenisation import load_tokenizer
from itr_lib.encoders.known_states import KnownStates
from itr_lib.validation import expect_choice, expect_count


@dataclass(frozen=True)
class TextConfig:
    """The text side: a ``kind`` of network of this shape from scratch, or a ``pretrained`` one.

    Attributes:
        vocabulary_size: of the tokenizer, ``len(tokenizer)``; 0 until it is known. A pretrained model has its own.
        kind: ``"bert"``, or ``"bigru"``: a bidirectional GRU over ``hidden``-wide word vectors, 300 in the papers.
        pretrained: a hub name or a folder, kept as a string; then the shape is its own. Of a model of images and text
            (a CLIP) it is the text side, of an encoder with a decoder (T5) the encoder.
        first_layers: use only so many layers of a pretrained model (TERAN reads BERT-base after layer 6), and its last
            normalisation, where it has one; None: all.
        mask_token: the tokenizer's id of ``[MASK]``, for models that augment captions.
    """

    vocabulary_size: int = 0
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    kind: str = "bert"
    pretrained: str | os.PathLike[str] | None = None
    first_layers: int | None = None
    mask_token: int | None = None

    def __post_init__(self) -> None:
        expect_choice("kind", self.kind, ("bert", "bigru"))
        if isinstance(self.pretrained, os.PathLike):
            object.__setattr__(self, "pretrained", os.fspath(self.pretrained))  # so that save_model can write it
        if self.pretrained and self.kind == "bigru":
            raise ValueError("a BiGRU is trained from scratch: expected kind='bert' with pretrained, or no pretrained")


class TextEncoder(nn.Module):
    """One vector a token, ``[CLS]`` first: a BERT and a linear layer, or a bidirectional GRU.

    BERT as in TERAN (section 4.2) and VSE-infinity (section 4); the GRU's two directions are averaged, as in SCAN.
    """

    def __init__(self, config: TextConfig, dim: int):
        super().__init__()
        self.known: KnownStates | None = None  # what a training's captions say to a BERT that is frozen
        if not config.pretrained:
            expect_count("vocabulary_size", config.vocabulary_size)
        if config.kind == "bigru":
            self.words = nn.Embedding(config.vocabulary_size, config.hidden, padding_idx=0)
            self.gru = nn.GRU(config.hidden, dim, batch_first=True, bidirectional=True)
            self.bert = None
        else:
            self.bert = _pretrained_bert(config) if config.pretrained else _small_bert(config)
            self.project = nn.Linear(self.bert.config.hidden_size, dim)
            self.padding = load_tokenizer(config.pretrained).pad_token_id if _is_siglip(self.bert.config) else 0

    def forward(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """One vector a token; padded positions hold numbers without meaning, so keep the mask."""
        if self.bert is not None:
            known = self.known.find(ids, mask) if self.known and self.training else None
            return self.project(self.states(ids, mask) if known is None else known)
        lengths = mask.sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(self.words(ids), lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=ids.shape[1])
        forward, backward = states.chunk(2, dim=-1)
        return (forward + backward) / 2

    def states(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """What the BERT says of each token, before the linear layer."""
        padded, real = padded_as_trained(ids, mask, self.bert.config, self.padding)
        config = self.bert.config
        if ids.is_cuda and config.model_type == "bert" and config._attn_implementation == "sdpa":
            # Of a mask with a row a caption transformers asks whether it hides anything, and the host waits to know.
            real = mask[:, None, None].expand(-1, 1, ids.shape[1], -1)
        return self.bert(input_ids=padded, attention_mask=real).last_hidden_state[:, : ids.shape[1]]


def padded_as_trained(
    ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"], config: Any, padding: int
) -> tuple[Int[Tensor, "batch width"], Int[Tensor, "batch width"] | None]:
    """Ids and attention mask as a text model of ``transformers`` was trained to see them.

    SigLIP saw every caption padded to its full length, and no mask: its pooled vector is the last token's.
    """
    if not _is_siglip(config):
        return ids, mask.long()
    filled = ids.masked_fill(~mask, padding)
    missing = max(config.max_position_embeddings - ids.shape[1], 0)
    return F.pad(filled, (0, missing), value=padding), None


def _is_siglip(config: Any) -> bool:
    return config.model_type.startswith("siglip")


def _pretrained_bert(config: TextConfig) -> nn.Module:
    whole = load_pretrained(AutoModel, config.pretrained, "text model")
    text = getattr(whole, "text_model", whole)
    bert = text.get_encoder() if text.config.is_encoder_decoder else text
    if config.first_layers is not None:
        layers = _layers(bert, config)
        if not 0 < config.first_layers <= len(layers):
            raise ValueError(f"first_layers is {config.first_layers}, and {config.pretrained!r} has {len(layers)}")
        del layers[config.first_layers :]
    return bert


def _layers(bert: nn.Module, config: TextConfig) -> nn.ModuleList:
    """The layers of a text model: whatever their name, they are the one list of as many as its configuration says."""
    depth = getattr(bert.config, "num_hidden_layers", None)
    lists = {
        name: part for name, part in bert.named_modules() if isinstance(part, nn.ModuleList) and len(part) == depth
    }
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    if len(outer) != 1:
        raise ValueError(
            f"first_layers is {config.first_layers}, but the {type(bert).__name__} of {config.pretrained!r} does not"
            " keep its layers in one list: expected None, or a model that does, such as BERT, DistilBERT, GPT-2 or CLIP"
        )
    return lists[outer[0]]


def _small_bert(config: TextConfig) -> BertModel:
    return BertModel(
        BertConfig(
            vocab_size=config.vocabulary_size,
            hidden_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=2 * config.hidden,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            max_position_embeddings=128,
        ),
        add_pooling_layer=False,
    )
