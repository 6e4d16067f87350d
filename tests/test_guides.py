"""Guides: the small CLIP they come from, other CLIPs and files, and that each image keeps its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy import toy_data
from transformers import AutoTokenizer, CLIPModel

from data_scripts import extract_features, train_clip
from itr_lib.data import Splits, load_splits, tokenise
from itr_lib.data.batches import image_batch
from itr_lib.data.photographs.layouts import load_folder
from itr_lib.data.scenes.rendering import render
from itr_lib.data.scenes.worker import Job, draw
from itr_lib.encoders.pretrained import load_image_model
from itr_lib.guides import clip as guides
from itr_lib.guides import small_clip
from itr_lib.guides.clip import clip_guides, file_guides, guided, zero_shot_scores
from itr_lib.guides.small_clip import FILES, OWN_SCENES, SmallClip, phrases_of, train_small_clip

TINY = SmallClip(
    scenes=60, single_steps=2, scene_steps=2, batch_size=16, image_size=32, width=32, image_layers=1, dim=8
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    train_small_clip(folder, 0, TINY, progress=False)
    return folder


@pytest.fixture(scope="module")
def scenes():
    return load_splits("scenes", profile="smoke")


@pytest.fixture
def few(scenes):
    return scenes.val.take(np.arange(9))


def write(path, names, features):
    np.savez(path, filenames=np.array(names), features=features)
    return path


def test_saved_files_are_a_clips(clip, few):
    """What the library makes of the pictures is what plain transformers makes of them."""
    assert {path.name for path in clip.iterdir()} == FILES
    made = clip_guides(few, clip, batch_size=4, progress=False).guides
    model = CLIPModel.from_pretrained(clip).eval()
    pictures = np.stack([render(scene, 32) for scene in few.truth.scenes])
    with torch.no_grad():
        vectors = model.get_image_features(pixel_values=small_clip._pixels(pictures)).pooler_output
    expected = vectors / vectors.norm(dim=1, keepdim=True)
    assert made.dtype == np.float16 and np.allclose(made, expected.numpy(), atol=1e-3)
    assert np.allclose(np.linalg.norm(made.astype(np.float32), axis=1), 1, atol=2e-3)
    assert len(np.unique(made, axis=0)) == len(few)


def test_the_processor_does_what_training_did(clip):
    _, processor, _ = load_image_model(clip)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    pixels = processor(images=list(pictures), return_tensors="pt")["pixel_values"]
    assert torch.allclose(pixels, small_clip._pixels(pictures), atol=1e-5)


def test_the_extraction_command_reads_it(clip, few, tmp_path):
    (tmp_path / "images").mkdir()
    for row, scene in enumerate(few.truth.scenes):
        guides.Image.fromarray(render(scene, 32)).save(tmp_path / "images" / f"{few.image_ids[row]}.png")
    command = ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "clip"), "--model", str(clip)]
    assert extract_features.main([*command, "--precision", "float32"]) == 0
    named = replace(few, image_ids=tuple(f"{name}.png" for name in few.image_ids))
    from_file = file_guides(named, tmp_path / "clip").guides
    assert np.allclose(from_file, clip_guides(few, clip, progress=False).guides, atol=2e-3)


def test_two_runs_give_the_same_weights_and_leave_the_random_numbers_alone(clip, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train_small_clip(tmp_path, 0, TINY, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    first, second = (load_file(folder / "model.safetensors") for folder in (clip, tmp_path))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert (clip / "tokenizer.json").read_text() == (tmp_path / "tokenizer.json").read_text()


def test_captions_are_pooled_at_their_last_token(clip):
    """Found at the first ``eos_token_id``; with transformers' default no position would be, and all pool at 0."""
    tokenizer, model = AutoTokenizer.from_pretrained(clip), CLIPModel.from_pretrained(clip).eval()
    captions = ["a red star", "a large striped box above a small blue ring"]
    ids, mask = (torch.from_numpy(part).long() for part in tokenise(tokenizer, captions))
    last = mask.sum(dim=1) - 1
    assert (ids[range(2), last] == tokenizer.sep_token_id).all() and last[0] < last[1]
    with torch.no_grad():
        text = model.text_model(ids, attention_mask=mask)
        alone = model.get_text_features(ids[:1, : last[0] + 1]).pooler_output
        padded = model.get_text_features(ids, attention_mask=mask).pooler_output
    assert torch.equal(text.pooler_output, text.last_hidden_state[range(2), last])
    assert torch.allclose(alone[0], padded[0], atol=1e-5)


