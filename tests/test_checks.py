"""Every check accepts right answers and turns down known wrong ones, each with its own diagnosis."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import answers_02
import answers_03
import answers_04
import answers_05
import numpy as np
import pytest
import torch
from wrong_answers import WRONG, batches_right

from itr_lib import checks, objectives
from itr_lib.checks import EXERCISES, check, exercises
from itr_lib.data.batches import epoch_order
from itr_lib.evaluation import caption_ranks, ndcg, pair_accuracy
from itr_lib.similarity import cosine_scores

pytestmark = pytest.mark.filterwarnings("error")  # nbgrader scores 0 for anything on stderr


def chance(images, captions_per_image, k):
    total = images * captions_per_image
    places = min(k, total)
    return 100 * (1 - math.comb(total - captions_per_image, places) / math.comb(total, places))


def sorted_pool(tokens, mask, weights):
    ordered = tokens.masked_fill(~mask[..., None], -torch.inf).sort(dim=1, descending=True).values
    return (ordered.masked_fill(ordered == -torch.inf, 0) * weights[..., None]).sum(1)


RIGHT = {
    "cosine-scores": cosine_scores,
    "caption-ranks": lambda scores, image_of_caption: torch.from_numpy(caption_ranks(scores, image_of_caption)),
    "recall-at-k": lambda ranks, k: 100 * float((ranks <= k).double().mean()),
    "chance-recall": chance,
    "ndcg": ndcg,
    "triplet-loop": lambda scores, margin: objectives.triplet_loss(scores, margin=margin, negatives="all"),
    "triplet-hardest": lambda scores, margin, same_image: objectives.triplet_loss(
        scores, margin=margin, same_image=same_image
    ),
    "info-nce": lambda scores, temperature, same_image: objectives.info_nce(
        scores, temperature=temperature, same_image=same_image
    ),
    "unique-batches": lambda image_of_caption, batch_size, rng: list(epoch_order(image_of_caption, batch_size, rng)),
    "sorted-pool": sorted_pool,
    "twin-choices": lambda scores: pair_accuracy(scores)["image"],
}


for answers in (answers_02, answers_03, answers_04, answers_05):
    RIGHT |= answers.RIGHT
    WRONG |= answers.WRONG

FILES = sorted(Path(checks.__file__).parent.rglob("*.py"))
SHARED = {"__init__", "_exact", "_inputs", "_mistakes", "frame"}


def test_every_exercise_has_the_file_of_its_name_and_every_file_an_exercise():
    found = {path.stem for path in FILES} - SHARED
    assert found == {slug.replace("-", "_") for slug in exercises()}
    for name in found:
        exercise = importlib.import_module(f"itr_lib.checks.{name}").EXERCISE
        assert exercise is EXERCISES[name.replace("_", "-")]


def test_the_file_of_a_check_is_read_in_one_sitting():
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 250} == {}


@pytest.mark.parametrize("slug", exercises())
def test_accepts_a_right_answer(slug, capsys):
    check(slug, RIGHT[slug])
    out, err = capsys.readouterr()
    assert out.startswith(f"{slug}: the checks in this notebook passed") and err == ""


def triplet_with_python_numbers(scores, margin):
    total = 0
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                total = total + max(0, margin + float(scores[i, j] - scores[i, i]))
                total = total + max(0, margin + float(scores[j, i] - scores[i, i]))
    return total


def cosine_into_float32(images, captions):
    scores = torch.zeros(len(images), len(captions))
    for i, image in enumerate(images):
        for j, caption in enumerate(captions):
            scores[i, j] = image @ caption / (image.norm() * caption.norm() + 1e-12)
    return scores


def twin_in_float32(scores):
    j = torch.arange(len(scores))
    gap = scores[j, j] - scores[j ^ 1, j]
    return 100 * ((gap > 0).float() + 0.5 * (gap == 0).float()).mean()


@pytest.mark.parametrize(
    ("slug", "answer"),
    [
        ("recall-at-k", lambda ranks, k: 100 * (ranks <= k).float().mean()),
        ("recall-at-k", lambda ranks, k: 100 * np.mean(ranks.numpy() <= k)),
        ("recall-at-k", lambda ranks, k: 100 * sum(r <= k for r in ranks.tolist()) / len(ranks)),
        ("ndcg", lambda scores, relevance, k: torch.tensor(ndcg(scores, relevance, k), dtype=torch.float64)),
        ("cosine-scores", cosine_into_float32),
        (
            "cosine-scores",
            lambda images, captions: (
                (images / (images.norm(dim=1, keepdim=True) + 1e-8))
                @ (captions / (captions.norm(dim=1, keepdim=True) + 1e-8)).T
            ),
        ),
        ("triplet-loop", triplet_with_python_numbers),
        ("twin-choices", twin_in_float32),
        ("twin-choices", lambda scores: np.float64(pair_accuracy(scores)["image"])),
        ("unique-batches", batches_right),
        *answers_02.ALSO_RIGHT,
        *answers_03.ALSO_RIGHT,
        *answers_04.ALSO_RIGHT,
        *answers_05.ALSO_RIGHT,
    ],
)
def test_accepts_other_ways_to_be_right(slug, answer, capsys):
    check(slug, answer)
    assert "passed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("slug", "answer", "told"),
    [
        pytest.param(slug, f, told, id=f"{slug}-{i}")
        for slug, wrong in WRONG.items()
        for i, (f, told) in enumerate(wrong)
    ],
)
def test_names_the_mistake(slug, answer, told):
    with pytest.raises(AssertionError) as caught:
        check(slug, answer)
    assert told in str(caught.value)


def test_at_least_five_wrong_answers_for_every_exercise():
    assert set(WRONG) == set(exercises()) == set(RIGHT)
    assert min(len(wrong) for wrong in WRONG.values()) >= 5


@pytest.mark.parametrize("slug", exercises())
def test_each_mistake_is_caught_as_itself(slug):
    """The built-in variants are wrong somewhere and recognised by their own message."""
    for message, mistake in EXERCISES[slug].mistakes.items():
        with pytest.raises(AssertionError) as caught:
            check(slug, mistake)
        first_line = str(caught.value).splitlines()[0]
        assert first_line == message or "has shape" in first_line or "gradient" in first_line, (message, first_line)


def test_not_attempted_lets_the_notebook_go_on_but_not_under_grading(monkeypatch, capsys):
    def stub(**_):
        raise NotImplementedError

    check("info-nce", stub)
    assert capsys.readouterr().out.startswith("info-nce: not attempted yet")
    monkeypatch.setenv("ITR_GRADING", "1")
    with pytest.raises(NotImplementedError):
        check("info-nce", stub)


def test_unknown_exercise_and_forgotten_function():
    with pytest.raises(ValueError, match="did you mean 'info-nce'"):
        check("info-nec", lambda: None)
    with pytest.raises(AssertionError, match="without calling it"):
        check("info-nce", 3.0)
    with pytest.raises(AssertionError, match="stopped with IndexError"):
        check("recall-at-k", lambda ranks, k: ranks[10_000])


def test_checks_leave_numpy_generators_alone():
    state = np.random.get_state()[1].copy()
    check("unique-batches", RIGHT["unique-batches"])
    assert np.array_equal(state, np.random.get_state()[1])
