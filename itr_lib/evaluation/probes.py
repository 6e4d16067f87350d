"""Questions beside recall: can a model tell twins apart, and do its two sides agree on what is alike?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Int

from itr_lib.data.dataset import RetrievalData
from itr_lib.evaluation.inputs import Scores, as_matrix, in_float64, percent


def pair_accuracy(scores: Scores) -> dict[str, float]:
    """Forced choices on twins: rows 2k, 2k+1 and columns 2k, 2k+1 are a pair, each its own match; percent.

    ``image``: for each caption, is its own picture preferred to the twin (chance 50)? ``text``: for each
    picture, its own caption (chance 50)? ``group``: all four choices of a pair right (chance 1/6 for scores drawn
    at random; Winoground, Thrush et al., CVPR 2022). In ``image`` and ``text`` a tie counts one half, since a
    model that sees no difference can do no better than guess; in ``group`` it counts as wrong.

    Raises:
        ValueError: unless scores are square with an even number of rows.
    """
    scores = as_matrix("scores", scores)
    if scores.shape[0] != scores.shape[1] or scores.shape[0] % 2:
        raise ValueError(f"scores has shape {tuple(scores.shape)}, expected (2P, 2P) for P pairs")
    own = scores.diagonal()
    row = torch.arange(len(scores), device=scores.device)
    of_text, of_image = scores[row, row ^ 1], scores[row ^ 1, row]  # the twins; compared, for a difference can overflow
    all_right = ((own > of_text) & (own > of_image)).view(-1, 2).all(dim=1)
    return {
        "image": 50 * float((in_float64(own > of_image) + in_float64(own >= of_image)).mean()),
        "text": 50 * float((in_float64(own > of_text) + in_float64(own >= of_text)).mean()),
        "group": percent(all_right.cpu().numpy()),
    }


def structure_agreement(image_scores: Scores, text_scores: Scores) -> dict[str, float]:
    """Do pictures and their captions agree on what is alike?

    Args:
        image_scores: (B, B), V: image i against image j.
        text_scores: (B, B), T: caption i against caption j, of the same pairs.

    Returns:
        ``structure_gap``: the mean over j of ``max_i |T_ij - V_ij|``, what the intra-modal part of the CMC loss limits
        (TGDT, Liu et al., TIP 2023); a collapsed model has none. ``structure_correlation``: Pearson's r of T and V over
        all pairs i < j, 0 where one of them has no variance.

    Raises:
        ValueError: for a NaN, matrices that are not square or do not fit each other, or fewer than three pairs.
    """
    images, texts = (
        in_float64(as_matrix(name, scores))
        for name, scores in [("image_scores", image_scores), ("text_scores", text_scores)]
    )
    size = len(images)
    if images.shape != (size, size) or texts.shape != (size, size) or size < 3:
        raise ValueError(
            f"image_scores and text_scores have shapes {tuple(images.shape)} and {tuple(texts.shape)}: expected two"
            " square matrices of one size, at least 3 x 3"
        )
    above = torch.triu_indices(size, size, offset=1, device=images.device).unbind()
    pairs = torch.stack([images[above], texts[above]])
    varied = bool((pairs != pairs[:, :1]).any(dim=1).all())
    return {
        "structure_gap": float((texts - images).abs().amax(dim=0).mean()),
        "structure_correlation": float(torch.corrcoef(pairs)[0, 1]) if varied else 0.0,
    }


def kinds_of_miss(data: RetrievalData, winners: Int[np.ndarray, " captions"]) -> dict[str, float]:
    """What is wrong with the picture that comes first for each caption, in percent of the captions; they add up to 100.

    Args:
        data: a split of known scenes.
        winners: of each caption the row of the picture that comes first.

    Raises:
        ValueError: for data without known scenes.
    """
    if data.truth is None:
        raise ValueError(f"{data.name!r} has no known scenes to compare captions with")
    from itr_lib.data.scenes import truth_matrix

    fits = truth_matrix(data.truth.scenes, data.truth.captions)[winners, np.arange(len(winners))]
    seen = [_parts(scene.objects) for scene in data.truth.scenes]
    meanings = [caption.meaning for caption in data.truth.captions]
    said = [_parts([*m.objects, *([m.count[0]] if m.count else [])]) for m in meanings]
    has_parts = np.array([said[caption] <= seen[row] for caption, row in enumerate(winners)])
    wrong = winners != data.image_of_caption
    kinds = {
        "right": ~wrong,
        "the caption is true of it, too": wrong & fits,
        "all parts are there, not as said": wrong & ~fits & has_parts,
        "a part is missing": wrong & ~fits & ~has_parts,
    }
    return {kind: percent(some) for kind, some in kinds.items()}


def _parts(things: Iterable) -> set[str]:
    """All shapes, colours and textures of some objects, whoever has which."""
    return {getattr(thing, kind) for thing in things for kind in ("shape", "colour", "texture")} - {None}