def test_no_scene_is_also_the_courses(scenes):
    own = set(draw(Job("train", OWN_SCENES, 0, 50)).scenes)
    course = set(scenes.train.truth.scenes) | set(scenes.val.truth.scenes) | set(scenes.test.truth.scenes)
    assert len(own) == 50 and not own & course


def test_a_single_object_comes_with_its_words(scenes):
    truth, owner = scenes.val.truth, scenes.val.image_of_caption
    for image in range(10):
        own = tuple(caption for caption, at in zip(truth.captions, owner, strict=True) if at == image)
        for place, phrases in phrases_of(own).items():
            said = [word.text for caption in own for word in caption.words if word.objects == (place,)]
            assert " ".join(phrases).split() == said and 0 < len(phrases) <= len(own)


def test_guides_follow_their_images_into_batches(clip, few):
    data = clip_guides(few, clip, progress=False)
    rows = np.array([5, 2, 7])
    part = data.take(rows)
    assert (few.guides, few.guide_dim, data.guide_dim) == (None, 0, 8)
    assert np.array_equal(part.guides, data.guides[rows])
    assert np.array_equal(clip_guides(few.take(rows), clip, progress=False).guides, part.guides)
    batch = image_batch(data, rows)
    assert batch.guide.dtype == torch.float32 and torch.equal(batch.guide, torch.from_numpy(part.guides).float())
    assert image_batch(few, rows).guide is None


@pytest.mark.parametrize("shape", [(8, 3), (9,), (9, 2, 3)])
def test_guides_are_one_vector_an_image(few, shape):
    with pytest.raises(ValueError, match="guides of .*expected \\(9, any width\\)"):
        replace(few, guides=np.zeros(shape, np.float16))


def test_file_guides_go_by_name(tmp_path):
    data = toy_data(images=4)
    features = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    path = write(tmp_path / "g.npz", ["3", "9", "1", "0", "8", "2"], features)
    found = file_guides(data, path).guides
    expected = features[[3, 2, 5, 0]]
    assert np.allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-3)


def test_a_file_without_some_images(tmp_path):
    data = toy_data(images=4)
    path = write(tmp_path / "g.npz", ["2", "0"], np.eye(2, 5, dtype=np.float32))
    with pytest.raises(
        ValueError, match="no vector for 2 of the 4 images of 'toy'/'train' \\('1', say\\).*only_covered"
    ):
        file_guides(data, path)
    kept = file_guides(data, path, only_covered=True)
    assert kept.image_ids == ("0", "2") and kept.guides.argmax(axis=1).tolist() == [1, 0]
    assert kept.captions_of(1) == data.captions_of(2)


@pytest.mark.parametrize(
    ("names", "features", "message"),
    [
        ("0121", np.ones((4, 5), np.float32), "names '1' twice"),
        ("0123", np.full((4, 5), np.nan, np.float32), "Features of '0' .*NaN"),
        ("0123", np.ones((3, 5), np.float32), "has shape \\(3, 5\\)"),
        ("0123", np.ones((4, 2, 5), np.float32), "holds 2 vectors an image"),
        ("0123", np.ones((4, 5), int), "type int64: expected floats"),
        ("abcd", np.ones((4, 5), np.float32), "none of the images"),
    ],
)
@pytest.mark.parametrize("only_covered", [False, True])
def test_files_that_cannot_be_used(tmp_path, names, features, message, only_covered):
    path = write(tmp_path / "g.npz", list(names), features)
    with pytest.raises(ValueError, match=message):
        file_guides(toy_data(images=4), path, only_covered=only_covered)


def test_real_clip_vectors(shared_data):
    root = shared_data / "flickr8k"
    file = root / "clip_vitb32_images.npz"
    data = load_folder("flickr8k", root, features=file)
    for split, count in (("train", 1805), ("val", 308)):
        found = file_guides(data[split], file, only_covered=True)
        assert found.guides.shape == (count, 512) and np.array_equal(found.image_ids, data[split].image_ids)
        assert np.allclose(found.guides, data[split].features[:, 0], atol=1e-3)


