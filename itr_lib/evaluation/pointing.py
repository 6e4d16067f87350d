"""Does a model point at the right region for a word or a phrase?

Nobody tells a model of this course which region a word speaks of; the alignment of regions and words emerges from
matching whole pictures with whole captions. Where the truth is known (the scenes; the boxes of Flickr30k Entities,
Plummer et al., IJCV 2017) one can ask for it: given a word, which region aligns best with it, and does that region
show what the word speaks of? This is the pointing game (Zhang et al., IJCV 2018) over candidate regions.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from itr_lib.data.dataset import RetrievalData, SceneTruth, known_truth
from itr_lib.data.questions import Questions
from itr_lib.data.scenes.background import load_detector
from itr_lib.data.scenes.detector import CLASSES, Detector
from itr_lib.data.scenes.world import COLOURS, SHAPES, TEXTURES

TIE = 1e-6  # alignments this close are level: equal region vectors differ by that much in float32 matrix products
WHOLE = 0.98  # of the picture's area
IMAGES_AT_ONCE = 256
HEADS = {"shape": SHAPES, "colour": COLOURS, "texture": TEXTURES}  # what the detector can name


def pointing_accuracy(
    regions: Float[Tensor, "images regions dim"],
    region_mask: Bool[Tensor, "images regions"],
    words: Float[Tensor, "captions tokens dim"],
    word_mask: Bool[Tensor, "captions tokens"],
    image_of_caption: Int[np.ndarray, " captions"],
    questions: Questions,
) -> dict[str, float]:
    """Percent of questions for which the region that aligns best is a right one: ``"all"``, and by kind.

    The alignment of a region with a question is the mean over its tokens t of ``v_r . w_t``. A wrong region level
    with the best right one (closer than 1e-6) counts as a miss, as ties do in all metrics here: region vectors
    that are all alike point nowhere. Padding is never pointed at; a picture whose every region is right is a hit
    for any model, which ``"chance"`` knows: the mean share of right regions among the real ones.

    Args:
        regions: unit vectors of the regions of all images of the split.
        region_mask: True = a real region.
        words: unit vectors of the tokens of all captions, the place of ``[CLS]`` included.
        word_mask: True = a real token.
        image_of_caption: for each caption the row of its image.
        questions: what to ask.

    Raises:
        ValueError: shapes that do not fit, a question about padding, NaN, or no question at all.
    """
    alignment = question_alignments(regions, region_mask, words, word_mask, image_of_caption, questions)
    return _report(alignment, np.isfinite(alignment), questions)


def question_alignments(
    regions: Float[Tensor, "images regions dim"],
    region_mask: Bool[Tensor, "images regions"],
    words: Float[Tensor, "captions tokens dim"],
    word_mask: Bool[Tensor, "captions tokens"],
    image_of_caption: Int[np.ndarray, " captions"],
    questions: Questions,
) -> Float[np.ndarray, "questions candidates"]:
    """The alignment of each question with the regions of its image, as many as it knows; minus infinity for padding.

    Arguments and errors are those of :func:`pointing_accuracy`.
    """
    regions, words = (torch.as_tensor(values).detach().float() for values in (regions, words))
    region_mask, word_mask = (torch.as_tensor(mask).cpu().bool() for mask in (region_mask, word_mask))
    _check_vectors(regions, region_mask, words, word_mask, len(image_of_caption))
    missing = questions.right.shape[1] - regions.shape[1]
    if missing > 0 and not questions.right[:, -missing:].any():  # encoders leave out padding that no image needs
        regions, region_mask = F.pad(regions, (0, 0, 0, missing)), F.pad(region_mask, (0, missing))
    owner = _owners(image_of_caption, questions, region_mask)
    _check_tokens(word_mask, questions)
    alignment = _alignments(regions, owner, _mean_words(words, questions)).cpu().numpy()
    if np.isnan(alignment[region_mask.numpy()[owner]]).any():
        raise ValueError("an alignment is NaN: the vectors of a region or word hold NaN")
    return np.where(region_mask.numpy()[owner], alignment, -np.inf)


def largest_box_accuracy(
    boxes: Float[np.ndarray, "images regions 4"],
    region_mask: Bool[np.ndarray, "images regions"],
    image_of_caption: Int[np.ndarray, " captions"],
    questions: Questions,
) -> dict[str, float]:
    """The same percentages for one who always points at the largest box short of the whole picture.

    People put in the middle, and large, what they photograph and speak of, so on photographs this is more than
    chance. A box of more than 98 % of the picture is pointed at only where there is no other.
    """
    owner = _owners(image_of_caption, questions, region_mask)
    areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    short_of_whole = np.where(areas > WHOLE, areas - 1, areas)
    return _report(short_of_whole[owner], region_mask[owner], questions)


def detector_ceiling(
    data: RetrievalData, questions: Questions, seed: int = 0, detector: Detector | None = None
) -> dict[str, float]:
    """The same percentages for a reader who understands the caption and sees through the course's detector.

    The reader knows which words speak of the same object(s) and points at the region with the largest
    ``sum_a log p(a)`` over the shape, colour and texture that the caption names of it. Size, position and relations
    are not used, since the detector has no word for them: a model that reads them from the boxes may get further.

    Args:
        data: a split of scenes.
        questions: of that split, from :func:`itr_lib.data.questions.scene_questions`.
        seed: the seed that the scenes were loaded with; their detector is read from the cache.
        detector: the detector itself, instead.
    """
    truth = known_truth(data)
    owner = _owners(data.image_of_caption, questions, data.region_mask)
    detector = detector or load_detector(seed)
    named = _named_classes(truth, owner, questions)
    with torch.inference_mode():
        hidden = torch.from_numpy(np.asarray(data.features, np.float32))
        log_p = {head: layer(hidden).log_softmax(dim=-1).numpy() for head, layer in detector.heads.items()}
    evidence = np.zeros(questions.right.shape)
    for head, classes in named.items():
        said = np.flatnonzero(classes >= 0)
        evidence[said] += log_p[head][owner[said], :, classes[said]]  # (said, regions)
    return _report(evidence, data.region_mask[owner], questions)


def _named_classes(truth: SceneTruth, owner: np.ndarray, questions: Questions) -> dict[str, Int[np.ndarray, " q"]]:
    """By head the class that the caption names of what the word speaks of; -1 where it says nothing."""
    named = {head: np.full(len(questions), -1) for head in CLASSES}
    for row, (caption, item) in enumerate(zip(questions.caption, questions.item, strict=True)):
        words = truth.captions[caption].words
        thing = truth.scenes[owner[row]].objects[words[item].objects[0]]  # captions are true: read the name there
        for kind in {word.kind for word in words if word.objects == words[item].objects} & set(HEADS):
            named[kind][row] = HEADS[kind].index(getattr(thing, kind))
    return named


def _owners(image_of_caption, questions: Questions, region_mask) -> Int[np.ndarray, " questions"]:
    """The image row of each question."""
    if len(questions) == 0:
        raise ValueError(f"there is no question to ask (dropped: {questions.dropped})")
    image_of_caption = np.asarray(image_of_caption)
    if questions.caption.max() >= len(image_of_caption):
        raise ValueError(f"a question is about caption {questions.caption.max()} of {len(image_of_caption)}")
    if questions.right.shape[1] != region_mask.shape[1] or image_of_caption.max() >= len(region_mask):
        raise ValueError(
            f"region_mask has shape {tuple(region_mask.shape)}: the questions know {questions.right.shape[1]} regions"
            f" an image, the captions {image_of_caption.max() + 1} images"
        )
    return image_of_caption[questions.caption]


def _check_vectors(regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor, captions: int) -> None:
    if regions.ndim != 3 or words.ndim != 3 or regions.shape[2] != words.shape[2]:
        raise ValueError(f"regions {tuple(regions.shape)}, words {tuple(words.shape)}: expected (N, R, D), (M, W, D)")
    if regions.shape[:2] != region_mask.shape:
        raise ValueError(f"region_mask has shape {tuple(region_mask.shape)}, expected {tuple(regions.shape[:2])}")
    if words.shape[:2] != word_mask.shape or len(words) != captions:
        raise ValueError(
            f"word_mask has shape {tuple(word_mask.shape)} and words {tuple(words.shape)}, expected {captions} captions"
        )


def _check_tokens(word_mask: Tensor, questions: Questions) -> None:
    last = questions.stop - 1
    if last.max() >= word_mask.shape[1] or not word_mask.numpy()[questions.caption, last].all():
        raise ValueError("a question asks for padding: make questions with the tokenizer and max_tokens of the words")


def _mean_words(words: Tensor, questions: Questions) -> Float[Tensor, "questions dim"]:
    """Mean over a question's tokens; a mean of dot products is the dot product with the mean."""
    total = words.new_zeros(len(questions), words.shape[2])
    length = questions.stop - questions.start
    for step in range(length.max()):
        rows = np.flatnonzero(step < length)
        total[rows] += words[questions.caption[rows], questions.start[rows] + step]
    return total / torch.from_numpy(length)[:, None].to(total)


