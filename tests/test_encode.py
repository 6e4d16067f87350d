"""Encoding a collection part by part: what lies in the parts, what is skipped, who is killed, and who works beside."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from toy import toy_network

from data_scripts import encode
from data_scripts.encode import encoded_in, main
from itr_lib.data.batches import image_batch
from itr_lib.data.dataset import RetrievalData
from itr_lib.encoders.backbone import Backbone, BackboneConfig
from itr_lib.encoders.text import TextConfig
from itr_lib.models import build, load_model, save_model
from itr_lib.search import TwoStageIndex

NAMES = [f"{letter}.png" for letter in "abcdefgh"]  # a to e in a folder, the rest in a tar
BAD = "c.png"


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A folder of five pictures, one of them broken; a tar of three with their captions; the trained models."""
    root, noise = tmp_path_factory.mktemp("collection"), np.random.default_rng(0)
    (root / "some").mkdir()
    for name in NAMES:
        Image.fromarray(noise.integers(0, 256, (20, 30, 3), np.uint8)).save(root / "some" / name)
    with tarfile.open(root / "more.tar", "w") as tar:
        for name in NAMES[5:]:
            tar.add(root / "some" / name, f"x/{name}")
            caption = root / "some" / name.replace("png", "txt")
            caption.write_text("a caption")
            tar.add(caption, f"x/{caption.name}")
            (root / "some" / name).rename(root / name)
    (root / "some" / BAD).write_bytes(b"no picture")
    (root / "network").mkdir()
    network = toy_network(root / "network")
    text = TextConfig(30, hidden=16, layers=1)
    for name in ("vse", "tgdt"):
        torch.manual_seed(0)
        backbone = Backbone(BackboneConfig(network, grid=2))
        model = build(name, feature_dim=backbone.width, text=text, dim=16)
        model.backbone = backbone
        save_model(model, root / name)
    return root


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(encode, "PART", 2)


def command(root, out, *more, model="tgdt"):
    given = ["--pictures", root / "some", root / "more.tar", "--run", root / model, "--out", out, "--device", "cpu"]
    return [*map(str, given), "--batch-size", "2", "--precision", "float32", *map(str, more)]


def expected(root, model):
    """What the model makes of the good pictures, all at once."""
    good = [name for name in NAMES if name != BAD]
    paths = [root / "some" / name if name < "f" else root / name for name in good]
    data = RetrievalData(
        name="x", split="test", image_ids=tuple(good), captions=("w",) * len(good),
        image_of_caption=np.arange(len(good)), features=np.zeros((len(good), 1, 1), np.float16),
        boxes=np.zeros((len(good), 1, 4), np.float32), region_mask=np.ones((len(good), 1), bool),
        open_picture=lambda row: Image.open(paths[row]).convert("RGB"),
    )  # fmt: skip
    seen = model.backbone.pictures(data)
    with torch.no_grad():
        return good, model.encode_images(model.backbone(image_batch(seen, np.arange(len(good)))))


@pytest.mark.parametrize("name", ["vse", "tgdt"])
def test_folders_and_tars_become_parts_and_an_index(collection, tmp_path, capsys, name):
    out, model = tmp_path / "out", load_model(collection / name)
    assert main(command(collection, out, "--index", tmp_path / "images.index", model=name)) == 0
    told = capsys.readouterr().out
    assert "4 of 4 parts are encoded" in told and "picture that cannot be used" in told
    names, right = expected(collection, model)
    assert [one for ids, _ in encoded_in(out) for one in ids] == names
    wholes = torch.cat([e if name == "vse" else e.whole for _, e in encoded_in(out)])
    assert torch.allclose(wholes, right if name == "vse" else right.whole, atol=1e-5)
    if name == "tgdt":
        assert torch.allclose(torch.cat([e.vectors for _, e in encoded_in(out)]), right.vectors, atol=1e-5)
    assert TwoStageIndex.load(tmp_path / "images.index").ids == names


def vectors_in(out):
    return torch.cat([encoded for _, encoded in encoded_in(out)])


def given_for(root, source):
    name = {"--run": "vse", "--model": "network"}[source]
    return ["--pictures", str(root / "some"), source, str(root / name), "--device", "cpu"]


