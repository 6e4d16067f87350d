"""``hard-backward``, lesson 03.

The backward pass of hard coding, beside a loop that hands each winner its gradient.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks._inputs import normal, sizes, unit_vectors
from itr_lib.checks.frame import Case, Exercise, Rehearsal


def backward_library(regions: Tensor, words: Tensor, winners: Tensor, grad: Tensor) -> Tensor:
    """The library's way: terms added where they belong."""
    by_regions = torch.zeros_like(regions).index_add(0, winners, grad[:, None] * words)
    return torch.cat([by_regions, grad[:, None] * regions[winners]])


EXAMPLE = Case(
    {
        "regions": torch.tensor([[1, 0], [0, 1], [0.6, 0.8]], dtype=torch.float64),
        "words": torch.tensor([[0.8, 0.6], [0.28, 0.96]], dtype=torch.float64),
        "winners": torch.tensor([2, 1]),
        "grad": torch.tensor([1, 0.5], dtype=torch.float64),
    },
    worked=[[0, 0], [0.14, 0.48], [0.8, 0.6], [0.6, 0.8], [0, 0.5]],
)


def backward_cases() -> Iterator[Case]:
    """Words that win apart and together, as many words as regions, one of each."""
    for seed, (winners, dim) in enumerate([([3, 0, 2], 5), ([0, 2, 1, 4, 3], 5), ([0], 2)]):
        yield _case(winners, *sizes(max(winners) + 1 + (seed == 0), dim), seed)
    yield _case([1, 3, 1, 0, 1, 3], 4, 5, 4, "several words have chosen one region")
    yield _case([0, 0, 0], 1, 4, 5, "several words have chosen one region")
    silent = _case([2, 0, 1, 2], 3, 4, 6, "a word's gradient is 0, and others are below 0")
    silent.inputs["grad"].copy_(torch.tensor([-0.7, 0, -1.2, 0.4]))
    yield silent


def _case(winners: list[int], regions: int, dim: int, seed: int, trap: str = "") -> Case:
    inputs = {
        "regions": unit_vectors(regions, dim, seed=150 + seed),
        "words": unit_vectors(len(winners), dim, seed=160 + seed),
        "winners": torch.tensor(winners),
        "grad": normal(len(winners), seed=140 + seed),
    }
    return Case(inputs, trap)


def backward_specification(regions: Tensor, words: Tensor, winners: Tensor, grad: Tensor) -> Tensor:
    """Word by word: give the winner the word and the word its winner, times the gradient."""
    by_region, by_word = torch.zeros_like(regions), torch.zeros_like(words)
    for t, winner in enumerate(winners.tolist()):
        by_region[winner] = by_region[winner] + grad[t] * words[t]
        by_word[t] = grad[t] * regions[winner]
    return torch.cat([by_region, by_word])


def _backward(
    regions, words, winners, grad, chosen=lambda regions, words, winners: winners, mean=False, keep="sum",
    to_regions=1.0, to_words=1.0, with_grad=(True, True), factors=(False, False), weight=lambda g: g, order="regions",
):  # fmt: skip
    """The backward pass with a step done otherwise; every option is a mistake of the family below."""
    winners = chosen(regions, words, winners)
    grad = weight(grad)
    table = F.one_hot(winners, len(regions)).to(regions)  # (W, R)
    if mean:
        table = table / table.sum(0, keepdim=True).clamp(min=1)
    if keep != "sum":
        table = _one_word_a_region(table, first=keep == "first")
    ones = torch.ones_like(grad)
    gives = regions[winners] if factors[0] else words
    by_region = (table * (grad if with_grad[0] else ones)[:, None]).T @ gives
    takes = words if factors[1] else regions[winners]
    parts = by_region * to_regions, (grad if with_grad[1] else ones)[:, None] * takes * to_words
    return torch.cat(parts if order == "regions" else parts[::-1])


def _one_word_a_region(table: Tensor, first: bool) -> Tensor:
    kept = torch.zeros_like(table)
    for t in range(len(table)) if not first else reversed(range(len(table))):
        kept[:, table[t] > 0] = 0
        kept[t] = table[t]
    return kept


