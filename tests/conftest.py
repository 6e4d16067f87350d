"""What all tests share: a cache folder of their own, one thread each, and real files where the checkout has some.

With ``ITR_TYPECHECK=1`` each call of a function of the library checks its arguments and its result against the
annotations, shapes included: an axis called "images" must have one length in all of a call.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
THREADS = "1"  # two workers on two cores: more threads would only wait for each other


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is imported: tests make their own data, in a folder that goes away after them."""
    own = "ITR_PROFILE", "ITR_GRADING", "ITR_SECRET", "ITR_METRICS", "ITR_ANSWERS", "ITR_SHARED_CACHE"
    for name in (*own, "NBGRADER_EXECUTION"):
        os.environ.pop(name, None)  # a developer's own settings are not the tests' business
    os.environ.setdefault("OMP_NUM_THREADS", THREADS)
    os.environ.setdefault("MPLBACKEND", "Agg")
    if "ITR_CACHE" not in os.environ:  # with xdist the workers inherit the folder, and share what is in it
        config._itr_cache = os.environ["ITR_CACHE"] = tempfile.mkdtemp(prefix="itr-tests-")
    if os.environ.get("ITR_TYPECHECK") == "1":  # `make types`: every annotation is held against what comes
        import typecheck

        typecheck.install()
    import itr_lib  # noqa: F401 - before any test imports torch: how threads wait


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the cache folder, where this process made it."""
    folder = getattr(config, "_itr_cache", None)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("ITR_CACHE", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs whole notebooks comes last: a mistake shows early, and the workers end together."""
    items.sort(key=lambda item: item.path.name.startswith("test_notebooks_"))


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    """Commands set torch's threads for their process, and sums of the tests after them would round otherwise."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    yield
    if torch and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The checkout."""
    return REPO


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real files in the field's formats: ``ITR_SHARED``, or ``shared/data`` beside the checkout."""
    named = os.environ.get("ITR_SHARED")
    folder = Path(named) if named else REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            f"no real data here: {'ITR_SHARED' if named else 'the folder shared/data beside the checkout'} is missing"
        )
    return folder
