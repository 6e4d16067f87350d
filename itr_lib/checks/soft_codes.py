"""``soft-codes``, lesson 03.

Soft coding of words over an image's regions, beside a softmax word by word; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks._inputs import mask_last_real, sizes, unit_vectors
from itr_lib.checks.frame import Case, Exercise, Inputs, Rehearsal
from itr_lib.similarity import alignment_scores


def soft_library(regions: Tensor, words: Tensor, region_mask: Tensor, temperature: float) -> Tensor:
    """The library's, which knows pairs and no codes: each word becomes a caption of its own."""
    options = {"coding": "soft", "temperature": temperature, "pooling": "sum"}
    return alignment_scores(regions[None], words[:, None], region_mask[None], **options)[0]


def _case(regions: list, words: list, mask: list, temperature: float, trap: str = "", **more) -> Case:
    vectors = (torch.tensor(vectors, dtype=torch.float64) for vectors in (regions, words))
    inputs = dict(zip(("regions", "words"), vectors, strict=True))
    return Case(inputs | {"region_mask": torch.tensor(mask), "temperature": temperature}, trap, **more)


EXAMPLE = _case([[1, 0], [0.8, 0.6], [0, 1]], [[1, 0]], [True] * 3, 0.5, worked=[0.944])


def soft_cases() -> Iterator[Case]:
    """Unit vectors with large numbers where padded; then what goes wrong at the edges."""
    for seed, (regions, words, dim, temperature) in enumerate(
        [(5, 4, 6, 0.1), (6, 6, 3, 0.5), (7, 1, 4, 2.0), (1, 3, 5, 0.1)]
    ):
        yield Case(_padded(*sizes(regions, words, dim), seed) | {"temperature": temperature})
    shorter = _padded(5, 3, 4, 5) | {"temperature": 0.2}
    lengths = torch.tensor([0.5, 3, 0.2, 2, 0.4], dtype=torch.float64)
    uneven = shorter | {"regions": unit_vectors(5, 4, seed=5) * lengths[:, None]}
    yield Case(uneven | {"region_mask": torch.tensor([True] * 5)}, "regions are not of length 1")
    tail = torch.tensor([[1, 0, 0], [0.6, 0.8, 0], [0.98, -0.199, 0]]).double()
    words = torch.tensor([[-0.6, 0.8, 0], [-0.8, -0.6, 0], [0, 0, 1]]).double()
    low = {"regions": tail, "words": words, "region_mask": torch.tensor([True, True, False])}
    yield Case(low | {"temperature": 0.003}, "the temperature is 0.003 and a word fits no region")
    yield Case(
        _padded(5, 4, 6, 9) | {"temperature": 0.0005}, "the temperature is so low that e^(A / temperature) overflows"
    )
    words = unit_vectors(2, 3, seed=7)
    mask = torch.tensor([True, True, False])
    loud = torch.stack([*unit_vectors(2, 3, seed=8), 4 * words.mean(0)])
    blank = {"regions": torch.zeros(3, 3).double(), "words": words, "region_mask": mask}
    yield Case(blank | {"regions": loud, "temperature": 0.05}, "padding would take all the attention")
    yield Case(blank | {"temperature": 0.1}, "the picture is blank, all zero vectors")


def _padded(regions: int, words: int, dim: int, seed: int) -> Inputs:
    mask = mask_last_real(1, regions, 40 + seed)[0]
    real = unit_vectors(regions, dim, seed=seed)
    padded = torch.where(mask[:, None], real, 3 * real)
    return {"regions": padded, "words": unit_vectors(words, dim, seed=60 + seed), "region_mask": mask}


def soft_specification(regions: Tensor, words: Tensor, region_mask: Tensor, temperature: float) -> Tensor:
    """Word by word: attention over the real regions, the vector it makes, the word's dot product over its length."""
    real = [region for region, is_real in zip(regions, region_mask.tolist(), strict=True) if is_real]
    codes = []
    for word in words:
        logits = [region @ word / temperature for region in real]
        top = max(float(logit.detach()) for logit in logits)
        grown = [torch.exp(logit - top) for logit in logits]
        attended = sum(g / sum(grown) * region for g, region in zip(grown, real, strict=True))
        codes.append(word @ attended / (torch.sqrt(attended @ attended) + 1e-8))
    return torch.stack(codes)


