"""``find-the-flaw``, lesson 00.

Evaluations of text to image R@1 are handed over as functions, sound ones and flawed ones, some written in two ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import torch
from torch import Tensor

from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.evaluation import flawed
from itr_lib.evaluation.inputs import as_tensor

Evaluation = Callable[[Tensor, Tensor], float]


def _handed_over(rule: Evaluation) -> Evaluation:
    """An evaluation as the learner gets it: it takes arrays and lists, too, and says what does not fit."""

    def evaluate(scores, image_of_caption):
        scores = as_tensor("scores", scores).double().cpu()
        owner = as_tensor("image_of_caption", image_of_caption).long().cpu()
        if scores.ndim != 2 or owner.shape != scores.shape[1:] or not owner.numel():
            raise ValueError(
                f"evaluate got scores of shape {tuple(scores.shape)} and image_of_caption of shape {tuple(owner.shape)}"
                ": a row an image, a column a caption, and for each caption the row of its image"
            )
        if owner.min() < 0 or owner.max() >= len(scores):
            raise ValueError(f"image_of_caption names a row outside 0..{len(scores) - 1}, the rows of scores")
        return rule(scores, owner)

    return evaluate


def _orders(scores: Tensor, owner: Tensor) -> Iterator[tuple[list[int], int]]:
    """For each caption the images, best first and of equals the true one last, and the true one."""
    for column, image in zip(scores.T.tolist(), owner.tolist(), strict=True):
        yield sorted(range(len(column)), key=lambda i, c=column, t=image: (-c[i], i == t)), image


def _hits(scores: Tensor, owner: Tensor) -> list[bool]:
    return [order[0] == image for order, image in _orders(scores, owner)]


def _share(hits: list[bool]) -> float:
    return 100 * sum(hits) / len(hits)


def _sound_by_counting(scores: Tensor, owner: Tensor) -> float:
    true = scores.gather(0, owner[None])
    return _share(((scores >= true).sum(dim=0) == 1).tolist())


def _for_the_model(scores: Tensor, owner: Tensor) -> float:
    return _share(
        [column[image] == max(column) for column, image in zip(scores.T.tolist(), owner.tolist(), strict=True)]
    )


def _as_sorted(scores: Tensor, owner: Tensor) -> float:
    return _share((scores.argsort(dim=0, descending=True, stable=True)[0] == owner).tolist())


def _one_caption(scores: Tensor, owner: Tensor, last: bool = False) -> float:
    hits = list(enumerate(_hits(scores, owner)))
    chosen = {int(owner[caption]): hit for caption, hit in (hits if last else reversed(hits))}
    return _share(list(chosen.values()))


def _best_fold(scores: Tensor, owner: Tensor) -> float:
    found = []
    for fold in torch.arange(len(scores)).tensor_split(5):
        mine = torch.isin(owner, fold)
        if mine.any():
            found.append(_share(_hits(scores[fold][:, mine], owner[mine] - fold[0])))
    return max(found)


def _misses(scores: Tensor, owner: Tensor) -> float:
    hits = []
    for order, image in _orders(scores, owner):
        rank = 0
        for place, found in enumerate(order[:10], start=1):
            rank = place if found == image else rank
        hits.append(rank <= 1)
    return _share(hits)


SOUND = _handed_over(lambda scores, owner: _share(_hits(scores, owner)))
FLAW_OF: dict[Evaluation, str] = {
    SOUND: "none",
    _handed_over(_for_the_model): "ties",
    _handed_over(_best_fold): "folds",
    _handed_over(_one_caption): "one caption",
    _handed_over(_misses): "misses",
    _handed_over(_sound_by_counting): "none",
    _handed_over(_as_sorted): "ties",
    _handed_over(lambda scores, owner: _one_caption(scores, owner, last=True)): "one caption",
}
SHOWN_BY = {
    "ties": "a false picture scores the same as the true one",
    "one caption": "two captions of an image do not fare alike",
    "folds": "one of the five folds, as a gallery of its own, has a higher R@1 than the whole",
    "misses": "a caption's picture has rank 11 or worse",
}
NEEDED = {
    "ties": "make a case where a false picture scores the same as the true one, and stands after it in the data",
    "one caption": "make a case where an image has two captions, and only one of them finds it",
    "folds": "make a case where each false picture that wins stands far from the true one, in another fold",
    "misses": "make a case of more than ten pictures, where the true one has rank 11 or worse",
}


def explain_flaws(inputs: Inputs, result: object, expected: str) -> str | None:
    """What the learner's cases must show, or show too much of."""
    if result not in FLAW_OF.values():
        names = ", ".join(f'"{name}"' for name in ("none", *SHOWN_BY))
        return f"your function returned {result!r}: one of {names} is expected"
    if result == "none":
        return f'an evaluation with the flaw "{expected}" passes as sound: {NEEDED[expected]}'
    if expected == "none":
        return (
            f'a sound evaluation is said to have the flaw "{result}": work out by hand what R@1 your case for it has, '
            "ties against the model, and compare with that"
        )
    return (
        f'an evaluation with the flaw "{expected}" is said to have "{result}". Look first whether your case for '
        f'"{expected}" shows it, and comes before: {NEEDED[expected]}. Your case for "{result}" shows it, too, if in '
        f"it {SHOWN_BY[expected]}"
    )


def _always(flaw: str) -> Callable[[Evaluation], str]:
    return lambda evaluate: flaw


def _exchanged(one: str, other: str) -> Callable[[Evaluation], str]:
    return lambda evaluate: {one: other, other: one}.get(FLAW_OF[evaluate], FLAW_OF[evaluate])


EXERCISE = Exercise(
    "find-the-flaw",
    library=flawed.find_the_flaw,
    example=Case({"evaluate": SOUND}),
    cases=lambda: (Case({"evaluate": evaluate}) for evaluate in FLAW_OF if evaluate is not SOUND),
    specification=lambda evaluate: FLAW_OF[evaluate],
    mistakes={
        f'the answer is "{flaw}" whatever you are handed: call evaluate with a case of your own, and compare '
        "with the R@1 that you work out by hand": _always(flaw)
        for flaw in ("none", *SHOWN_BY)
    }
    | {
        f'the names "{one}" and "{other}" are exchanged: each stands where the other belongs': _exchanged(one, other)
        for one, other in combinations(("none", *SHOWN_BY), 2)
    },
    explain=explain_flaws,
)
