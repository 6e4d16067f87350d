"""Vectors to scores: cosines of whole vectors, alignments of regions and words."""

from itr_lib.similarity.scores import (
    ATTENDED,
    CODE_POOLINGS,
    CODINGS,
    GPU_BUDGET,
    SCAN_BUDGET,
    TERAN_POOLING,
    TRAINING_BUDGET,
    alignment_scores,
    cosine_scores,
    l2_normalise,
)
