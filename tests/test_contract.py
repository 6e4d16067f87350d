"""What the library asks of a model: all five keep it, two networks asked as one keep it, and the index ranks by it."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from toy import toy_data

from itr_lib.data import train_tokenizer
from itr_lib.encoders.text import TextConfig
from itr_lib.encoders.tokens import GlobalTokens, Tokens
from itr_lib.inference import encode
from itr_lib.models import MODELS, AligningModel, RetrievalModel, TwoNetworks, TwoStageModel, build
from itr_lib.search import TwoStageIndex
from itr_lib.similarity import Alignment, cosine_scores

DATA = toy_data(images=40, split="test")
TOKENIZER = train_tokenizer(DATA.captions)
TERANS = {f"teran, {how}": {"pooling": how} for how in ("MrSw", "MrAVGw", "MwSr", "Symm")}
CHANS = {
    "chan, hard, lse": {},
    "chan, soft, softmax": {"coding": "soft", "pooling": "softmax", "temperature": 0.2, "beta": 0.3},
}
VARIANTS = {
    **{"vse": {}, "user": {}},
    **TERANS,
    **CHANS,
    "tgdt": {},
    "tgdt, Symm, weight 0.3": {"pooling": "Symm", "local_weight": 0.3},
    "tgdt, weight 0": {"local_weight": 0.0},
}
TWO = {"vse, then teran": ("vse", "teran, MwSr", 1.0), "user, then chan": ("user", "chan, soft, softmax", 0.5)}
TWO_STAGES = ("tgdt", "tgdt, Symm, weight 0.3", "tgdt, weight 0", *TWO)


def new_model(variant: str) -> nn.Module:
    if variant in TWO:
        whole, fine, weight = TWO[variant]
        return TwoNetworks(new_model(whole), new_model(fine), local_weight=weight).eval()
    torch.manual_seed(len(variant))
    text = TextConfig(len(TOKENIZER), hidden=32, layers=1, mask_token=TOKENIZER.mask_token_id)
    settings = {"feature_dim": 16, "text": text, "dim": 32, **VARIANTS[variant]}
    return build(variant.split(",")[0], **settings).eval()


def differs(found, expected, atol=1e-5):
    return (found - expected).abs().max() > atol * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_the_calls_under_their_names(name):
    calls = {"encode_images": ["batch"], "encode_captions": ["batch"], "scores": ["images", "captions"]}
    if name == "tgdt":
        calls |= {"global_scores": ["images", "captions"], "local_scores": ["images", "captions"]}
    for call, names in calls.items():
        assert list(inspect.signature(getattr(MODELS[name][0], call)).parameters) == ["self", *names]


@pytest.mark.parametrize("variant", [*VARIANTS, *TWO])
@torch.no_grad()
def test_every_model_keeps_the_contract_of_what_it_returns(variant):
    model = new_model(variant)
    images, captions = encode(model, TOKENIZER, DATA)
    scores = model.scores(images, captions)
    assert isinstance(model, RetrievalModel) and scores.shape == (len(DATA), len(DATA.captions))
    assert type(images) is type(captions)
    assert isinstance(model, AligningModel) == (not isinstance(images, torch.Tensor))
    assert isinstance(model, TwoStageModel) == isinstance(images, GlobalTokens) == (variant in TWO_STAGES)
    if isinstance(images, torch.Tensor):
        assert not differs(scores, cosine_scores(images, captions))
    elif isinstance(images, Tokens):
        assert not differs(scores, aligned(model, images, captions))


def aligned(model, images, captions):
    return model.alignment.scores(images.vectors, captions.vectors, images.mask, captions.mask)


@pytest.mark.parametrize("variant", TWO_STAGES)
@torch.no_grad()
def test_the_score_of_two_stages_is_global_plus_weighted_local(variant):
    model = new_model(variant)
    images, captions = encode(model, TOKENIZER, DATA)
    near, local = model.global_scores(images, captions), model.local_scores(images, captions)
    assert not differs(model.scores(images, captions), near + model.local_weight * local)
    assert differs(model.scores(images, captions), near + (model.local_weight + 0.1) * local)
    assert not differs(near, cosine_scores(images.whole, captions.whole))
    assert not differs(local, aligned(model, images, captions))


def test_a_model_that_lacks_a_call_keeps_no_contract():
    class Half(nn.Module):
        def encode_images(self, batch): ...

        def encode_captions(self, batch): ...

    assert not isinstance(Half(), RetrievalModel) and not isinstance(nn.Linear(2, 2), RetrievalModel)
    assert not isinstance(new_model("teran, MrSw"), TwoStageModel)


@pytest.mark.parametrize(
    ("whole", "fine"), [("teran, MrSw", "vse"), ("vse", "user"), ("vse", "tgdt"), ("tgdt", "teran, MrSw")]
)
def test_two_networks_are_one_of_vectors_and_one_of_tokens(whole, fine):
    with pytest.raises(ValueError, match="expected a model of vectors alone and one of tokens alone"):
        TwoNetworks(new_model(whole), new_model(fine))


@pytest.mark.parametrize("side", ["images", "captions"])
@pytest.mark.parametrize("variant", [*VARIANTS, *TWO])
@torch.no_grad()
def test_an_index_for_a_model_ranks_as_the_model_does(variant, side, tmp_path):
    model = new_model(variant)
    images, captions = encode(model, TOKENIZER, DATA)
    items, queries, scores = images, captions, model.scores(images, captions).T
    if side == "captions":
        items, queries, scores = captions, images, scores.T
    index = TwoStageIndex.for_model(model, side)
    index.add([str(row) for row in range(scores.shape[1])], items)
    index.save(tmp_path / "index")
    for some in (index, TwoStageIndex.load(tmp_path / "index", model=model)):
        found = some.query(queries, shortlist=len(index), top=len(index))
        assert not differs(found.scores, scores.sort(dim=1, descending=True).values)
        assert not differs(scores.gather(1, found.rows), found.scores)  # whatever the order of equals
        assert all(sorted(rows) == list(range(len(index))) for rows in found.rows.tolist())


@torch.no_grad()
def test_mrsw_for_every_model_is_told_from_it():
    """The index as it once was: what it ranks by is not what these models score by."""
    for variant in ("chan, hard, lse", "chan, soft, softmax", "teran, MwSr", "teran, Symm", "teran, MrAVGw"):
        model = new_model(variant)
        images, captions = encode(model, TOKENIZER, DATA)
        index, once = TwoStageIndex.for_model(model, "images"), TwoStageIndex("images")
        for some in (index, once):
            some.add(DATA.image_ids, images)
        found = [some.query(captions, top=40).scores for some in (index, once)]
        assert differs(*found), variant


@torch.no_grad()
def test_an_index_of_another_model_is_refused(tmp_path):
    kept, path = new_model("tgdt"), tmp_path / "index"
    index = TwoStageIndex.for_model(kept, "images")
    index.add(DATA.image_ids, encode(kept, TOKENIZER, DATA)[0])
    index.save(path)
    again = TwoStageIndex.load(path, model=kept)
    assert (again.alignment, again.local_weight) == (Alignment(), 1.0)
    for variant, message in {
        "tgdt, Symm, weight 0.3": r"attend='regions'.*1\.0.*expected.*attend='both'.*0\.3.*make the index again",
        "tgdt, weight 0": r"1\.0.*expected.*0\.0",
        "chan, hard, lse": "pooling='sum'.*expected.*pooling='lse'",
        "vse": "expected None and 1.0 as the model has",
    }.items():
        with pytest.raises(ValueError, match=message):
            TwoStageIndex.load(path, model=new_model(variant))


@torch.no_grad()
def test_vectors_alone_say_nothing_about_alignments(tmp_path):
    model, path = new_model("tgdt"), tmp_path / "index"
    images, captions = encode(model, TOKENIZER, DATA)
    index = TwoStageIndex.for_model(model, "images")
    index.add(DATA.image_ids, images.whole)
    index.save(path)
    for variant in ("vse", "tgdt", "tgdt, weight 0"):
        TwoStageIndex.load(path, model=new_model(variant)).query(captions.whole)
    with pytest.raises(
        ValueError, match=r"expected a vector each as the items of this index have: give encoded\.whole"
    ):
        index.query(captions)
    with pytest.raises(ValueError, match="encoded has tokens, but this index has no alignment: expected a vector each"):
        TwoStageIndex.for_model(new_model("vse"), "images").add(DATA.image_ids, images)