def _soft(
    regions, words, region_mask, temperature, mask=lambda m: m, fill=-torch.inf, scaled=True, axis=0, scale="divide",
    softmax=torch.softmax, late=False, weigh="regions", length="norm", unit=False, change=lambda A: A,
):  # fmt: skip
    """Soft coding with a step done otherwise; every option is a mistake of the family below."""
    regions, keep = F.normalize(regions, dim=1) if unit else regions, mask(region_mask)[:, None]
    dots = change(regions @ words.T)
    by = {
        "divide": 1 / temperature,
        "multiply": temperature,
        "none": 1.0,
        "square": temperature**-2,
        "root": temperature**-0.5,
    }[scale]
    logits = (dots * by).masked_fill(~keep, fill) if scaled else dots.masked_fill(~keep, fill) * by
    weights = softmax(logits, dim=axis)
    weights = weights * region_mask[:, None] if late else weights
    attended = (dots * weights if weigh == "dots" else weights).T @ regions
    codes, norm = (attended * words).sum(1), attended.norm(dim=1)
    lengths = {
        "norm": norm + 1e-8, "none": 1.0, "bare": norm, "squared": norm**2 + 1e-8, "clamped": norm.clamp(min=1),
        "loose": norm + 1e-2, "one": attended.sum(1) + 1e-8, "large": norm + 1, "abs": attended.abs().sum(1) + 1e-8,
        "count": region_mask.sum(), "weights": weights.norm(dim=0) + 1e-8,
    }  # fmt: skip
    return codes / lengths[length]


def _first(mask: Tensor) -> Tensor:
    return torch.arange(len(mask), device=mask.device) < mask.sum()


def _attention(regions, words, region_mask, temperature):
    return (regions @ words.T / temperature).masked_fill(~region_mask[:, None], -torch.inf).softmax(0)


def _largest_weight(regions, words, region_mask, temperature):
    return _attention(regions, words, region_mask, temperature).amax(0)


def _best_attended(regions, words, region_mask, temperature):
    attended = _attention(regions, words, region_mask, temperature).T @ regions
    return (attended @ words.T).amax(1) / (attended.norm(dim=1) + 1e-8)


def _exp_by_hand(logits: Tensor, dim: int) -> Tensor:
    return logits.exp() / logits.exp().sum(dim, keepdim=True)


def _hard(regions, words, region_mask, temperature, fill=-torch.inf):
    return (regions @ words.T).masked_fill(~region_mask[:, None], fill).amax(0)


def _plain_mean(regions, words, region_mask, temperature):
    mean = regions[region_mask].mean(0)
    return words @ mean / (mean.norm() + 1e-8)


def _every_word(regions, words, region_mask, temperature):
    weights = (regions @ words.T / temperature).masked_fill(~region_mask[:, None], -torch.inf).softmax(0)
    attended = weights.T @ regions
    return (attended * words).sum() / (attended.norm() + 1e-8) * torch.ones_like(words[:, 0])


def _whole_length(regions, words, region_mask, temperature):
    weights = (regions @ words.T / temperature).masked_fill(~region_mask[:, None], -torch.inf).softmax(0)
    attended = weights.T @ regions
    return (attended * words).sum(1) / (attended.norm() + 1e-8)


def _other_words(how: str):
    def codes(regions, words, region_mask, temperature):
        attended = _attention(regions, words, region_mask, temperature).T @ regions
        table = attended @ words.T / (attended.norm(dim=1, keepdim=True) + 1e-8)
        return getattr(table, how)(dim=1)

    return codes


def _length_of_columns(regions, words, region_mask, temperature):
    attended = _attention(regions, words, region_mask, temperature).T @ regions
    return (attended / (attended.norm(dim=0) + 1e-8) * words).sum(1)


