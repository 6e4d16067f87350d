"""docs/ERRORS.md: every error of the page is produced, and says what the page says that it says."""

from __future__ import annotations

import functools
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import nbformat
import numpy as np
import pytest
import torch
from papermill.execute import execute_notebook
from toy import TripletObjective, toy_data

from itr_lib import data, evaluation, objectives, similarity, training
from itr_lib.checks import answers, check, kept_or_library
from itr_lib.course import doctor
from itr_lib.data.cache import cached_folder
from itr_lib.encoders.pretrained import load_image_encoder
from itr_lib.encoders.regions import RegionEncoder
from itr_lib.encoders.text import TextConfig
from itr_lib.lessons import open_lesson
from itr_lib.models import build

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "ERRORS.md").read_text()
SENTENCES = dict(re.findall(r"^### ([^\n]+)\n\n```\n(.+?)\n```$", PAGE, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture(autouse=True)
def own_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("ITR_ANSWERS", str(tmp_path / "my_answers.py"))
    monkeypatch.setattr(answers, "chosen", {})
    monkeypatch.delenv("ITR_GRADING", raising=False)


def says(told: str, sentence: str) -> bool:
    """Whether a message holds a sentence of the page, where each … stands for anything."""
    parts = (re.escape(" ".join(part.split())) for part in sentence.split("…"))
    return re.search(r"\s*.*?\s*".join(parts), " ".join(told.split())) is not None


# --- answers as learners write them


def right(images, captions):
    def unit(x):
        length = x.norm(dim=1, keepdim=True)
        return x / torch.where(length > 0, length, 1)

    return unit(images) @ unit(captions).T


def exchanged(images, captions):
    return right(captions, images)


def not_turned(images, captions):
    return images @ captions


def divided_by_zero(images, captions):
    return (images / images.norm(dim=1, keepdim=True)) @ (captions / captions.norm(dim=1, keepdim=True)).T


def in_place(images, captions):
    images /= images.norm(dim=1, keepdim=True).clamp(min=1e-9)
    return right(images, captions)


def without_mask(alignments, region_mask, word_mask):
    return alignments.amax(dim=2).sum(dim=2)


def filled_with_zero(alignments, region_mask, word_mask):
    best = alignments.masked_fill(~region_mask[:, None, :, None], 0).amax(dim=2)
    return best.masked_fill(~word_mask, 0).sum(dim=2)


def over_the_words(regions, words, region_mask, temperature):
    alignments = (regions @ words.T / temperature).masked_fill(~region_mask[:, None], -torch.inf)
    attended = alignments.softmax(dim=1).nan_to_num(0).T @ regions
    return (attended * words).sum(dim=1) / (attended.norm(dim=1) + 1e-8)


def without_return(ranks, k):
    100 * float((ranks <= k).double().mean())


def mean_of_bools(ranks, k):
    return 100 * (ranks <= k).mean()


def without_gradient(scores, margin, same_image):
    positive = scores.diagonal()
    image_asks = (margin + scores - positive[:, None]).relu().masked_fill(same_image, 0)
    caption_asks = (margin + scores - positive).relu().masked_fill(same_image, 0)
    return (image_asks.amax(dim=1).sum() + caption_asks.amax(dim=0).sum()).item()


def unwritten(ranks, k):
    raise NotImplementedError


# --- everything else, one function an error


def backward_twice() -> None:
    loss = torch.ones(3, requires_grad=True).square().sum()
    loss.backward()
    loss.backward()


def stale_answer() -> None:
    answers.path().write_text(
        "# %% cosine-scores\ndef cosine_scores(images, captions):\n    return images @@ captions\n"
    )
    kept_or_library("cosine-scores")


def locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another lock on the same file, as another notebook holds it; nobody here waits ten seconds."""
    file = answers.path().with_name(f".{answers.path().name}.lock")
    with filelock.FileLock(file):
        impatient = functools.partial(lambda path, timeout: type(lock)(path, timeout=0.05))
        lock = filelock.FileLock(file)
        monkeypatch.setattr(answers.filelock, "FileLock", impatient)
        check("cosine-scores", right)


def other_features() -> None:
    encoder = RegionEncoder(feature_dim=16, dim=32)
    encoder(torch.rand(2, 4, 8), torch.rand(2, 4, 4), torch.ones(2, 4, dtype=torch.bool))


def not_a_number() -> None:
    few = toy_data(images=4)
    tokenizer = data.train_tokenizer(few.captions)
    text = TextConfig(len(tokenizer), hidden=8, layers=1, heads=1)
    model = build("vse", feature_dim=16, text=text, dim=8)
    config = training.TrainConfig(epochs=1, batch_size=4)
    training.train(model, lambda *batch: TripletObjective()(*batch) * np.nan, tokenizer, few, few, config, device="cpu")


def no_library() -> None:
    """A Python that sees no installed packages stands for one that the course was not installed for."""
    command = [sys.executable, "-I", "-S", "-c", "import itr_lib"]
    print(subprocess.run(command, capture_output=True, text=True).stderr)


def other_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    argv = ["/usr/bin/another-python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.setattr(doctor, "CHECKS", (doctor.kernels,))
    assert doctor.doctor() == 1


def unknown_parameter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cell = nbformat.v4.new_code_cell("profile = 'quick'", metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), tmp_path / "a.ipynb")
    with caplog.at_level(logging.WARNING, logger="papermill"):
        execute_notebook(
            str(tmp_path / "a.ipynb"), None, {"profil": "smoke"}, prepare_only=True, progress_bar=False
        )  # fmt: skip
    print(caplog.text)


def out_of_memory() -> None:
    torch.empty(2**46, dtype=torch.uint8, device="cuda")


def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ITR_CACHE", str(tmp_path / "file" / "cache"))
    cached_folder("scenes", lambda folder: None)


def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    load_image_encoder("efficientnet-lite0")


def opened(**settings: object) -> None:
    open_lesson("00_retrieval_basics", **{"profile": "smoke", "device": "cpu", "seed": 0, "data": "scenes"} | settings)


def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    opened(device="cuda")


PRODUCED: dict[str, Callable] = {
    "A check says: exchanged": lambda: check("cosine-scores", exchanged),
    "Shapes that cannot be multiplied": lambda: check("cosine-scores", not_turned),
    "NaN from a vector of zeros": lambda: check("cosine-scores", divided_by_zero),
    "An input changed in place": lambda: check("cosine-scores", in_place),
    "The mask forgotten": lambda: check("mrsw", without_mask),
    "Padding that became 0 before a maximum": lambda: check("mrsw", filled_with_zero),
    "Softmax over the wrong axis": lambda: check("soft-codes", over_the_words),
    "A missing return": lambda: check("recall-at-k", without_return),
    "The mean of True and False": lambda: check("recall-at-k", mean_of_bools),
    "A loss without a gradient": lambda: check("triplet-hardest", without_gradient),
    "Backward a second time": backward_twice,
    "Not attempted yet": lambda: check("recall-at-k", unwritten),
    "An exercise by a wrong name": lambda: check("cosine-score", right),
    "A kept answer that does not run any more": stale_answer,
    "An answer that could not be kept": locked,
    "A mask that is not boolean": lambda: similarity.alignment_scores(
        torch.rand(2, 3, 4), torch.rand(2, 5, 4), torch.ones(2, 3, dtype=torch.long)
    ),
    "Scores that are not square": lambda: objectives.triplet_loss(torch.rand(2, 3)),
    "Scores the wrong way round": lambda: evaluation.retrieval_metrics(
        torch.rand(2, 10).T, torch.arange(10) // 5
    ),
    "Features of another size": other_features,
    "A loss that is not a number": not_a_number,
    "No library": no_library,
    "The kernel of another Python": other_kernel,
    "A folder that is not there": lambda: opened(data="flickr8k", root="/nowhere"),
    "A profile that there is not": lambda: opened(profile="fast"),
    "A parameter that papermill does not know": unknown_parameter,
    "No GPU": no_gpu,
    "Out of the GPU's memory": out_of_memory,
    "Weights that are not there": no_weights,
    "A cache that cannot be written": no_cache,
}  # fmt: skip


def told(produce: Callable, capsys: pytest.CaptureFixture, **fixtures: object) -> str:
    """What a user sees of an error: what was printed, and the exception's name and words."""
    wanted = produce.__code__.co_varnames[: produce.__code__.co_argcount]
    try:
        produce(**{name: fixtures[name] for name in wanted})
        raised = ""
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
    return capsys.readouterr().out + raised


def test_every_error_of_the_page_is_produced_here_and_has_a_cure() -> None:
    headings = re.findall(r"^### (.+)$", PAGE, flags=re.MULTILINE)
    assert headings == list(SENTENCES) == list(PRODUCED)
    entries = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
    assert all("**Cure:**" in entry for entry in entries)


@pytest.mark.parametrize("heading", [heading for heading in PRODUCED if heading != "Out of the GPU's memory"])
def test_the_page_has_the_words_of_the_message(heading, capsys, tmp_path, monkeypatch, caplog) -> None:
    message = told(PRODUCED[heading], capsys, tmp_path=tmp_path, monkeypatch=monkeypatch, caplog=caplog)
    assert says(message, SENTENCES[heading]), message


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU runs out of its memory")
def test_a_gpu_that_is_full_says_so(capsys) -> None:
    assert says(told(out_of_memory, capsys), SENTENCES["Out of the GPU's memory"])


def test_without_a_gradient_torch_says_what_the_page_says() -> None:
    with pytest.raises(RuntimeError, match="element 0 of tensors does not require grad and does not have a grad_fn"):
        torch.tensor(1.0).backward()
    assert "*element 0 of tensors does not require grad and does not have a grad_fn*" in PAGE


def test_under_grading_a_bare_not_implemented_error_is_shown(monkeypatch) -> None:
    monkeypatch.setenv("ITR_GRADING", "1")
    with pytest.raises(NotImplementedError) as raised:
        check("recall-at-k", unwritten)
    assert str(raised.value) == ""


def test_a_box_adds_five_numbers_to_its_features() -> None:
    with pytest.raises(RuntimeError, match=r"\(8x13 and 21x32\)"):  # 8 numbers came, 16 were expected
        other_features()


def test_other_words_are_told_apart() -> None:
    assert says("ValueError: a\n  is 3, expected b", "a is …, expected b")
    assert not says("a is 3, expected c", "a is …, expected b") and not says("is 3, expected b", "a is …, expected b")
