"""What a learner looks at. Functions return a matplotlib figure; :func:`show` displays it with its alt text."""

from itr_lib.figures._draw import COLOURS, MATCH, MISS, OBJECT, RECALLS, metric_name
from itr_lib.figures.alignment import (
    alignment_heatmap,
    as_alignment,
    attended_vectors,
    attention_boxes,
    word_boxes,
)
from itr_lib.figures.alt_text import alt_text
from itr_lib.figures.explorer import aligner, explorer
from itr_lib.figures.gallery import (
    boxes_on_picture,
    caption_gallery,
    found_pictures,
    image_gallery,
    pair_figure,
    picture_grid,
    two_encoders,
)
from itr_lib.figures.learning import collapse_curves, push_maps, rank_weights
from itr_lib.figures.page import metrics_table, show
from itr_lib.figures.photographs import judging_sheet, ladder, pooled_cells, sentence_gallery
from itr_lib.figures.scale import cells_map, measured_curves, walk_map
from itr_lib.figures.scores import (
    background_curves,
    embedding_map,
    pooling_diagram,
    recall_bars,
    similarity_heatmap,
    tradeoff,
)
from itr_lib.figures.training import (
    batch_and_queue,
    follower_curves,
    guide_diagram,
    key_ages,
    plateau,
    push_panels,
    recall_against,
    ring_diagram,
    seed_lines,
    training_curves,
)
from itr_lib.figures.two_stage import (
    honest_curves,
    length_choice,
    reading_bars,
    structure_maps,
    structure_scatter,
    tgdt_diagram,
    two_stage_diagram,
    weight_curve,
)
