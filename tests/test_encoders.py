"""Pooling, regions and text: plain loops, padding that has no say, and what a tokenizer must do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
)

from itr_lib.data import load_tokenizer, tokenise, train_tokenizer
from itr_lib.encoders.pooling import GPO, Pooling, first_token, mean_pool, position_codes
from itr_lib.encoders.regions import RegionEncoder, box_geometry
from itr_lib.encoders.text import TextConfig, TextEncoder

CAPTIONS = ["a red circle above a blue square", "two striped stars", "a large green heart near a ring on the grass"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CAPTIONS)


def random_sets(batch=4, width=6, dim=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, width, generator=g) < 0.6
    mask[:, 0] = True
    return torch.randn(batch, width, dim, generator=g, dtype=torch.float64) - 2, mask


def loop_gpo(gpo, tokens, mask):
    """Each set on its own, unpadded: GRU over its own length, sort each dimension, weigh."""
    rows = []
    for row, real in zip(tokens, mask, strict=True):
        kept = row[real]
        if len(kept) == 0:
            rows.append(torch.zeros(tokens.shape[2], dtype=tokens.dtype))
            continue
        states = gpo.gru(position_codes(len(kept), gpo.code_dim).to(tokens)[None])[0][0]
        half = states.shape[1] // 2
        scores = gpo.score((states[:, :half] + states[:, half:]) / 2)[:, 0]
        weights = torch.softmax(scores / gpo.temperature, dim=0)
        columns = [
            sum(w * v for w, v in zip(weights, sorted(kept[:, d], key=float, reverse=True), strict=True))
            for d in range(tokens.shape[2])
        ]
        rows.append(torch.stack(columns))
    return torch.stack(rows)


def test_gpo_agrees_with_plain_loops():
    tokens, mask = random_sets()
    mask[2] = False  # a row of padding alone
    gpo = GPO().double()
    assert torch.allclose(gpo(tokens, mask), loop_gpo(gpo, tokens, mask), rtol=0, atol=1e-9)


def test_gpo_gradients():
    tokens, mask = random_sets(batch=2, width=4, dim=3)
    gpo = GPO(code_dim=4, hidden=3).double()
    assert torch.autograd.gradcheck(lambda t: gpo(t, mask), (tokens.requires_grad_(True),))
    gpo(tokens, mask).sum().backward()
    assert all(p.grad.isfinite().all() and (p.grad != 0).any() for p in gpo.parameters())


def test_gpo_weights_sum_to_one_and_stop_at_the_sets_size():
    weights = GPO().weights(torch.tensor([1, 3, 6]), 6)
    assert torch.allclose(weights.sum(1), torch.ones(3)) and (weights[0, 1:] == 0).all() and (weights[1, 3:] == 0).all()


@pytest.mark.parametrize("name", ["mean", "first", "gpo"])
class TestPoolings:
    def test_padding_has_no_say(self, name):
        tokens, mask = random_sets()
        pool = Pooling(name).double()
        changed = torch.where(mask[..., None], tokens, 1e6)
        wider = torch.cat([changed, torch.full((4, 2, 5), -1e6, dtype=torch.float64)], dim=1)
        wider_mask = torch.cat([mask, torch.zeros(4, 2, dtype=torch.bool)], dim=1)
        assert torch.allclose(pool(tokens, mask), pool(wider, wider_mask), rtol=0, atol=1e-9)

    def test_a_row_of_padding_is_zero_with_finite_gradients(self, name):
        tokens, mask = random_sets()
        tokens.requires_grad_(True)
        pooled = Pooling(name).double()(tokens, mask & torch.tensor([True, False, True, True])[:, None])
        pooled.sum().backward()
        assert (pooled[1] == 0).all() and tokens.grad.isfinite().all() and (tokens.grad[1] == 0).all()

    def test_a_set_of_one_is_itself(self, name):
        tokens, _ = random_sets(width=1)
        assert torch.allclose(Pooling(name).double()(tokens, torch.ones(4, 1, dtype=torch.bool)), tokens[:, 0])

    def test_bad_input(self, name):
        with pytest.raises(ValueError, match="mask has shape"):
            Pooling(name)(torch.zeros(2, 3, 4), torch.ones(2, 4, dtype=torch.bool))
        with pytest.raises(ValueError, match="expected bool"):
            Pooling(name)(torch.zeros(2, 3, 4), torch.ones(2, 3))


@pytest.mark.parametrize("name", ["mean", "gpo"])
def test_order_of_the_set_does_not_matter(name):
    tokens, mask = random_sets()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    pool = Pooling(name).double()
    assert torch.allclose(pool(tokens, mask), pool(tokens[:, order], mask[:, order]), rtol=0, atol=1e-12)


def test_poolings_by_hand():
    tokens = torch.tensor([[[1.0, -4.0], [3.0, 0.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    assert torch.equal(mean_pool(tokens, mask), torch.tensor([[2.0, -2.0]]))
    assert torch.equal(first_token(tokens, mask), torch.tensor([[1.0, -4.0]]))
    with pytest.raises(ValueError, match="pooling is 'max'"):
        Pooling("max")


def test_box_geometry_by_hand():
    assert torch.allclose(box_geometry(torch.tensor([0.25, 0.0, 0.75, 0.5])), torch.tensor([0.25, 0, 0.75, 0.5, 0.25]))


@pytest.mark.parametrize("layers", [0, 2])
def test_padded_regions_have_no_say_in_the_real_ones(layers):
    torch.manual_seed(0)
    encoder = RegionEncoder(feature_dim=7, dim=8, layers=layers).eval()
    features, boxes = torch.randn(2, 5, 7), torch.rand(2, 5, 4)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    changed = torch.where(mask[..., None], features, 1e3)
    first, second = encoder(features, boxes, mask), encoder(changed, boxes, mask)
    assert torch.allclose(first[mask], second[mask], atol=1e-5)
    alone = encoder(features[1:, :3], boxes[1:, :3], mask[1:, :3])
    assert torch.allclose(first[1, :3], alone[0], atol=1e-5)


def test_geometry_is_seen():
    encoder = RegionEncoder(feature_dim=3, dim=8).eval()
    features, mask = torch.randn(1, 2, 3), torch.ones(1, 2, dtype=torch.bool)
    assert not torch.allclose(
        encoder(features, torch.rand(1, 2, 4), mask), encoder(features, torch.rand(1, 2, 4), mask)
    )


def test_tokenizer_knows_its_words_and_their_frame(tokenizer):
    ids, mask = tokenise(tokenizer, ["a red circle", "A Red Circle above a blue square"])
    assert tokenizer.convert_ids_to_tokens(ids[0][mask[0]]) == ["[CLS]", "a", "red", "circle", "[SEP]"]
    assert list(ids[0, :4]) == list(ids[1, :4])  # lower case
    assert (ids[0][~mask[0]] == tokenizer.pad_token_id).all()


def test_unknown_words_come_in_pieces_and_long_captions_are_cut(tokenizer):
    pieces = tokenizer.convert_ids_to_tokens(tokenise(tokenizer, ["greenish"]).ids[0])
    assert pieces[0] == "[CLS]" and pieces[-1] == "[SEP]" and len(pieces) > 3
    assert pieces[1].startswith("gre") and "[UNK]" not in pieces
    assert tokenizer.unk_token in tokenizer.convert_ids_to_tokens(tokenise(tokenizer, ["zoo"]).ids[0])
    ids, mask = tokenise(tokenizer, ["a red circle " * 50], max_tokens=16)
    assert ids.shape == (1, 16) and ids[0, -1] == tokenizer.sep_token_id and mask.all()


def test_the_same_vocabulary_every_time(tokenizer):
    """The library's own trainer gives another one at nearly every call."""
    assert all(tokenizer.get_vocab() == train_tokenizer(CAPTIONS).get_vocab() for _ in range(3))


