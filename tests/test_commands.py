"""Every command is a function of its arguments, says what is wrong with them, and runs on the smallest input there is.

Those that others test: benchmarks and busy in test_benchmarks.py, extract_features in test_extraction.py,
inspect_karpathy in test_karpathy.py, feature_memory in test_rows.py, fetch in test_fetch.py, train and evaluate in
test_train.py, train_clip in test_guides.py, expect and the course's own commands in test_course.py.
"""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path

import pytest

from data_scripts import leaderboard, make_scenes, record
from itr_lib.lessons import recorded as records

REPO = Path(__file__).resolve().parents[1]
COMMANDS = sorted(
    path.stem for path in (REPO / "data_scripts").glob("*.py") if '__name__ == "__main__"' in path.read_text()
)
LESSON = "01_global_embeddings"
TRAIN = ["--model", "vse", "--data", "scenes", "--out", "x"]


def main_of(name: str):
    return importlib.import_module(f"data_scripts.{name}").main


def test_all_commands_are_looked_at() -> None:
    assert {"benchmarks", "evaluate", "expect", "extract_features", "leaderboard", "record", "train"} <= set(COMMANDS)


@pytest.mark.parametrize("name", [*COMMANDS, "itr_lib.course"])
def test_a_command_takes_its_arguments_as_a_list(name: str) -> None:
    module = "itr_lib.course.__main__" if name == "itr_lib.course" else f"data_scripts.{name}"
    (argument,) = inspect.signature(importlib.import_module(module).main).parameters.values()
    assert (argument.name, argument.default) == ("arguments", None)
    assert argument.annotation == "Sequence[str] | None"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_how_the_command_is_called(name: str, capsys) -> None:
    with pytest.raises(SystemExit, match="^0$"):
        main_of(name)(["--help"])
    assert f"usage: python -m data_scripts.{name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, arguments, sentence",
    [
        *[(name, ["--no-such-option"], "error: ") for name in COMMANDS],
        ("benchmarks", ["--threads", "0"], "must be at least 1"),
        ("benchmarks", ["--repeats", "0"], "must be at least 1"),
        ("busy", ["--programs", "0"], "must be at least 1"),
        ("benchmarks", ["--gallery", "many"], "invalid int value: 'many'"),
        ("expect", ["--profile", "fast"], "invalid choice: 'fast'"),
        ("expect", ["--lessons", "99"], "there is no lesson '99'"),
        ("expect", ["--data", "mnist"], "data is 'mnist'"),
        ("expect", ["--seeds", "-1"], "seed is -1"),
        ("feature_memory", ["--gigabytes", "0"], "--gigabytes must be above 0"),
        ("extract_features", ["--images", "x", "--out", "x", "--regions", "boxes"], "belong together"),
        ("extract_features", ["--images", "x", "--out", "x", "--boxes", "x.json"], "belong together"),
        ("extract_features", ["--images", "x", "--out", "x", "--grid", "0"], "must be at least 1"),
        ("extract_features", ["--images", "x", "--out", "x", "--batch-size", "0"], "must be at least 1"),
        ("extract_features", ["--images", "x", "--out", "x", "--workers", "-1"], "at least 0"),
        ("extract_features", ["--images", "x", "--out", "x", "--device", "gpu"], "invalid choice: 'gpu'"),
        ("fetch", [], "required: name"),
        ("fetch", ["imagenet"], "invalid choice: 'imagenet'"),
        ("inspect_karpathy", [], "required: --root"),
        ("inspect_karpathy", ["--root", "x", "--splits", "dev"], "invalid choice: 'dev'"),
        ("leaderboard", ["--data", "mnist"], "nothing is recorded for mnist"),
        ("leaderboard", ["--threads", "0"], "--threads must be at least 1"),
        ("make_scenes", ["--profile", "huge"], "invalid choice: 'huge'"),
        ("make_scenes", ["--seed", "-1"], "--seed must be at least 0"),
        ("record", [], "required: --lesson"),
        ("record", ["--lesson", LESSON, "--variants", "x"], "there is no variant 'x'"),
        ("record", ["--lesson", LESSON, "--data", "flickr8k", "--root", "nowhere"], "nowhere"),
        ("train", ["--data", "scenes"], "required: --model, --out"),
        ("train", ["--model", "clip", "--data", "scenes", "--out", "x"], "invalid choice: 'clip'"),
        ("train", [*TRAIN, "--preset", "large"], "preset is 'large', expected one of ['paper', 'small'] for vse"),
        ("train", [*TRAIN, "--preset", "no.toml"], "preset is 'no.toml'"),
        ("train", [*TRAIN, "--set", "training.batchsize=8"], "did you mean 'batch_size'?"),
        ("train", [*TRAIN, "--epochs", "0"], "epochs is 0"),
        ("train", [*TRAIN, "--precision", "float16"], "invalid choice: 'float16'"),
        ("evaluate", ["--data", "scenes"], "required: --run"),
        ("evaluate", ["--run", "x", "--data", "scenes", "--split", "train"], "invalid choice: 'train'"),
        ("evaluate", ["--run", "x", "--data", "scenes", "--protocol", "best"], "invalid choice: 'best'"),
        ("evaluate", ["--run", "x", "--data", "scenes", "--shortlist", "0"], "--shortlist must be at least 1"),
        ("evaluate", ["--run", "x", "--data", "scenes", "--json", "no/x.json"], "there is no such folder"),
        ("train_clip", [], "required: --out"),
        ("train_clip", ["--out", "x", "--seed", "-1"], "--seed must be at least 0"),
    ],
)
def test_arguments_that_will_not_do_get_a_sentence(name: str, arguments: list[str], sentence: str, capsys) -> None:
    with pytest.raises(SystemExit, match="^2$"):
        main_of(name)(arguments)
    said = capsys.readouterr()
    assert sentence in said.err and said.out == ""


