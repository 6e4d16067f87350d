"""The fine-grained models: padding has no say, special tokens are no words, and the one loop trains them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from toy import toy_data
from transformers import BertConfig, BertModel

from itr_lib import models
from itr_lib.data import tokenise, train_tokenizer
from itr_lib.data.batches import CaptionBatch, ImageBatch, caption_batch, image_batch, words_only
from itr_lib.encoders.text import TextConfig, TextEncoder
from itr_lib.inference import encode, evaluate, score
from itr_lib.lessons import recipes
from itr_lib.models import MODELS, build, from_config, load_model, save_model
from itr_lib.objectives import InfoNCEObjective, TripletObjective
from itr_lib.training import TrainConfig, train

TRAIN, VAL = toy_data(), toy_data(images=60, split="val")
TOKENIZER = train_tokenizer(TRAIN.captions)
CONFIG = TrainConfig(epochs=3, batch_size=50, warmup_steps=4, learning_rate=3e-3)
VARIANTS = {
    "teran": ("teran", {}),
    "teran, shared, Symm": ("teran", {"shared": True, "pooling": "Symm", "region_layers": 1}),
    "chan": ("chan", {}),
    "chan, soft, mean": ("chan", {"coding": "soft", "pooling": "mean"}),
    "chan, BiGRU, linear": ("chan", {"geometry": False, "region_layers": 1, "text": {"kind": "bigru"}}),
}


def new_model(variant: str, seed: int = 0):
    name, settings = VARIANTS[variant]
    settings = dict(settings)
    shape = {"hidden": 32, "layers": 1, **settings.pop("text", {})}
    text = TextConfig(len(TOKENIZER), mask_token=TOKENIZER.mask_token_id, **shape)
    if name == "teran":
        settings |= {"region_dim": 32, "feed_forward": 64}
    torch.manual_seed(seed)
    return build(name, feature_dim=16, text=text, dim=32, **settings)


def test_words_only_by_hand():
    rows = [
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1],
    ]  # the last: from the right
    words = [[0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]]
    mask, expected = (torch.tensor(some, dtype=torch.bool) for some in (rows, words))
    assert words_only(mask[:, :0]).shape == (5, 0)
    assert torch.equal(words_only(mask), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_has_no_say(variant):
    model = new_model(variant).eval()
    images = image_batch(TRAIN, np.arange(3))
    captions = caption_batch(tokenise(TOKENIZER, TRAIN.captions), np.arange(4))
    garbage = torch.full((3, 2, 16), 9.0), torch.full((3, 2, 4), 0.5), torch.zeros(3, 2, dtype=torch.bool)
    wider_images = ImageBatch(*(torch.cat(pair, dim=1) for pair in zip(images[:3], garbage, strict=True)))
    more = torch.full((4, 3), 7), torch.zeros(4, 3, dtype=torch.bool)
    wider_captions = CaptionBatch(*(torch.cat(pair, dim=1) for pair in zip(captions, more, strict=True)))
    with torch.no_grad():
        scores = model.scores(model.encode_images(images), model.encode_captions(captions))
        wider = model.scores(model.encode_images(wider_images), model.encode_captions(wider_captions))
    assert torch.allclose(scores, wider, rtol=0, atol=1e-5 * scores.abs().max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_vectors_have_length_one_and_scores_do_not_depend_on_the_batch(variant):
    model = new_model(variant)
    whole = score(model, TOKENIZER, VAL)
    images, captions = encode(model, TOKENIZER, VAL, batch_size=7)
    assert torch.allclose(images.vectors[images.mask].norm(dim=-1), torch.tensor(1.0), atol=1e-5)
    assert torch.allclose(captions.vectors[captions.mask].norm(dim=-1), torch.tensor(1.0), atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(model.scores(images, captions), whole, rtol=0, atol=1e-5 * whole.abs().max())


def test_special_tokens_take_no_part():
    model = new_model("teran").eval()
    captions = caption_batch(tokenise(TOKENIZER, TRAIN.captions), np.arange(2))
    with torch.no_grad():
        words = model.encode_captions(captions)
    pieces = [len(TOKENIZER.tokenize(caption)) for caption in TRAIN.captions[:2]]
    assert words.mask.sum(dim=1).tolist() == pieces and not words.mask[:, 0].any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_one_loop_trains_it(variant):
    model = new_model(variant)
    before = evaluate(model, TOKENIZER, VAL)["rsum"]
    train(model, TripletObjective(), TOKENIZER, TRAIN, VAL, CONFIG, progress=False)
    assert evaluate(model, TOKENIZER, VAL)["rsum"] > 2 * before + 50


def test_info_nce_is_an_alternative():
    model = new_model("chan")
    before = evaluate(model, TOKENIZER, VAL)["rsum"]
    train(model, InfoNCEObjective(temperature=1.0), TOKENIZER, TRAIN, VAL, CONFIG, progress=False)
    assert evaluate(model, TOKENIZER, VAL)["rsum"] > 2 * before + 50


def test_augmentation_is_of_training_only_and_can_be_repeated():
    images = image_batch(TRAIN, np.arange(50))
    model = new_model("chan").train()
    torch.manual_seed(1)
    first, again = model.encode_images(images).mask, model.encode_images(images).mask
    torch.manual_seed(1)
    assert torch.equal(model.encode_images(images).mask, first) and not torch.equal(first, again)
    assert torch.equal(model.eval().encode_images(images).mask, images.mask)


def test_an_interrupted_run_draws_the_same_augmentation(tmp_path):
    whole, resumed = new_model("chan"), new_model("chan")
    train(whole, TripletObjective(), TOKENIZER, TRAIN, VAL, CONFIG, progress=False)

    class Stop(Exception):
        pass

    objective = TripletObjective()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(TripletObjective, "__call__", lambda self, *given: stop_or_loss(Stop, *given))
        train(new_model("chan"), objective, TOKENIZER, TRAIN, VAL, CONFIG, progress=False, folder=tmp_path)
    train(resumed, objective, TOKENIZER, TRAIN, VAL, CONFIG, progress=False, folder=tmp_path)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


LOSS = TripletObjective.__call__


def stop_or_loss(stop, model, batch, epoch):
    if epoch == 1:
        raise stop
    return LOSS(TripletObjective(), model, batch, epoch)


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_and_loaded(variant, tmp_path):
    model = new_model(variant).eval()
    save_model(model, tmp_path)
    assert torch.equal(score(load_model(tmp_path), TOKENIZER, VAL), score(model, TOKENIZER, VAL))


def test_a_save_that_dies_leaves_the_old_model_whole(tmp_path, monkeypatch):
    old, new = new_model("chan").eval(), new_model("teran")
    save_model(old, tmp_path)

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(models, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_model(new, tmp_path)
    assert torch.equal(score(load_model(tmp_path), TOKENIZER, VAL), score(old, TOKENIZER, VAL))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vse", {"dim": 1024}),
        ("teran", {"dim": 1024, "region_dim": 2048, "region_layers": 4, "joint_layers": 2, "feed_forward": 2048}),
        ("chan", {"dim": 1024, "geometry": False, "coding": "hard", "pooling": "lse", "drop_regions": 0.2}),
    ],
)
def test_the_papers_sizes_by_name(name, expected):
    with torch.device("meta"):  # shapes without numbers
        model = build(name, preset="paper", feature_dim=2048, text=TextConfig(100, mask_token=4))
    assert {key: getattr(model.config, key) for key in expected} == expected
    with pytest.raises(ValueError, match="preset is 'large'"):
        build(name, preset="large", feature_dim=8, text=TextConfig(100))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("teran", {"pooling": "mean"}, "pooling is 'mean', expected one of 'MrSw'"),
        ("chan", {"coding": "attention"}, "coding is 'attention'"),
        ("chan", {"pooling": "MrSw"}, "pooling is 'MrSw'"),
        ("chan", {"text": TextConfig(9)}, "corrupt_words puts .MASK. into captions"),
        ("teran", {"dim": 30, "heads": 4}, "heads is 4, expected a divisor of the width 30"),
        ("tgdt", {"heads": 0}, "heads is 0, expected a divisor"),
        ("chan", {"heads_of_cattle": 3}, "does not take these settings"),
    ],
)
def test_bad_settings(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build(name, **{"feature_dim": 8, "text": TextConfig(9, mask_token=4), **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "lstm"}, "kind is 'lstm'"),
        ({"kind": "bigru", "pretrained": "bert"}, "a BiGRU is trained from scratch"),
    ],
)
def test_bad_text_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        TextConfig(9, **settings)


def test_first_layers_of_a_pretrained_model_learn_at_their_own_rate(tmp_path):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    bert = BertModel(BertConfig(vocab_size=len(TOKENIZER), **shape), add_pooling_layer=False).eval()
    bert.save_pretrained(tmp_path)
    text = TextConfig(len(TOKENIZER), pretrained=str(tmp_path), first_layers=2, mask_token=TOKENIZER.mask_token_id)
    encoder = TextEncoder(text, 8).eval()
    ids, mask = caption_batch(tokenise(TOKENIZER, TRAIN.captions), np.arange(3))
    with torch.no_grad():
        after_two = bert(ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states[2]
        assert torch.allclose(encoder(ids, mask), encoder.project(after_two), atol=1e-6)
    with pytest.raises(ValueError, match="first_layers is 4"):
        TextEncoder(TextConfig(9, pretrained=str(tmp_path), first_layers=4), 8)

    frozen = build("chan", feature_dim=16, text=text, dim=8)
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    config = TrainConfig(epochs=1, batch_size=50, pretrained_rate=0.0, weight_decay=0.0)
    train(frozen, TripletObjective(), TOKENIZER, TRAIN, VAL, config, progress=False)
    moved = {name for name, value in frozen.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and not any(name.startswith("text.bert") for name in moved)


@pytest.mark.parametrize("name", ["teran", "chan"])
def test_a_recipe_for_every_profile(name):
    make = getattr(recipes, name)
    for profile in ("smoke", "quick", "full"):
        assert type(make(profile).model) is type(MODELS[name][1])


@pytest.mark.parametrize(("name", "sizes"), [("vse", {"dim": 64}), ("chan", {"dim": 64}), ("user", {"queue_size": 0})])
def test_a_recipe_fills_in_what_the_data_know_and_builds_as_build_does(name, sizes):
    recipe = getattr(recipes, name)("smoke", seed=5)
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **sizes))
    torch.manual_seed(5)
    text = TextConfig(len(TOKENIZER), hidden=32, layers=1, mask_token=TOKENIZER.mask_token_id)
    expected = build(name, feature_dim=TRAIN.feature_dim, text=text, **{"dim": 64, **sizes})
    model = recipe.build(TRAIN, TOKENIZER)
    assert model.config == expected.config
    for key, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_a_guide_is_as_wide_as_the_datas():
    guides = np.ones((len(TRAIN), 24), np.float16)
    recipe = recipes.user("smoke")
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, guide="clip"))
    model = recipe.build(dataclasses.replace(TRAIN, guides=guides), TOKENIZER)
    assert model.image_encoder.guide.fit.in_features == model.config.guide_dim == 24
    with pytest.raises(ValueError, match="guide is 'clip' and guide_dim 0"):
        recipe.build(TRAIN, TOKENIZER)


@pytest.mark.parametrize("name", MODELS)
def test_a_configuration_without_the_datas_sizes_is_refused_when_it_is_built(name):
    unfinished = dataclasses.replace(MODELS[name][1], text=TextConfig(mask_token=4))
    with pytest.raises(ValueError, match="feature_dim is 0"):
        from_config(unfinished)
    with pytest.raises(ValueError, match="vocabulary_size is 0"):
        from_config(dataclasses.replace(unfinished, feature_dim=8))


def test_what_build_does_not_make_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="model is a Linear, expected one of vse"):
        save_model(torch.nn.Linear(2, 2), tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(ValueError, match="config is a TrainConfig, expected the configuration of one of vse"):
        from_config(CONFIG)
    (tmp_path / "config.json").write_text("null")
    with pytest.raises(ValueError, match="does not hold a model"):
        load_model(tmp_path)


def test_encode_leaves_each_part_in_its_mode_also_after_an_error(monkeypatch):
    model = new_model("chan").train()
    model.text.eval()  # as a frozen text model may be kept
    modes = [module.training for module in model.modules()]
    encode(model, TOKENIZER, VAL)
    assert [module.training for module in model.modules()] == modes
    monkeypatch.setattr(model, "encode_captions", lambda batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        encode(model, TOKENIZER, VAL)
    assert [module.training for module in model.modules()] == modes
