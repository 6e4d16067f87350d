"""The cheat sheet: each formula, once more in plain Python, gives the sheet's number, and so does the library."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from math import exp, log, log2
from pathlib import Path

import numpy as np
import pytest
import torch

from itr_lib import evaluation, objectives, similarity
from itr_lib.checks import LESSONS
from itr_lib.encoders.pooling import GPO
from itr_lib.evaluation.two_stage import two_stage_ranks
from itr_lib.models.user import enhance
from itr_lib.momentum import momentum_update

DOCS = Path(__file__).resolve().parents[1] / "docs"
SHEET = (DOCS / "CHEATSHEET.md").read_text()
ENTRY = re.compile(
    r"^- \*\*(?P<name>[^*]+)\*\* \((?P<lesson>\w+), (?P<exercise>[^,]+), `(?P<function>[\w.]+)`\)"
    r"(?P<example>.*) \*\*(?P<numbers>[^*]+)\*\*\n\n(?P<formula>(?:  .+\n)+)",
    re.MULTILINE,
)
ENTRIES = {entry["name"]: entry.groupdict() for entry in ENTRY.finditer(SHEET)}
S = [[0.9, 0.8, 0.1], [0.3, 0.7, 0.5], [0.2, 0.6, 0.4]]
A = [[0.8, 0.1], [0.3, 0.6], [-0.2, 0.5]]
GLOBAL, LOCAL = [0.9, 0.8, 0.7], [0.1, 0.9, 0.5]
B = R = 3
W = 2
TRANSPOSED = [list(column) for column in zip(*S, strict=True)]
HARD = [max(A[r][t] for r in range(R)) for t in range(W)]


def hinge(x: float) -> float:
    return max(0.0, x)


def others(i: int) -> list[int]:
    return [j for j in range(B) if j != i]


def softmax(values: list[float]) -> list[float]:
    return [exp(x) / sum(map(exp, values)) for x in values]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def length(a: list[float]) -> float:
    return dot(a, a) ** 0.5


def ranks(scores: list[list[float]]) -> list[int]:
    """Of the rows of a square matrix, whose own column is the diagonal's."""
    return [1 + sum(row[j] >= row[i] for j in range(B) if j != i) for i, row in enumerate(scores)]


def recall(found: list[int], k: int) -> float:
    return 100 / len(found) * sum(rank <= k for rank in found)


