"""Packages of the extra ``scale``, imported when an index asks for them and not before."""

from __future__ import annotations

import importlib
from types import ModuleType


def scale_package(name: str) -> ModuleType:
    """The package. Raises ``ImportError`` that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is not installed: pip install -c constraints.txt -e '.[scale]'") from error
