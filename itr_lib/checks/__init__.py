"""Checks of the exercises: ``check("slug", my_function)`` in the cell below an exercise.

A check runs an answer on several random shapes and seeds, compares it with a plain-loop specification that shares no
code with the library, and, when they differ, names the likely mistake. Graders set the environment variable
``ITR_GRADING=1``: then an exercise that was not attempted fails instead of letting the notebook go on.
"""

from __future__ import annotations

import difflib
import os

from itr_lib.checks import (
    alignments,
    attended_length,
    box_geometry,
    caption_ranks,
    chance_recall,
    cmc,
    consistency,
    cosine_scores,
    effective_regions,
    enhance,
    hard_backward,
    hard_codes,
    honest_rank,
    info_nce,
    momentum_step,
    mrsw,
    ndcg,
    packed_mrsw,
    pareto_front,
    pointing,
    pool_codes,
    poolings,
    queue_loss,
    recall_at_k,
    ring_buffer,
    soft_codes,
    sorted_pool,
    token_guidance,
    triplet_hardest,
    triplet_loop,
    twin_choices,
    two_stage_search,
    unified_loss,
    unified_weights,
    unique_batches,
)
from itr_lib.checks.frame import verify

# Lesson by lesson. The check of an exercise stands in the module that has its slug for a name.
LESSONS = (
    (cosine_scores, caption_ranks, recall_at_k, chance_recall, ndcg),
    (triplet_loop, unique_batches, triplet_hardest, info_nce, sorted_pool, twin_choices),
    (box_geometry, alignments, mrsw, poolings, packed_mrsw, pointing),
    (soft_codes, hard_codes, pool_codes, hard_backward, attended_length, effective_regions),
    (unified_loss, unified_weights, ring_buffer, momentum_step, queue_loss, enhance),
    (token_guidance, consistency, cmc, two_stage_search, honest_rank, pareto_front),
)
EXERCISES = {module.EXERCISE.slug: module.EXERCISE for lesson in LESSONS for module in lesson}


def exercises() -> list[str]:
    """The slugs of all exercises, in the order of the lessons."""
    return list(EXERCISES)


def check(slug: str, answer: object) -> None:
    """Check an answer to the exercise ``slug``; prints one line when it is right, or not attempted yet.

    Raises:
        AssertionError: when the answer is wrong, with the likely mistake.
        NotImplementedError: when it was not attempted, under grading only.
        ValueError: for an exercise that does not exist.
    """
    if slug not in EXERCISES:
        close = difflib.get_close_matches(slug, EXERCISES, n=1)
        raise ValueError(f"there is no exercise {slug!r}{f'; did you mean {close[0]!r}?' if close else ''}")
    try:
        cases = verify(EXERCISES[slug], answer)
    except NotImplementedError:
        if os.environ.get("ITR_GRADING") == "1":
            raise
        print(f"{slug}: not attempted yet. Help is folded below the task; the notebook goes on with itr_lib's version.")
        return
    print(f"{slug}: the checks in this notebook passed ({cases} cases).")


__all__ = ["check", "exercises"]