def test_padded_words_have_no_say(tokenizer):
    torch.manual_seed(0)
    encoder = TextEncoder(TextConfig(len(tokenizer), hidden=16, layers=1), dim=8).eval()
    ids, mask = (torch.from_numpy(part) for part in tokenise(tokenizer, CAPTIONS[:3]))
    together = encoder(ids.long(), mask)
    alone = encoder(ids[1:2, : mask[1].sum()].long(), mask[1:2, : mask[1].sum()])
    assert torch.allclose(together[1][mask[1]], alone[0], atol=1e-5)


def test_pretrained_text_model_from_a_folder(tokenizer, tmp_path):
    small = TextEncoder(TextConfig(len(tokenizer), hidden=16, layers=1), dim=8)
    small.bert.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = TextEncoder(TextConfig(0, pretrained=str(tmp_path)), dim=8)
    assert isinstance(again.bert, BertModel)
    assert torch.equal(again.bert.embeddings.word_embeddings.weight, small.bert.embeddings.word_embeddings.weight)
    first = tokenise(load_tokenizer(tmp_path), CAPTIONS)
    assert np.array_equal(first.ids, tokenise(tokenizer, CAPTIONS).ids)


def test_a_missing_pretrained_model_says_what_to_do(tmp_path):
    with pytest.raises(OSError, match="text model .* could not be loaded .*Take one of three"):
        TextEncoder(TextConfig(0, pretrained=str(tmp_path / "nothing")), dim=8)


