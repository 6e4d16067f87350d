"""`make types` itself: with ITR_TYPECHECK=1 annotations are held, shapes included, and right calls pass."""

from __future__ import annotations

import os

import pytest
import torch
from jaxtyping import TypeCheckError

from itr_lib.data.batches import ImageBatch, words_only
from itr_lib.encoders.regions import RegionEncoder

pytestmark = pytest.mark.skipif(os.environ.get("ITR_TYPECHECK") != "1", reason="`make types` turns the hook on")


def test_a_mask_of_floats_is_refused():
    words_only(torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(TypeCheckError, match="mask"):
        words_only(torch.ones(2, 5))


def test_an_axis_has_one_length_in_all_of_a_call():
    encoder = RegionEncoder(3, 4)
    batch = ImageBatch(torch.zeros(2, 5, 3), torch.zeros(2, 5, 4), torch.ones(2, 5, dtype=torch.bool))
    encoder(batch.features, batch.boxes, batch.mask)
    with pytest.raises(TypeCheckError, match="mask"):  # without layers nothing else looks at the mask
        encoder(batch.features, batch.boxes, torch.ones(2, 6, dtype=torch.bool))
