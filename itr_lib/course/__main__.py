"""The course's commands: ``python -m itr_lib.course build | check``."""

from __future__ import annotations

import argparse
import sys

from itr_lib.course import build as builder
from itr_lib.course.source import SourceError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m itr_lib.course", description=__doc__)
    parser.add_argument("command", choices=("build", "check"))
    options = parser.parse_args(arguments)
    try:
        if options.command == "build":
            for path in builder.build():
                print(f"wrote {builder.relative(path, builder.REPO)}")
            return 0
        lines = builder.differences()
    except SourceError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(lines) or "notebooks agree with their sources")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