def dcg(gains: list[float]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def soft_code(t: int) -> float:
    attention = softmax([A[r][t] / 0.1 for r in range(R)])
    attended = [sum(attention[r] * A[r][d] for r in range(R)) for d in range(W)]
    return attended[t] / (length(attended) + 1e-8)


def unified(scores: list[float], positive: float) -> float:
    return log(1 + sum(exp(10 * (s - 0.5)) for s in scores)) / 10 - (0 if positive is None else log(1 + positive))


def enhanced() -> list[float]:
    share = softmax([row[0] for row in A])
    return [row[0] + b / length(share) for row, b in zip(A, share, strict=True)]


def two_stages(match: int) -> int:
    order = sorted(range(R), key=lambda c: -GLOBAL[c])
    shortlist, final = order[:2], [g + x for g, x in zip(GLOBAL, LOCAL, strict=True)]
    if match in shortlist:
        return 1 + sum(final[c] > final[match] for c in shortlist)
    return 1 + order.index(match)


# The sheet's formula, and the same in plain Python on the sheet's example.
PLAIN: dict[str, tuple[str, Callable]] = {
    "Cosine": (
        r"$\frac{v \cdot t}{\lVert v \rVert \lVert t \rVert}$, and 0 where a vector is zero",
        lambda: dot([3, 4], [4, 3]) / (length([3, 4]) * length([4, 3])),
    ),
    "Rank, image to text": (
        r"1 + the number of false $j$ with $S_{ij} \ge \max_{\text{own } k} S_{ik}$",
        lambda: ranks(S),
    ),
    "R@K": (r"the percentage of queries with rank $\le K$", lambda: recall(ranks(S), 1)),
    "rSum": (
        r"R@1 + R@5 + R@10 of image to text, and the same of text to image",
        lambda: sum(recall(ranks(S), k) + recall(ranks(TRANSPOSED), k) for k in (1, 5, 10)),
    ),
    "NDCG": (
        r"$\sum_{\text{rank}=1}^{k} \frac{r_{\text{rank}}}{\log_2(\text{rank} + 1)}$,"
        " divided by the same sum in the best order",
        lambda: dcg([3, 0, 2]) / dcg([3, 2, 0]),
    ),
    "Hinge, all negatives": (
        r"$\sum_i \sum_{j \ne i} \big( [m + S_{ij} - S_{ii}]_+ + [m + S_{ji} - S_{ii}]_+ \big)$",
        lambda: sum(hinge(0.2 + s - S[i][i]) for i in range(B) for j in others(i) for s in (S[i][j], S[j][i])),
    ),
    "Hinge, hardest negative": (
        r"$\sum_i \big( [m + \max_{j \ne i} S_{ij} - S_{ii}]_+ + [m + \max_{j \ne i} S_{ji} - S_{ii}]_+ \big)$",
        lambda: sum(
            hinge(0.2 + max(M[i][j] for j in others(i)) - S[i][i]) for i in range(B) for M in (S, TRANSPOSED)
        ),
    ),
    "InfoNCE": (
        r"$-\frac{1}{2B} \sum_i \big( \log \frac{e^{S_{ii} / \tau}}{\sum_j e^{S_{ij} / \tau}}"
        r" + \log \frac{e^{S_{ii} / \tau}}{\sum_j e^{S_{ji} / \tau}} \big)$",
        lambda: (
            -sum(log(softmax([s / 0.1 for s in M[i]])[i]) for i in range(B) for M in (S, TRANSPOSED)) / (2 * B)
        ),
    ),
    "UTO": (
        r"$\frac{1}{B} \sum_i \big( n_i + n'_i - \log(1 + \max(S_{ii}, \text{floor})) \big)$ with"
        r" $n_i = \frac{1}{\mu} \log(1 + \sum_{j \ne i} e^{\mu (S_{ij} - \gamma)})$, and $n'_i$ the same with $S_{ji}$",
        lambda: (
            sum(
                unified([S[i][j] for j in others(i)], S[i][i]) + unified([S[j][i] for j in others(i)], None)
                for i in range(B)
            )
            / B
        ),
    ),
    "UTO with a queue": (
        r"$\frac{1}{B} \sum_i \big( \frac{1}{\mu} \log(1 + \sum_k e^{\mu (q_i \cdot k_k - \gamma)})"
        r" - \log(1 + \max(q_i \cdot k_i^+, \text{floor})) \big)$",
        lambda: unified([S[0][1], S[0][2]], S[0][0]),
    ),
    "CMC, intra-modal": (
        r"$\sum_j [\max_i \lvert T_{ij} - V_{ij} \rvert - 0.3]_+$; the hinge on $S$ added, it is `cmc_loss`",
        lambda: sum(hinge(max(abs(S[j][i] - S[i][j]) for i in range(B)) - 0.3) for j in range(B)),
    ),
    "MrSw": (r"$\sum_t \max_r A_{rt}$", lambda: sum(HARD)),
    "MwSr": (
        r"$\sum_r \max_t A_{rt}$; MrAVGw is MrSw / $W$, and Symm is MrSw + MwSr",
        lambda: sum(max(row) for row in A),
    ),
    "Hard code": (r"$s_t = \max_r A_{rt}$", lambda: HARD),
    "Soft code": (
        r"$s_t = \frac{w_t \cdot \hat v_t}{\lVert \hat v_t \rVert + 10^{-8}}$ with $\hat v_t = \sum_r a_{rt} v_r$"
        r" and $a_{rt}$ the softmax over $r$ of $A_{rt} / \tau$",
        lambda: [soft_code(t) for t in range(W)],
    ),
    "Log-sum-exp": (r"$\log \sum_t e^{s_t / \beta}$", lambda: log(sum(exp(s / 0.1) for s in HARD))),
    "Softmax pooling": (
        r"$\sum_t p_t s_t$ with $p_t$ the softmax over $t$ of $s_t / \beta$",
        lambda: dot(softmax([s / 0.1 for s in HARD]), HARD),
    ),
    "GPO": (
        r"$v_d = \sum_k \theta_k \cdot (\text{value at place } k \text{ of dimension } d, \text{ largest first})$",
        lambda: [dot([0.5, 0.3, 0.2], sorted((row[d] for row in A), reverse=True)) for d in range(W)],
    ),
    "Momentum update": (r"$k \leftarrow m k + (1 - m) q$", lambda: 0.9 * 1 + (1 - 0.9) * 2),
    "Enhancement": (
        r"$x_r + b_r g$ with $b = s / \lVert s \rVert$ and $s$ the softmax over $r$ of $\lambda x_r \cdot g$",
        enhanced,
    ),
    "Two stages": (
        r"in the shortlist the rank among it by global + $w \cdot$ local,"
        " outside it the global rank, which is at least $K + 1$",
        lambda: [two_stages(match) for match in range(R)],
    ),
}  # fmt: skip


def pair(**how: object) -> torch.Tensor:
    """The library's score of the pair: regions are the rows of A, words the axes, and so their products are A."""
    return similarity.alignment_scores(torch.tensor([A]), torch.eye(W)[None], **how)


def code_of_each_word(**how: object) -> list[torch.Tensor]:
    return [similarity.alignment_scores(torch.tensor([A]), torch.eye(W)[None, t, None], **how) for t in range(W)]


def pooled() -> torch.Tensor:
    gpo = GPO()
    gpo.weights = lambda lengths, width: torch.tensor([[0.5, 0.3, 0.2]])
    return gpo(torch.tensor([A]), torch.ones(1, R, dtype=torch.bool))


def moved() -> torch.Tensor:
    keys, encoder = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(keys.weight, 1.0)
    torch.nn.init.constant_(encoder.weight, 2.0)
    momentum_update(keys, encoder, 0.9)
    return keys.weight.detach()


def staged() -> np.ndarray:
    rows = [torch.tensor([scores] * R) for scores in (GLOBAL, LOCAL)]
    return two_stage_ranks(*rows, torch.arange(R)[:, None], 2, 1.0)


def queued() -> torch.Tensor:
    """One query whose products with its positive and two keys are S's first row."""
    query, keys = torch.ones(1, 1), torch.tensor([[s] for s in S[0]])
    return objectives.unified_queue_loss(query, keys[:1], keys[1:], mu=10.0, gamma=0.5)


SCORES, OWN = torch.tensor(S), torch.arange(B)
LIBRARY: dict[str, Callable] = {
    "Cosine": lambda: similarity.cosine_scores(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])),
    "Rank, image to text": lambda: evaluation.recall.caption_ranks(SCORES, OWN),
    "R@K": lambda: evaluation.retrieval_metrics(SCORES, OWN).i2t_r1,
    "rSum": lambda: evaluation.retrieval_metrics(SCORES, OWN).rsum,
    "NDCG": lambda: evaluation.ndcg(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[3.0, 0.0, 2.0]]), k=3),
    "Hinge, all negatives": lambda: objectives.triplet_loss(SCORES, margin=0.2, negatives="all"),
    "Hinge, hardest negative": lambda: objectives.triplet_loss(SCORES, margin=0.2, negatives="hardest"),
    "InfoNCE": lambda: objectives.info_nce(SCORES, temperature=0.1),
    "UTO": lambda: objectives.unified_loss(SCORES, mu=10.0, gamma=0.5, floor=0.0),
    "UTO with a queue": queued,
    "CMC, intra-modal": lambda: objectives.consistency_loss(SCORES, SCORES.T, margin=0.3),
    "MrSw": lambda: pair(**similarity.TERAN_POOLING["MrSw"]),
    "MwSr": lambda: pair(**similarity.TERAN_POOLING["MwSr"]),
    "Hard code": lambda: code_of_each_word(coding="hard"),
    "Soft code": lambda: code_of_each_word(coding="soft", temperature=0.1),
    "Log-sum-exp": lambda: similarity.pool_codes(torch.tensor(HARD), "lse", 0.1),
    "Softmax pooling": lambda: similarity.pool_codes(torch.tensor(HARD), "softmax", 0.1),
    "GPO": pooled,
    "Momentum update": moved,
    "Enhancement": lambda: enhance(
        torch.tensor([A]), torch.ones(1, R, dtype=torch.bool), torch.tensor([[1.0, 0.0]])
    )[0, :, 0],
    "Two stages": staged,
}  # fmt: skip