@pytest.mark.parametrize("source", ["--run", "--model"])
def test_sixteen_bits_come_near_and_do_not_mix_with_others(collection, tmp_path, capsys, source):
    given = given_for(collection, source)
    for name in ("float32", "bfloat16"):
        assert main([*given, "--out", str(tmp_path / name), "--precision", name]) == 0
    near, right = vectors_in(tmp_path / "bfloat16"), vectors_in(tmp_path / "float32")
    assert near.dtype == torch.float32 and not torch.equal(near, right)
    assert float(torch.cosine_similarity(near, right).min()) > 0.9999
    assert main([*given, "--out", str(tmp_path / "float32"), "--precision", "bfloat16"]) == 1
    assert "is of other precision, 'float32' and not 'bfloat16'" in capsys.readouterr().err


@pytest.mark.slow  # a C++ compiler at work, some ten seconds a network
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler")
@pytest.mark.parametrize("source", ["--run", "--model"])
def test_a_compiled_network_gives_the_same_vectors(collection, tmp_path, source):
    given = given_for(collection, source)
    for name, more in {"plain": [], "compiled": ["--compile"]}.items():
        assert main([*given, "--out", str(tmp_path / name), "--precision", "float32", *more]) == 0
    assert torch.allclose(vectors_in(tmp_path / "compiled"), vectors_in(tmp_path / "plain"), atol=1e-6)


@pytest.mark.slow  # a process of its own, where nothing is compiled yet
def test_where_nothing_compiles_the_option_is_named(collection, tmp_path):
    given = f"--pictures {collection / 'some'} --model {collection / 'network'} --out {tmp_path / 'out'}"
    own = {"CXX": "/nonexistent", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    words = [sys.executable, "-m", "data_scripts.encode", *given.split(), "--device", "cpu", "--compile"]
    done = subprocess.run(words, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.endswith(f"encode: {encode.NO_COMPILER}\n")


def test_who_is_killed_loses_a_part_and_another_run_is_refused(collection, tmp_path, monkeypatch, capsys):
    out, calm, write, made = tmp_path / "out", tmp_path / "calm", encode.write, []

    def dying(part, *others):
        if len(made) == 2:
            (out / "000002.safetensors.partial").write_bytes(b"half")
            raise OSError("no space left")
        made.append(part.number)
        write(part, *others)

    monkeypatch.setattr(encode, "write", dying)
    assert main(command(collection, out)) == 1 and "no space left" in capsys.readouterr().err
    monkeypatch.setattr(encode, "write", lambda part, *others: made.append(part.number) or write(part, *others))
    assert main(command(collection, out)) == main(command(collection, out)) == 0 and made == [0, 1, 2, 3]
    assert main(command(collection, calm)) == 0
    for path in calm.glob("*.safetensors"):
        assert path.read_bytes() == (out / path.name).read_bytes()
    assert main(command(collection, out, model="vse")) == 1
    assert "is of other encoder" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    assert main(command(collection, tmp_path / "full")) == 1 and "something else" in capsys.readouterr().err
    assert main(["--pictures", str(collection / "more.zip"), "--model", "x", "--out", str(out)]) == 1
    assert "neither a folder nor a .tar or .parquet file" in capsys.readouterr().err


def test_a_part_that_another_is_at_work_on_is_left_to_it(collection, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    parts = encode.parts_of([collection / "some", collection / "more.tar"], encode.Problems())
    encode.claim(out, encode.settings_of(str(collection / "vse"), "float32", parts))
    index = tmp_path / "images.index"
    with FileLock(out / "000001.lock"):
        process = multiprocessing.get_context("spawn").Process(
            target=one_of_two, args=(command(collection, out, "--index", index, model="vse"),)
        )
        process.start()
        process.join(120)
    assert process.exitcode == 0 and not index.exists()
    assert {path.stem for path in out.glob("*.safetensors")} == {"000000", "000002", "000003"}
    assert main(command(collection, out, "--index", index, model="vse")) == 0 and index.exists()
    assert json.loads((out / "settings.json").read_text())["parts"] == 4


def one_of_two(arguments):
    encode.PART = 2
    raise SystemExit(main(arguments))


# --- lists and clusters ----------------------------------------------------------------------------------------------


def list_of(path, rows):
    """A parquet file of these columns."""
    pyarrow = pytest.importorskip("pyarrow", reason="of the extra collections")
    parquet = pytest.importorskip("pyarrow.parquet", reason="of the extra collections")
    parquet.write_table(pyarrow.table(rows), path)
    return path


def listed_command(collection, table, out, *more):
    given = ["--pictures", table, "--run", collection / "vse", "--out", out, "--device", "cpu", *more]
    return list(map(str, given))


def test_a_list_of_paths_has_its_own_ids_and_what_cannot_be_opened_is_told(collection, tmp_path, capsys):
    absolute = str(collection / "f.png")
    rows = {"url": ["u"] * 5, "path": ["some/b.png", absolute, "some/c.png", "gone.png", "some/a.png"]}
    table = list_of(collection / "paths.parquet", rows | {"id": [4, 3, 2, 1, 0]})
    out = tmp_path / "out"
    assert main(listed_command(collection, table, out)) == 0
    told = capsys.readouterr().out
    assert "3 of 3 parts are encoded" in told and "2 skipped: picture that cannot be used (2, 1)" in told
    assert [one for ids, _ in encoded_in(out) for one in ids] == ["4", "3", "0"]
    plain = tmp_path / "plain"
    assert main(listed_command(collection, list_of(collection / "plain.parquet", {"path": rows["path"]}), plain)) == 0
    assert [one for ids, _ in encoded_in(plain) for one in ids] == ["some/b.png", absolute, "some/a.png"]
    for (_, one), (_, other) in zip(encoded_in(out), encoded_in(plain), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"file": ["a"]}, "has the columns file, expected one named path"),
        ({"path": ["a", None]}, "rows without a path"),
        ({"path": [1, 2]}, "has a int in its column path, expected text"),
        ({"path": ["a", "b"], "id": ["x", "x"]}, "has 'x' twice"),
        (None, "no parquet file that can be read"),
    ],
)
def test_a_list_that_cannot_be_used_is_told(tmp_path, rows, told):
    table = list_of(tmp_path / "list.parquet", rows or {"path": ["a"]})
    if rows is None:
        table.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=told):
        encode.parts_of([table], encode.Problems())