def _dense(regions, words, winners, grad):
    """The gradient of a sum over all regions."""
    return torch.cat([(grad @ words).expand_as(regions), grad[:, None] * regions.sum(0)])


def _dense_regions(regions, words, winners, grad):
    return torch.cat([(grad @ words).expand_as(regions), grad[:, None] * regions[winners]])


def _side_by_side(regions, words, winners, grad):
    right = backward_specification(regions, words, winners, grad)
    return right[: len(regions)], right[len(regions) :]


def _all_words(regions, words, winners, grad):
    table = F.one_hot(winners, len(regions)).to(regions)
    return torch.cat([(table.T @ words) * grad.sum(), grad[:, None] * regions[winners]])


def _first_word_only(regions, words, winners, grad):
    alone = torch.zeros_like(grad)
    alone[0] = grad[0]
    return backward_specification(regions, words, winners, alone)


def _at_the_winner(regions, words, winners, grad):
    """The words' gradients written to the winners' rows."""
    by_words = torch.zeros_like(words)
    for t, r in enumerate(winners.tolist()):
        if r < len(words):
            by_words[r] = by_words[r] + grad[t] * regions[r]
    return torch.cat([backward_specification(regions, words, winners, grad)[: len(regions)], by_words])


def _grad_of_the_winner(regions, words, winners, grad):
    return backward_specification(regions, words, winners, grad[winners % len(grad)])


def _words_by_the_winners_grad(regions, words, winners, grad):
    other = _grad_of_the_winner(regions, words, winners, grad)
    return torch.cat([backward_specification(regions, words, winners, grad)[: len(regions)], other[len(regions) :]])


def _regions_by_the_winners_grad(regions, words, winners, grad):
    other = _grad_of_the_winner(regions, words, winners, grad)
    return torch.cat([other[: len(regions)], backward_specification(regions, words, winners, grad)[len(regions) :]])


def _from_the_regions(regions, words, winners, grad):
    begun = torch.cat([regions, torch.zeros_like(words)])
    return begun + backward_specification(regions, words, winners, grad)


def _regions_averaged(regions, words, winners, grad):
    right = backward_specification(regions, words, winners, grad)
    return torch.cat([right[: len(regions)] / len(words), right[len(regions) :]])


def _last_word_missing(regions, words, winners, grad):
    before = torch.arange(len(grad), device=grad.device) < len(grad) - 1
    return backward_specification(regions, words, winners, grad * before)


def _to_region_of_its_place(regions, words, winners, grad):
    places = torch.arange(len(words), device=words.device) % len(regions)
    by_regions = backward_specification(regions, words, places, grad)[: len(regions)]
    return torch.cat([by_regions, grad[:, None] * regions[winners]])


def _region_of_its_place(regions, words, winners, grad):
    places = torch.arange(len(words), device=words.device) % len(regions)
    by_regions = backward_specification(regions, words, winners, grad)[: len(regions)]
    return torch.cat([by_regions, grad[:, None] * regions[places]])


def _times_code(regions, words, winners, grad):
    return backward_specification(regions, words, winners, grad * (words * regions[winners]).sum(1))


def _unit(regions, words, winners, grad):
    return F.normalize(backward_specification(regions, words, winners, grad), dim=1)


