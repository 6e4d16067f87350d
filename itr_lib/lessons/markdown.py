"""Sentences in Markdown that hold what nobody has proofread: captions, words, names."""

from __future__ import annotations

import re

# As pandoc tells formulas from money, and stricter: no blank inside the dollars, no digit after the first one.
FORMULA = r"\$\$.+?\$\$|(?<![\w$])\$(?=[^\s\d$])[^$\n]*(?<=[^\s])\$(?![\w$])"
DOLLAR = "<span>&#36;</span>"  # neither Markdown nor MathJax, which reads what Markdown made, sees a formula in two


def plain_dollars(text: str) -> str:
    """Markdown whose dollar signs are dollars: all but those around a formula, and those that are escaped already."""
    return re.sub(rf"(\\\$|{FORMULA})|\$", lambda found: found[1] or DOLLAR, text)