def as_written(value: object, numbers: str) -> str:
    """A result with as many digits as the sheet gives its numbers."""
    flat = torch.as_tensor(value).flatten().tolist()
    digits = len(numbers.split(",")[0].partition(".")[2])
    return ", ".join(f"{x:.{digits}f}" for x in flat)


def test_the_sheet_has_these_formulas_and_no_other() -> None:
    assert ENTRIES.keys() == PLAIN.keys() == LIBRARY.keys()
    assert len(re.findall(r"^- \*\*", SHEET, flags=re.MULTILINE)) == len(ENTRIES)


@pytest.mark.parametrize("name", PLAIN)
def test_a_formula_is_the_one_that_is_computed_here(name: str) -> None:
    formula, plain = PLAIN[name]
    assert " ".join(ENTRIES[name]["formula"].split()) == formula, "changed: change the plain function with it"
    assert as_written(plain(), ENTRIES[name]["numbers"]) == ENTRIES[name]["numbers"]


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_gives_the_same(name: str) -> None:
    entry = ENTRIES[name]
    result = LIBRARY[name]()
    result = torch.stack(result) if isinstance(result, list) else torch.as_tensor(result)
    assert as_written(result, entry["numbers"]) == entry["numbers"]
    assert np.allclose(np.ravel(PLAIN[name][1]()), result.flatten(), atol=1e-6)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_names_an_exercise_of_its_lesson_and_a_function_that_there_is(name: str) -> None:
    entry = ENTRIES[name]
    module, _, function = f"itr_lib.{entry['function']}".rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))
    assert entry["exercise"] == "no exercise" or entry["exercise"].strip("`") in LESSONS[entry["lesson"]]


def test_the_example_is_the_sheet_s() -> None:
    for letter, rows in (("S", S), ("A", A)):
        told = " and ".join(", ".join(f"{x:g}" for x in row) for row in rows)
        assert f"- ${letter}$ has the rows {told}." in SHEET


def test_formulas_need_no_sign_that_markdown_takes_away() -> None:
    """GitHub reads a backslash before a sign as its own, and takes it out of the formula; the others do not."""
    glossary = (DOCS / "GLOSSARY.md").read_text()
    assert not re.findall(r"\\[^a-zA-Z]", SHEET + glossary)