def test_a_folder_of_tars_stands_for_its_tars_and_one_with_pictures_beside_them_for_these(tmp_path):
    for name in ("b.tar", "a.tar", "a.parquet"):
        (tmp_path / name).touch()
    found = encode.parts_of([tmp_path], encode.Problems())
    assert [(part.number, part.tar) for part in found] == [(0, tmp_path / "a.tar"), (1, tmp_path / "b.tar")]
    (tmp_path / "c.png").touch()
    (part,) = encode.parts_of([tmp_path], encode.Problems())
    assert part.tar is None and part.paths == (tmp_path / "c.png",)


def test_what_is_missing_is_named(collection, tmp_path, monkeypatch, capsys):
    for name in ("pyarrow", "pyarrow.parquet", "ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    (tmp_path / "list.parquet").touch()
    assert main(listed_command(collection, tmp_path / "list.parquet", tmp_path / "out")) == 1
    assert "parquet asks for pyarrow: pip install" in capsys.readouterr().err
    assert main([*command(collection, tmp_path / "out"), "--ray", "1"]) == 1
    assert "--ray asks for Ray: pip install" in capsys.readouterr().err


@pytest.mark.slow  # starts Ray, which takes some seconds, and two processes that import torch
def test_ray_makes_the_same_files(collection, tmp_path):
    pytest.importorskip("ray.data", reason="of the extra collections")
    out, calm = tmp_path / "out", tmp_path / "calm"
    assert main(command(collection, calm, model="vse")) == 0
    for attempt in range(2):  # the second finds everything done but one part
        assert main([*command(collection, out, model="vse"), "--ray", "2"]) == 0
        assert {path.name for path in calm.glob("*.safetensors")} == {path.name for path in out.glob("*.safetensors")}
        if not attempt:
            (out / "000001.safetensors").unlink()
    for path in calm.glob("*.safetensors"):
        assert path.read_bytes() == (out / path.name).read_bytes()