@pytest.mark.parametrize(
    "name, arguments, sentence",
    [
        ("extract_features", ["--images", "{folder}", "--out", "x"], "holds no picture"),
        ("fetch", ["coco", "--from", "{folder}/file"], "there is no such folder"),
        ("inspect_karpathy", ["--root", "{folder}"], "holds no dataset_flickr8k.json"),
        ("train", ["--model", "vse", "--data", "flickr8k", "--root", "{folder}", "--out", "x"], "{folder}"),
        ("evaluate", ["--run", "{folder}", "--data", "scenes"], "holds no trained model"),
        ("train_clip", ["--out", "{folder}/file"], "is a file: give a folder"),
    ],
)
def test_what_the_arguments_name_may_not_do_either(name, arguments, sentence, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    assert main_of(name)([word.format(folder=tmp_path) for word in arguments]) == 1
    assert sentence.format(folder=tmp_path) in capsys.readouterr().err


def test_scenes_are_made_and_counted(capsys) -> None:
    assert make_scenes.main(["--profile", "smoke"]) == 0
    said = capsys.readouterr().out
    assert "train" in said and "swaps" in said and "detector" in said


@pytest.mark.slow
def test_a_run_is_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Slow: a training in the smoke profile, the least that can be recorded."""
    monkeypatch.setattr(records, "RECORDED", tmp_path)
    monkeypatch.setattr(record, "RECORDED", tmp_path)
    variant = "mean pooling"
    command = ["--lesson", LESSON, "--profile", "smoke", "--seeds", "4", "--variants", variant]
    record.main(command)
    assert f"{variant}, seed 4:" in capsys.readouterr().out
    (path,) = tmp_path.glob("*.json")
    first = path.read_bytes()
    (run,) = json.loads(first)["runs"]
    assert (run["variant"], run["seed"]) == (variant, 4) and run["metrics"]["rsum"] > 0
    record.main(command)
    assert capsys.readouterr().out == "" and path.read_bytes() == first


@pytest.mark.slow
def test_the_board_is_made_from_what_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Slow: every system is built and asked once, in the smoke profile."""
    known = records.recorded(leaderboard.LESSON)
    monkeypatch.setattr(leaderboard, "recorded", lambda lesson, data: known | {"profile": "smoke"})
    monkeypatch.setattr(leaderboard, "board_path", lambda data: tmp_path / f"{data}.json")
    monkeypatch.setattr(leaderboard, "QUERIES", 2)
    monkeypatch.setattr(leaderboard, "ROUNDS", 1)
    leaderboard.main(["--threads", "1"])
    board = json.loads((tmp_path / "scenes.json").read_text())
    assert [system["name"] for system in board["systems"]] == list(leaderboard.SYSTEMS)
    assert all(system["ms_per_query"] > 0 for system in board["systems"])
    assert "CHAN" in capsys.readouterr().out
