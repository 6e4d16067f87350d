"""``hard-backward``, lesson 03.

The backward pass of hard coding, beside a loop that hands each winner its gradient.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import normal, unit_vectors
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def backward_cases() -> Iterator[Inputs]:
    """More words than regions, so that some win a region together; one of each; words that get no gradient."""
    for seed, (regions, words, dim) in enumerate([(4, 6, 5), (5, 5, 5), (1, 3, 4), (3, 1, 2)]):
        grad = normal(words, seed=140 + seed)
        grad[1:2] = 0
        yield {
            "regions": unit_vectors(regions, dim, seed=150 + seed),
            "words": unit_vectors(words, dim, seed=160 + seed),
            "grad": grad,
        }


def backward_specification(regions: Tensor, words: Tensor, grad: Tensor) -> Tensor:
    """Word by word: find the winner, then give it the word and the word it, times the gradient."""
    by_region, by_word = torch.zeros_like(regions), torch.zeros_like(words)
    for t, word in enumerate(words):
        dots = [float(region @ word) for region in regions]
        winner = dots.index(max(dots))
        by_region[winner] = by_region[winner] + grad[t] * word
        by_word[t] = grad[t] * regions[winner]
    return torch.cat([by_region, by_word])


def _backward(regions, words, grad, dots=None, regions_side=True, words_side=True, mean=False):
    dots = regions @ words.T if dots is None else dots
    chosen = torch.nn.functional.one_hot(dots.argmax(0), len(regions)).T.to(regions)  # (R, W)
    if mean:
        chosen = chosen / chosen.sum(1, keepdim=True).clamp(min=1)
    by_region = (chosen * grad) @ words * regions_side
    return torch.cat([by_region, grad[:, None] * regions[dots.argmax(0)] * words_side])


def _backward_overwritten(regions, words, grad):
    winners = (regions @ words.T).argmax(0).tolist()
    by_region = torch.zeros_like(regions)
    for t, winner in enumerate(winners):
        by_region[winner] = grad[t] * words[t]
    return torch.cat([by_region, grad[:, None] * regions[winners]])


def _backward_dense(regions, words, grad):
    """The gradient of a sum over all regions."""
    return torch.cat([(grad @ words).expand_as(regions), grad[:, None] * regions.sum(0)])


def _backward_by_region(regions, words, grad):
    """Each region takes its best word."""
    winners = (regions @ words.T).argmax(1)
    by_word = torch.zeros_like(words).index_add(0, winners, grad[winners][:, None] * regions)
    return torch.cat([grad[winners][:, None] * words[winners], by_word])


def _backward_swapped_factors(regions, words, grad):
    winners = (regions @ words.T).argmax(0)
    by_region = torch.zeros_like(regions).index_add(0, winners, grad[:, None] * regions[winners])
    return torch.cat([by_region, grad[:, None] * words])


BACKWARD_MISTAKES = {
    "a region that several words choose keeps the gradient of the last one: add them up (index_add does, "
    "an assignment and [winners] += do not)": _backward_overwritten,
    "every region receives a gradient: only the winner of a word does": _backward_dense,
    "you took the best word of each region (argmax along a row): each word has one best region (a column of A)": (
        _backward_by_region
    ),
    "the factors are exchanged: by v_r the derivative of v_r . w_t is w_t, and by w_t it is v_r": (
        _backward_swapped_factors
    ),
    "grad is not used: multiply each word's terms by grad[t]": lambda regions, words, grad: _backward(
        regions, words, torch.ones_like(grad)
    ),
    "the words receive no gradient: word t gets grad[t] times its winner": lambda regions, words, grad: _backward(
        regions, words, grad, words_side=False
    ),
    "the regions receive no gradient: the winner of word t gets grad[t] times the word": (
        lambda regions, words, grad: _backward(regions, words, grad, regions_side=False)
    ),
    "the words' part lacks grad[t]: word t gets grad[t] times its winner": lambda regions, words, grad: torch.cat(
        [
            _backward(regions, words, grad, words_side=False)[: len(regions)],
            _backward(regions, words, torch.ones_like(grad), regions_side=False)[len(regions) :],
        ]
    ),
    "the two parts stand in the other order: first the regions, then the words": lambda regions, words, grad: _backward(
        regions, words, grad
    ).roll(len(words), 0),
    "the gradients of words that chose one region are averaged: add them up": lambda regions, words, grad: _backward(
        regions, words, grad, mean=True
    ),
    "the winner is the largest dot product, not the largest absolute one": lambda regions, words, grad: _backward(
        regions, words, grad, dots=(regions @ words.T).abs()
    ),
    "the winner is the region with the largest A[r, t], whatever the sign of grad[t]": (
        lambda regions, words, grad: _backward(regions, words, grad, dots=regions @ words.T * grad)
    ),
}

EXERCISE = Exercise("hard-backward", backward_cases, backward_specification, BACKWARD_MISTAKES)