def _alignments(regions: Tensor, owner: np.ndarray, queries: Tensor) -> Float[Tensor, "questions regions"]:
    """Each question with the regions of its image, in one batched product a block of images."""
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=len(regions))
    slot = np.empty(len(owner), int)  # 0 for an image's first question, 1 for its second
    slot[order] = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    result = queries.new_empty(len(queries), regions.shape[1])
    for start in range(0, len(regions), IMAGES_AT_ONCE):
        block = regions[start : start + IMAGES_AT_ONCE]
        rows = np.flatnonzero((owner >= start) & (owner < start + IMAGES_AT_ONCE))
        asked = queries.new_zeros(len(block), counts.max(), queries.shape[1])  # (images, slots, dim)
        asked[owner[rows] - start, slot[rows]] = queries[rows]
        aligned = asked @ block.transpose(1, 2)  # (images, slots, regions)
        result[rows] = aligned[owner[rows] - start, slot[rows]]
    return result


def _report(scores: np.ndarray, real: np.ndarray, questions: Questions) -> dict[str, float]:
    """Percent of hits over all and by kind, and chance. Every argument has one row a question."""
    right = questions.right & real
    best_right = np.where(right, scores, -np.inf).max(axis=1)
    best_wrong = np.where(real & ~right, scores, -np.inf).max(axis=1)
    hits = best_right > best_wrong + TIE
    by_kind = {str(kind): 100 * float(hits[questions.kind == kind].mean()) for kind in np.unique(questions.kind)}
    chance = 100 * float((right.sum(axis=1) / real.sum(axis=1)).mean())
    return {"all": 100 * float(hits.mean()), **by_kind, "chance": chance}