MISTAKES = {
    "each attended vector meets every word, and this is the mean: it belongs to its own word alone": _other_words(
        "mean"
    ),
    "each attended vector meets every word, and this is the sum: it belongs to its own word alone": _other_words("sum"),
    "the length is taken down the words (dim 0): norm(dim=1) gives each attended vector its own": _length_of_columns,
    "this is the largest weight: the code compares the word with the attended vector": _largest_weight,
    "each attended vector meets every word, and the best counts: it belongs to its own word alone": _best_attended,
    "this is the maximum, hard coding: the soft code goes through the attended vector": _hard,
    "this is the plain mean of the regions: weigh them by the softmax of A / temperature": _plain_mean,
    "all words are added up to one number: each word has a code of its own, sum over dim 1 alone": _every_word,
    "the length is taken of all attended vectors together: norm(dim=1) gives each word its own": _whole_length,
}
FAMILY = {
    "the attended vector's length is missing: a mixture of unit vectors is shorter than 1, divide by its length": {
        "length": "none"
    },
    "a blank picture has zero vectors, and you divide by zero: add 1e-8 to the length": {"length": "bare"},
    "you divide by the squared length: take the square root": {"length": "squared"},
    "a length below 1 is taken for 1 (clamp, or a maximum): add 1e-8 instead": {"length": "clamped"},
    "1e-2 is no small number beside a length: add 1e-8": {"length": "loose"},
    "you divide by the length plus 1: add 1e-8, which only keeps zero from dividing": {"length": "large"},
    "you divide by the number of regions: divide by the attended vector's length": {"length": "count"},
    "you divide by the length of the weights: divide by that of the vector that they make, a mixture of regions": {
        "length": "weights"
    },
    "you divide by the sum of the vector's entries: its length is the root of the sum of their squares": {
        "length": "one"
    },
    "you divide by the sum of absolute entries: the length is the root of the sum of squares": {"length": "abs"},
    "padding takes part in the attention as it came: fill A with -inf where it is padding, before the softmax": {
        "mask": torch.ones_like
    },
    "the mask is turned round: masked_fill fills where it is True, so give it ~region_mask": {
        "mask": torch.logical_not
    },
    "padding became a logit of 0 (A times the mask, a fill with 0), and e^0 = 1 attends: fill with -torch.inf": {
        "fill": 0.0
    },
    "padding became a logit of 1, and e^1 still attends: fill with -torch.inf": {"fill": 1.0},
    "padding became a logit of -1, and e^-1 still attends: fill with -torch.inf": {"fill": -1.0},
    "padding became a logit of -10: at a low temperature real logits lie far below; fill with -torch.inf": {
        "fill": -10.0
    },
    "padding became a logit of -100: at a low temperature real logits lie below that; fill with -torch.inf": {
        "fill": -100.0
    },
    "padding was filled with plus infinity: fill with -torch.inf": {"fill": torch.inf},
    "padding was set to -1 before the division, and real dot products reach -1: fill with -torch.inf": {
        "fill": -1.0, "scaled": False
    },
    "padding is masked after the softmax, when it has taken its share: fill A with -inf before": {
        "late": True, "mask": torch.ones_like
    },
    "the softmax runs over the words: each word spreads its attention over the regions, which are the rows of A": {
        "axis": 1
    },
    "the softmax runs over the words, and padding at -1e9 does not stop it: each word spreads its attention over "
    "the regions, the rows of A (dim 0)": {"axis": 1, "fill": -1e9},
    "the softmax runs over the words, and NaN became 0: each word spreads its attention over the regions, the rows of "
    "A (dim 0)": {"softmax": lambda logits, dim: logits.softmax(1).nan_to_num()},
    "the mask is turned round, and fills the real regions with -1e9: masked_fill fills where it is True, so give it "
    "~region_mask": {"mask": torch.logical_not, "fill": -1e9},
    "A is divided by the temperature, not multiplied": {"scale": "multiply"},
    "the temperature is missing: divide A by it before the softmax": {"scale": "none"},
    "A is divided by the temperature twice": {"scale": "square"},
    "A is divided by the root of the temperature: divide by the temperature itself": {"scale": "root"},
    "negative alignments became 0 (SCAN's own step, which is left out here): leave them as they are": {
        "change": torch.relu
    },
    "alignments have lost their signs: a region that points away gets little attention": {"change": torch.abs},
    "real regions are taken to come first: use the mask, not its sum": {"mask": _first},
    "the softmax runs over regions and words together: each word has one of its own, over dim 0": {
        "softmax": lambda logits, dim: logits.flatten().softmax(0).view(logits.shape)
    },
    "e^(A / temperature) overflows when the temperature is low: torch.softmax takes the largest out first": {
        "softmax": _exp_by_hand
    },
    "this is a log_softmax: the weights are its exponential, a softmax": {"softmax": torch.log_softmax},
    "a sigmoid is no attention: its weights do not sum to 1; take a softmax over the regions": {
        "softmax": lambda logits, dim: logits.sigmoid()
    },
    "the weights are the bare exponentials, which do not sum to 1: take a softmax": {
        "softmax": lambda logits, dim: logits.exp()
    },
    "the weights are multiplied with A once more: the attended vector is the sum of weights times regions": {
        "weigh": "dots"
    },
    "regions are normalised first: they are mixed as they are": {"unit": True},
}  # fmt: skip


def _real_work() -> Inputs:
    """A picture with the words of some fifty captions: a twentieth of what the lesson asks for at once."""
    inputs = _padded(50, 475, 128, 3)
    floats = {name: inputs[name].float() for name in ("regions", "words")}
    return inputs | floats | {"temperature": 0.1}


def _of_the_first_word(regions, words, region_mask, temperature) -> str:
    """Its attention, the attended vector's length, and the dot product."""
    weights = _attention(regions, words, region_mask, temperature)[:, 0]
    attended = weights @ regions
    return (
        f"word 0 has the attention {[round(w, 3) for w in weights.tolist()]}, its attended vector the length "
        f"{attended.norm():.4g}, and their dot product is {attended @ words[0]:.4g}"
    )


EXERCISE = Exercise(
    "soft-codes",
    library=soft_library,
    example=EXAMPLE,
    cases=soft_cases,
    specification=soft_specification,
    steps=_of_the_first_word,
    mistakes=MISTAKES,
    family=(_soft, FAMILY),
    gradients=("regions",),
    rehearsal=Rehearsal(_real_work, calls=32_000),
)
