"""What `make types` holds the library's annotations with: beartype.

An int is a float to it, as PEP 484 says, and a numpy scalar is what it is called.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import TypeCheckError, install_import_hook

NUMBERS = {int: int | np.integer, float: float | int | np.floating | np.integer, bool: bool | np.bool_}
check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict(NUMBERS)))
_raises = pytest.raises


def install() -> None:
    """Check every call of the library from here on; nothing of it may have been imported before."""
    pytest.raises = _refused
    install_import_hook("itr_lib", f"{__name__}.check")


def _refused(expected, *args, match=None, **kwargs):
    """``pytest.raises``; where a test hands over what it should not, an annotation may refuse it first."""
    if expected is not ValueError or args:
        return _raises(expected, *args, match=match, **kwargs)

    def says_so(error: Exception) -> bool:
        refused = isinstance(error, TypeCheckError) or isinstance(error.__cause__, TypeCheckError)
        return refused or match is None or re.search(match, str(error)) is not None

    return _raises((ValueError, TypeCheckError), check=says_so, **kwargs)
