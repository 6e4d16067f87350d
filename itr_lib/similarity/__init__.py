"""Vectors to scores: cosines of whole vectors, alignments of regions and words."""

from itr_lib.similarity.alignment import MRSW, Alignment
from itr_lib.similarity.hard_and_soft import CODE_POOLINGS, CODINGS, pool_codes
from itr_lib.similarity.precision import fastest_dtype
from itr_lib.similarity.scores import (
    ATTENDED,
    GPU_BUDGET,
    SCAN_BUDGET,
    TERAN_POOLING,
    TRAINING_BUDGET,
    alignment_scores,
    cosine_scores,
    l2_normalise,
    mrsw_plainly,
)
