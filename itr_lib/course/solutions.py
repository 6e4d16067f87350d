"""A solution cell in its three forms: as a stub to fill in, as what stands around it, and folded below the check."""

from __future__ import annotations

import re

from itr_lib.course.source import BEGIN, END

REGION = re.compile(rf"^([ \t]*){BEGIN}[ \t]*\n(.*?)^[ \t]*{END}[ \t]*$", re.MULTILINE | re.DOTALL)


def stub(text: str, slug: str) -> str:
    """A solution cell with each marked region replaced by a line that raises, at the region's indentation."""
    message = f"write your answer to {slug} here"
    return REGION.sub(rf'\1# your code here\n\1raise NotImplementedError("{message}")', text)


def around(text: str) -> str:
    """A cell's code without its marked regions: what a learner reads of it."""
    return REGION.sub("", text)


def regions(text: str) -> list[str]:
    """What stands in each marked region of a solution cell."""
    return [inside for _, inside in REGION.findall(text)]


def folded(text: str) -> str:
    """A solution cell's code as Markdown, folded, without its marks."""
    code = "\n".join(line for line in text.rstrip().splitlines() if line.strip() not in (BEGIN, END))
    fence = "```"
    while fence in code:  # a docstring may hold one
        fence += "`"
    return f"<details><summary>Solution</summary>\n\n{fence}python\n{code}\n{fence}\n\n</details>"
