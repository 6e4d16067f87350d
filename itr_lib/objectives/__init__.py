"""Scores to a loss: the losses of the papers, and how the training loop calls them."""

from itr_lib.objectives.for_training import (
    InfoNCEObjective,
    Objective,
    TripletObjective,
    TwoLevelObjective,
    UnifiedObjective,
)
from itr_lib.objectives.losses import (
    cmc_loss,
    consistency_loss,
    info_nce,
    triplet_loss,
    unified_loss,
    unified_queue_loss,
)
