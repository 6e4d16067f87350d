"""Scores to numbers one can trust: recall, graded relevance, twins, pointing, and searches in two stages."""

from itr_lib.evaluation import baselines
from itr_lib.evaluation.causes import CAUSES, rare_words, recall_by_cause
from itr_lib.evaluation.folds import fold_metrics, mean_over_folds
from itr_lib.evaluation.judged import corrected_recall, wilson_interval
from itr_lib.evaluation.ndcg import ndcg
from itr_lib.evaluation.pointing import (
    detector_ceiling,
    largest_box_accuracy,
    pointing_accuracy,
    question_alignments,
)
from itr_lib.evaluation.probes import kinds_of_miss, pair_accuracy, structure_agreement
from itr_lib.evaluation.recall import (
    RetrievalMetrics,
    caption_ranks,
    ceiling_scores,
    expected_recall,
    image_ranks,
    retrieval_metrics,
)
from itr_lib.evaluation.relevance import rouge_relevance
from itr_lib.evaluation.two_stage import best_weight, pareto_front, shortest_shortlist, two_stage_metrics
