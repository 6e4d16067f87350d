"""What a sample is, and where samples come from: drawn scenes, or photographs in the field's formats.

The names below are imported when they are first used: the processes that draw scenes import this package, and would
otherwise wait seconds for torch and transformers, which they have no use for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from itr_lib.data.augment import corrupt_words, drop_regions
    from itr_lib.data.batches import (
        Batch,
        CaptionBatch,
        ImageBatch,
        caption_batch,
        epoch_order,
        image_batch,
        pair_batch,
    )
    from itr_lib.data.boxes import iou
    from itr_lib.data.dataset import RetrievalData
    from itr_lib.data.load import Splits, load_splits
    from itr_lib.data.photographs.entities import load_entities
    from itr_lib.data.photographs.karpathy import load_karpathy
    from itr_lib.data.photographs.layouts import load_folder
    from itr_lib.data.photographs.pictures import open_photograph
    from itr_lib.data.questions import questions_of, scene_questions
    from itr_lib.data.scenes.background import with_background
    from itr_lib.data.tokenisation import load_tokenizer, tokenise, train_tokenizer, unknown_words

_MODULE_OF = {
    "corrupt_words": "augment",
    "drop_regions": "augment",
    "CaptionBatch": "batches",
    "ImageBatch": "batches",
    "Batch": "batches",
    "caption_batch": "batches",
    "epoch_order": "batches",
    "image_batch": "batches",
    "pair_batch": "batches",
    "iou": "boxes",
    "RetrievalData": "dataset",
    "Splits": "load",
    "load_splits": "load",
    "load_entities": "photographs.entities",
    "load_folder": "photographs.layouts",
    "load_karpathy": "photographs.karpathy",
    "open_photograph": "photographs.pictures",
    "questions_of": "questions",
    "scene_questions": "questions",
    "with_background": "scenes.background",
    "load_tokenizer": "tokenisation",
    "tokenise": "tokenisation",
    "train_tokenizer": "tokenisation",
    "unknown_words": "tokenisation",
}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