def test_a_model_that_is_not_there(few, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for add in (lambda name: clip_guides(few, name), lambda name: guided(Splits(few, few, few), name)):
        with pytest.raises(OSError, match="could not be loaded .*Take one of three.*on another machine"):
            add(str(tmp_path / "none"))


def test_a_model_that_is_no_clip(few, clip, tmp_path):
    model = CLIPModel.from_pretrained(clip).vision_model
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text((clip / "preprocessor_config.json").read_text())
    with pytest.raises(ValueError, match="a guide comes from a CLIP"):
        clip_guides(few, tmp_path)


def test_data_without_pictures(clip):
    with pytest.raises(ValueError, match="loaded without pictures"):
        clip_guides(toy_data(images=3), clip, progress=False)


def test_every_part_gets_guides_and_they_are_kept(scenes, clip, tmp_path, monkeypatch):
    monkeypatch.setenv("ITR_CACHE", str(tmp_path))
    monkeypatch.setitem(small_clip.PROFILES, "smoke", TINY)
    small = replace(scenes, train=scenes.train.take(np.arange(20)), test=scenes.test.take(np.arange(10)))
    first = guided(small, profile="smoke", progress=False)
    monkeypatch.setattr(guides, "clip_guides", lambda *a, **k: pytest.fail("made again"))
    again = guided(small, profile="smoke", progress=False)
    direct = guided(small, str(clip), profile="smoke", progress=False)
    for data in ("train", "val", "test"):
        one, two, three = (getattr(splits, data) for splits in (first, again, direct))
        assert np.array_equal(one.guides, two.guides) and np.array_equal(one.guides, three.guides)
        assert one.guides.shape == (len(getattr(small, data)), 8)
    assert {name: data.guide_dim for name, data in first.probes.items()} == {"swaps": 8, "replaces": 8}
    assert first.notes == scenes.notes and scenes.train.guides is None


def test_scenes_of_another_seed_are_not_mistaken_for_these(few):
    other = replace(few, features=few.features[::-1].copy())
    assert guides._content(few, "a") != guides._content(other, "a") != guides._content(other, "b")


@pytest.mark.parametrize(
    ("profile", "seed", "message"), [("fast", 0, "profile is 'fast'"), ("smoke", -1, "seed is -1")]
)
def test_settings_that_cannot_be(few, profile, seed, message):
    with pytest.raises(ValueError, match=message):
        guided(Splits(few, few, few), profile=profile, seed=seed)


def test_the_command_trains_into_a_folder(tmp_path, scenes, monkeypatch, capsys):
    monkeypatch.setitem(small_clip.PROFILES, "smoke", TINY)
    monkeypatch.setattr(train_clip, "VALIDATION", "smoke")
    command = ["--profile", "smoke", "--out", str(tmp_path / "a" / "clip")]
    assert train_clip.main(command) == 0 and train_clip.main(command) == 0
    said = capsys.readouterr().out
    assert "R@1 on 64 validation scenes: image to text" in said and "(chance 1.6)" in said
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["clip"]
    (tmp_path / "a" / "clip" / "notes.txt").write_text("mine")
    assert train_clip.main(command) == 1 and "something else" in capsys.readouterr().err
    assert (tmp_path / "a" / "clip" / "notes.txt").read_text() == "mine"


def test_scores_have_images_in_rows(clip, few):
    scores = zero_shot_scores(few, clip)
    assert scores.shape == (9, len(few.captions)) and scores.abs().max() <= 1.01


@pytest.mark.slow
def test_the_small_clip_learns(tmp_path, scenes):
    """Half a minute: nothing shorter shows that the loss, the pooled token and the pixels fit together."""
    settings = SmallClip(scenes=1500, single_steps=450, scene_steps=150)
    train_small_clip(tmp_path, 0, settings, progress=False)
    data = scenes.test
    ranks = zero_shot_scores(data, tmp_path).T.argsort(dim=1, descending=True)[:, :10]
    hits = (ranks == torch.from_numpy(data.image_of_caption)[:, None]).any(dim=1).float().mean()
    assert hits > 2.5 * 10 / len(data)
