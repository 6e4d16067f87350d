"""Fill a folder that a whole class reads: the scenes, the small CLIP, and the weights of the extra ``offline``.

    python -m data_scripts.shared_cache /srv/itr-cache

Whoever works with ``ITR_SHARED_CACHE`` set to that folder takes from it what is there, and writes nothing into it. What
is missing goes into their own cache. Fill it with the installation that the class uses: other versions of PyTorch,
numpy or Pillow make scenes of their own. The same command again adds what is missing.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from itr_lib.data.cache import cached_folder
from itr_lib.data.offline import PACKAGED, folder_of, key_of
from itr_lib.data.scenes.make import PROFILES, load_scenes
from itr_lib.guides.small_clip import small_clip_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the folder, and say how it is used."""
    parser = argparse.ArgumentParser("python -m data_scripts.shared_cache", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="made where it is missing")
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=["quick"], help="default: quick")
    options = parser.parse_args(arguments)
    folder = options.folder.expanduser().absolute()
    try:
        fill(folder, options.profiles)
    except (OSError, ValueError) as error:
        print(f"shared_cache: {error}", file=sys.stderr)
        return 1
    print(f"{folder} holds {sum(p.stat().st_size for p in folder.rglob('*') if p.is_file()) / 2**20:,.0f} MiB")
    print(f"set for every learner: ITR_SHARED_CACHE={folder}")
    return 0


def fill(folder: Path, profiles: Sequence[str]) -> None:
    """Make what is missing, and let everybody read all of it. Raises ``OSError`` where the folder cannot be written."""
    os.environ["ITR_CACHE"] = str(folder)
    os.environ.pop("ITR_SHARED_CACHE", None)
    for profile in profiles:
        load_scenes(profile)
        small_clip_folder(profile=profile)
    for name, (package, _) in PACKAGED.items():
        if importlib.util.find_spec(package) is None:
            print(f"without {name}: the extra 'offline' is not installed here")
            continue
        cached_folder(key_of(name), functools.partial(_copy, folder_of(name)))
    for lock in folder.glob("*.lock"):
        lock.unlink()
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | (stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH))
        if path.is_dir():
            path.chmod(path.stat().st_mode | (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH))


def _copy(source: str, path: Path) -> None:
    shutil.copytree(source, path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.py"))


if __name__ == "__main__":
    sys.exit(main())
