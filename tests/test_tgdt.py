"""TGDT: one network, two readings; the global one sends no gradient into the local one unless it is asked to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import toy_data

from itr_lib.data import tokenise, train_tokenizer
from itr_lib.data.batches import CaptionBatch, ImageBatch, caption_batch, image_batch, pair_batch
from itr_lib.encoders.regions import FirstToken, transformer
from itr_lib.encoders.text import TextConfig
from itr_lib.evaluation import retrieval_metrics
from itr_lib.inference import encode, score
from itr_lib.models import build, load_model, save_model
from itr_lib.objectives import TwoLevelObjective, consistency_loss, info_nce, triplet_loss
from itr_lib.training import TrainConfig, train

TRAIN, VAL = toy_data(), toy_data(images=60, split="val")
TOKENIZER = train_tokenizer(TRAIN.captions)
CONFIG = TrainConfig(epochs=4, batch_size=50, warmup_steps=4, learning_rate=3e-3)


def new_model(seed: int = 0, **settings):
    torch.manual_seed(seed)
    text = TextConfig(len(TOKENIZER), hidden=32, layers=1, **settings.pop("text", {}))
    return build("tgdt", feature_dim=16, text=text, dim=32, region_dim=32, feed_forward=64, **settings)


def batches(images: int = 3, captions: int = 4):
    tokens = tokenise(TOKENIZER, TRAIN.captions)
    return image_batch(TRAIN, np.arange(images)), caption_batch(tokens, np.arange(captions))


def test_padding_has_no_say():
    model, (images, captions) = new_model().eval(), batches()
    garbage = torch.full((3, 2, 16), 9.0), torch.full((3, 2, 4), 0.5), torch.zeros(3, 2, dtype=torch.bool)
    wider_images = ImageBatch(*(torch.cat(pair, dim=1) for pair in zip(images[:3], garbage, strict=True)))
    more = torch.full((4, 3), 7), torch.zeros(4, 3, dtype=torch.bool)
    wider_captions = CaptionBatch(*(torch.cat(pair, dim=1) for pair in zip(captions, more, strict=True)))
    with torch.no_grad():
        scores = model.scores(model.encode_images(images), model.encode_captions(captions))
        wider = model.scores(model.encode_images(wider_images), model.encode_captions(wider_captions))
    assert torch.allclose(scores, wider, rtol=0, atol=1e-5 * scores.abs().max())


def test_both_readings_are_unit_vectors_and_do_not_depend_on_the_batch():
    model = new_model()
    images, captions = encode(model, TOKENIZER, VAL, batch_size=7)
    for encoded in (images, captions):
        for vectors in (encoded.whole, encoded.vectors[encoded.mask]):
            assert torch.allclose(vectors.norm(dim=-1), torch.tensor(1.0), atol=1e-5)
    whole = score(model, TOKENIZER, VAL)
    with torch.no_grad():
        assert torch.allclose(model.scores(images, captions), whole, rtol=0, atol=1e-5 * whole.abs().max())


def test_the_score_is_global_plus_weighted_local():
    for weight in (0.0, 0.5):
        model = new_model(local_weight=weight).eval()
        images, captions = encode(model, TOKENIZER, VAL)
        expected = images.whole @ captions.whole.T + weight * model.local.scores(images.tokens, captions.tokens)
        assert torch.allclose(model.scores(images, captions), expected, atol=1e-5)


@pytest.mark.parametrize("detach", [True, False])
def test_the_global_task_reaches_the_branches_only_when_joint(detach):
    model, (images, captions) = new_model(detach=detach, joint_layers=2), batches(captions=3)
    model.global_scores(model.encode_images(images), model.encode_captions(captions)).sum().backward()
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    on_top = {"global_regions", "global_words"}
    assert reached == (on_top if detach else on_top | {"local"})


def test_local_scores_are_those_of_its_teran():
    model, (images, captions) = new_model().eval(), batches()
    with torch.no_grad():
        own = model.local_scores(model.encode_images(images), model.encode_captions(captions))
        teran = model.local.scores(model.local.encode_images(images), model.local.encode_captions(captions))
    assert torch.equal(own, teran)


def test_the_global_vector_sees_every_region_and_word():
    model, (images, captions) = new_model().eval(), batches()
    other = images.features.clone()
    other[0, 3] += 1
    with torch.no_grad():
        first, second = (model.encode_images(images._replace(features=f)).whole for f in (images.features, other))
    assert not torch.allclose(first[0], second[0], atol=1e-4) and torch.allclose(first[1:], second[1:], atol=1e-6)
    changed = captions.ids.clone()
    changed[0, 2] = captions.ids[1, 3] if captions.ids[0, 2] != captions.ids[1, 3] else captions.ids[1, 2]
    with torch.no_grad():
        assert not torch.allclose(
            model.encode_captions(captions).whole[0], model.encode_captions(captions._replace(ids=changed)).whole[0]
        )


@pytest.mark.parametrize("layers", [1, 3])
def test_the_first_token_alone_is_that_of_the_whole_stack(layers):
    torch.manual_seed(0)
    stack = transformer(16, layers, heads=4, dropout=0.3).double().eval()
    alone = FirstToken(16, layers, heads=4, dropout=0.3).double().eval()
    alone.load_state_dict(stack.state_dict())
    tokens, mask = torch.randn(5, 7, 16, dtype=torch.float64, requires_grad=True), torch.rand(5, 7) < 0.6
    mask[:, 0] = True
    with torch.enable_grad():
        first, whole = (some(tokens, src_key_padding_mask=~mask)[:, 0] for some in (alone, stack))
        gradients = [torch.autograd.grad(out.square().sum(), tokens)[0] for out in (first, whole)]
    assert torch.allclose(first, whole, rtol=0, atol=1e-12) and torch.allclose(*gradients, rtol=0, atol=1e-12)
    assert torch.equal(first, alone(tokens.masked_fill(~mask[..., None], 9.0), src_key_padding_mask=~mask)[:, 0])
    with pytest.raises(ValueError, match="src_key_padding_mask"):
        alone(tokens, ~mask)


def test_alone_the_global_part_trains_and_the_branches_stay():
    model = new_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with model.global_alone():
        images, captions = encode(model, TOKENIZER, VAL)
        assert torch.equal(model.scores(images, captions), model.global_scores(images, captions))
        train(model, TwoLevelObjective(local_weight=0.0), TOKENIZER, TRAIN, VAL, CONFIG, progress=False)
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"global_regions", "global_words"}
    assert model.config.local_weight == 1.0 and all(p.requires_grad for p in model.parameters())


def test_alone_is_over_when_training_stops_with_an_error():
    model = new_model()
    model.local.whole_image.requires_grad_(False)
    with pytest.raises(KeyError), model.global_alone():
        raise KeyError
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert model.config.local_weight == 1.0 and frozen == ["local.whole_image"]


def test_saved_and_loaded_models_score_alike(tmp_path):
    model = new_model(shared=True, global_layers=2, pooling="Symm").eval()
    save_model(model, tmp_path)
    assert torch.equal(score(load_model(tmp_path), TOKENIZER, VAL), score(model, TOKENIZER, VAL))


def test_the_papers_preset():
    text = TextConfig(len(TOKENIZER), hidden=32, layers=1)
    config = build("tgdt", feature_dim=16, text=text, preset="paper").config
    assert (config.dim, config.global_layers, config.joint_layers, config.detach) == (1024, 2, 2, True)


def test_the_one_loop_trains_both_readings():
    model = new_model()
    train(model, TwoLevelObjective(), TOKENIZER, TRAIN, VAL, CONFIG, progress=False)
    images, captions = encode(model, TOKENIZER, VAL)
    found = [
        retrieval_metrics(scores, VAL.image_of_caption).rsum
        for scores in (model.global_scores(images, captions), model.local_scores(images, captions))
    ]
    assert found[0] > 80 and found[1] > 200, found  # chance 41


def test_the_objective_is_the_sum_of_its_parts():
    model = new_model(dropout=0.0, text={"dropout": 0.0}).train()
    batch = pair_batch(TRAIN, tokenise(TOKENIZER, TRAIN.captions), np.array([0, 1, 3, 6]))  # 0 and 1: one image
    images, captions = model.encode_images(batch.images), model.encode_captions(batch.captions)
    same = batch.same_image
    inter = triplet_loss(images.whole @ captions.whole.T, same_image=same)
    intra = consistency_loss(images.whole @ images.whole.T, captions.whole @ captions.whole.T, margin=0.3)
    local = triplet_loss(model.local.scores(images.tokens, captions.tokens), same_image=same)
    for weights, expected in {
        (1.0, 1.0, 1.0): inter + intra + local,
        (2.0, 0.5, 0.0): 2 * inter + 0.5 * intra,
        (0.0, 0.0, 1.0): local,
    }.items():
        names = ("global_weight", "intra_weight", "local_weight")
        objective = TwoLevelObjective(**dict(zip(names, weights, strict=True)))
        assert torch.allclose(objective(model, batch, 1), expected / 4, atol=1e-5)
    contrast = TwoLevelObjective(global_weight=2.0, temperature=0.1)(model, batch, 1)
    expected = 2 * info_nce(images.whole @ captions.whole.T, temperature=0.1, same_image=same) + (intra + local) / 4
    assert torch.allclose(contrast, expected, atol=1e-5)
    both = TwoLevelObjective(temperature=0.1, local_temperature=0.2, intra_weight=0.0)(model, batch, 1)
    whole = info_nce(images.whole @ captions.whole.T, temperature=0.1, same_image=same)
    local_scores = model.local.scores(images.tokens, captions.tokens)
    assert torch.allclose(both, whole + info_nce(local_scores, temperature=0.2, same_image=same), atol=1e-5)
    first_epoch = TwoLevelObjective(intra_weight=0.0, local_weight=0.0)(model, batch, 0)
    assert torch.allclose(
        first_epoch, triplet_loss(images.whole @ captions.whole.T, negatives="all", same_image=same) / 4, atol=1e-5
    )


def test_without_joint_layers_the_projections_are_what_is_aligned():
    model, (images, _) = new_model(joint_layers=0).eval(), batches()
    tokens, real = model.local.image_sequence(images)
    regions = model.local.regions(images.features, images.boxes, images.mask)
    assert torch.equal(tokens[:, 1:], model.local.project_regions(regions)) and real[:, 0].all()


def test_without_global_layers_the_global_vector_is_the_mean_of_the_tokens():
    model, (images, captions) = new_model(global_layers=0, detach=False).eval(), batches()
    images = images._replace(mask=images.mask & (torch.arange(images.mask.shape[1]) < 2))
    with torch.no_grad():
        whole = model.encode_images(images).whole, model.encode_captions(captions).whole
        tokens, real = model.local.image_sequence(images)
        words = model.local.caption_sequence(captions)
    for vectors, some, masks in zip(whole, (tokens, words), (real, captions.mask), strict=True):
        for vector, row, mask in zip(vectors, some, masks, strict=True):
            mean = row[mask].mean(dim=0)
            torch.testing.assert_close(vector, mean / mean.norm(), rtol=0, atol=1e-5)
    assert not list(model.global_regions.parameters())