SIZES = {"vocab_size": 90, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
ENDS = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
CLIP_TEXT = {**SIZES, **ENDS, "max_position_embeddings": 40}
CLIP_IMAGE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
# a model of three layers, where its text side is, where that keeps its layers, and the normalisation after the last
PRETRAINED = {
    "bert": (lambda: BertModel(BertConfig(**SIZES)), "", "encoder.layer", None),
    "roberta": (lambda: RobertaModel(RobertaConfig(**SIZES)), "", "encoder.layer", None),
    "distilbert": (
        lambda: DistilBertModel(DistilBertConfig(vocab_size=90, dim=16, n_layers=3, n_heads=2, hidden_dim=32)),
        "", "transformer.layer", None,
    ),
    "gpt-2": (
        lambda: GPT2Model(GPT2Config(vocab_size=90, n_embd=16, n_layer=3, n_head=2, **ENDS)), "", "h", "ln_f"
    ),
    "modernbert": (
        lambda: ModernBertModel(ModernBertConfig(**SIZES, **ENDS, cls_token_id=2, sep_token_id=3)),
        "", "layers", "final_norm",
    ),
    "clip's text side": (
        lambda: CLIPTextModel(CLIPTextConfig(**CLIP_TEXT)), "", "encoder.layers", "final_layer_norm"
    ),
    "clip": (
        lambda: CLIPModel(CLIPConfig(text_config=CLIP_TEXT, vision_config=CLIP_IMAGE)),
        "text_model", "encoder.layers", "final_layer_norm",
    ),
    "t5": (
        lambda: T5Model(T5Config(vocab_size=90, d_model=16, num_layers=3, num_heads=2, d_ff=32, d_kv=8)),
        "encoder", "block", "final_layer_norm",
    ),
}  # fmt: skip


def pretrained_folder(kind: str, folder) -> tuple[str, torch.nn.Module]:
    """A tiny model with random weights on disk, and its text side in memory."""
    make, side, *_ = PRETRAINED[kind]
    torch.manual_seed(0)
    model = make().eval()
    model.save_pretrained(folder)
    return str(folder), model.get_submodule(side)


@pytest.mark.parametrize("first_layers", [1, 2, 3, None])
@pytest.mark.parametrize("kind", PRETRAINED)
def test_the_first_layers_of_a_pretrained_model(kind, first_layers, tmp_path):
    """Against what the whole model had after that layer."""
    folder, whole = pretrained_folder(kind, tmp_path)
    *_, layers, norm = PRETRAINED[kind]
    ids, mask = torch.randint(4, 90, (3, 7)), torch.ones(3, 7, dtype=torch.bool)
    mask[1, 4:] = False
    seen, last = [], whole.get_submodule(layers)[(first_layers or 3) - 1]
    last.register_forward_hook(lambda layer, given, out: seen.append(out if isinstance(out, torch.Tensor) else out[0]))
    encoder = TextEncoder(TextConfig(0, pretrained=folder, first_layers=first_layers), dim=8).eval()
    with torch.no_grad():
        whole(input_ids=ids, attention_mask=mask.long())
        hidden = whole.get_submodule(norm)(seen[0]) if norm else seen[0]
        expected = encoder.project(hidden)
        assert torch.allclose(encoder(ids, mask)[mask], expected[mask], atol=1e-6)


@pytest.mark.parametrize("first_layers", [0, -1, 4])
@pytest.mark.parametrize("kind", ["bert", "gpt-2", "clip"])
def test_more_first_layers_than_there_are_or_none(kind, first_layers, tmp_path):
    folder, _ = pretrained_folder(kind, tmp_path)
    with pytest.raises(ValueError, match=f"first_layers is {first_layers}, and .* has 3"):
        TextEncoder(TextConfig(0, pretrained=folder, first_layers=first_layers), dim=8)


def test_a_model_without_a_list_of_layers_is_named(tmp_path):
    """ALBERT runs one layer again and again."""
    AlbertModel(AlbertConfig(**SIZES, embedding_size=16)).save_pretrained(tmp_path)
    assert TextEncoder(TextConfig(0, pretrained=str(tmp_path)), dim=8).bert is not None
    with pytest.raises(
        ValueError, match="first_layers is 2, but the AlbertModel of .* does not keep its layers in one"
    ):
        TextEncoder(TextConfig(0, pretrained=str(tmp_path), first_layers=2), dim=8)


def test_a_pretrained_folder_may_be_a_path(tmp_path):
    assert TextConfig(0, pretrained=tmp_path) == TextConfig(0, pretrained=str(tmp_path))
    with pytest.raises(ValueError, match="BiGRU is trained from scratch"):
        TextConfig(9, pretrained=tmp_path, kind="bigru")