MISTAKES = {
    "only the first word is counted: a return inside the loop?": _first_word_only,
    "the words' part is written to row winners[t]: word t has row t": _at_the_winner,
    "grad is read at the winner's place, grad[winners]: word t has grad[t]": _grad_of_the_winner,
    "the words' part reads grad at the winner's place, grad[winners]: word t has grad[t]": _words_by_the_winners_grad,
    "the regions' part reads grad at the winner's place, grad[winners]: word t has grad[t]": (
        _regions_by_the_winners_grad
    ),
    "the regions' part starts from the regions: start from zeros, and add what each word gives": _from_the_regions,
    "the regions' part is divided by the number of words: add the gradients up": _regions_averaged,
    "the last word is missing: the loop ends one too early": _last_word_missing,
    "the regions' part gives word t to region t: it belongs to its winner, row winners[t]": _to_region_of_its_place,
    "the words' part takes region t: word t gets grad[t] times its winner, regions[winners[t]]": _region_of_its_place,
    "the code itself comes in as a factor: grad[t] is all that the chain rule asks for": _times_code,
    "the gradients are brought to length 1: leave them as they are": _unit,
    "every region receives a gradient, and every word from all of them: only the winner of a word counts": _dense,
    "every region receives the gradient of all words: word t is added to region winners[t] alone": _dense_regions,
    "these are two tensors: put one below the other, torch.cat([by_regions, by_words])": _side_by_side,
    "each word's gradient is its own: you multiply by the sum of grad": _all_words,
}
FAMILY: dict[str, dict] = {
    "a region that several words choose keeps the gradient of the last one: add them up (index_add does, "
    "an assignment and [winners] += do not)": {"keep": "last"},
    "a region that several words choose keeps the gradient of the first one: add them up (index_add does)": {
        "keep": "first"
    },
    "the gradients of words that chose one region are averaged: add them up": {"mean": True},
    "the regions receive their winner instead of the word: by v_r the derivative of v_r . w_t is w_t": {
        "factors": (True, False)
    },
    "the words receive themselves instead of the winner: by w_t the derivative of v_r . w_t is v_r": {
        "factors": (False, True)
    },
    "the factors are exchanged: by v_r the derivative of v_r . w_t is w_t, and by w_t it is v_r": {
        "factors": (True, True)
    },
    "grad is not used: multiply each word's terms by grad[t]": {"with_grad": (False, False)},
    "the regions' part lacks grad[t]: the winner of word t gets grad[t] times the word": {"with_grad": (False, True)},
    "the words' part lacks grad[t]: word t gets grad[t] times its winner": {"with_grad": (True, False)},
    "the words receive no gradient: word t gets grad[t] times its winner": {"to_words": 0.0},
    "the regions receive no gradient: the winner of word t gets grad[t] times the word": {"to_regions": 0.0},
    "the regions' part has its sign turned round": {"to_regions": -1.0},
    "the words' part has its sign turned round": {"to_words": -1.0},
    "both parts have their sign turned round: this is the gradient, not a step down": {
        "to_regions": -1.0,
        "to_words": -1.0,
    },
    "every word gets the mean of grad: word t has grad[t]": {"weight": lambda g: g.mean().expand_as(g)},
    "every word gets grad[0]: word t has grad[t]": {"weight": lambda g: g[:1].expand_as(g)},
    "a gradient below 0 became 0: it counts like the others": {"weight": torch.relu},
    "grad has lost its sign: take it as it is": {"weight": torch.abs},
    "grad comes in twice: once is enough": {"weight": torch.square},
    "grad is not looked at but for its sign: multiply by its value": {"weight": torch.sign},
    "grad is divided by the number of words: it is a mean already, or it is none": {"weight": lambda g: g / len(g)},
    "the two parts stand in the other order: first the regions, then the words": {"order": "words"},
    "you look for the winners yourself: take those that are given, which are not always the largest here": {
        "chosen": lambda regions, words, winners: (regions @ words.T).argmax(0)
    },
    "the winners are counted from 1: they are places from 0": {
        "chosen": lambda regions, words, winners: (winners - 1) % len(regions)
    },
    "word t is taken to belong to region t: its region is winners[t]": {
        "chosen": lambda regions, words, winners: torch.arange(len(winners), device=winners.device) % len(regions)
    },
}


def _who_chose_whom(regions, words, winners, grad) -> str:
    """Of the first regions, the words that chose them."""
    chosen = winners.tolist()
    told = [f"region {r}: {[t for t, w in enumerate(chosen) if w == r]}" for r in range(min(4, len(regions)))]
    return f"the words that chose {', '.join(told)}; row {len(regions)} is that of word 0, whose winner is {chosen[0]}"


EXERCISE = Exercise(
    "hard-backward",
    library=backward_library,
    example=EXAMPLE,
    cases=backward_cases,
    specification=backward_specification,
    steps=_who_chose_whom,
    mistakes=MISTAKES,
    family=(_backward, FAMILY),
    rehearsal=Rehearsal(lambda: _case([0, 3, 3, 1, 2, 7, 7, 5, 9, 9, 9, 1, 4], 29, 128, 7).inputs, calls=400),
)
