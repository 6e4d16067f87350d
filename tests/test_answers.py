"""A learner's answers as plain source."""

from __future__ import annotations

from itr_lib.checks.answers import sections

TEXT = '''"""What stands first belongs to no answer."""
# %% mean-of-two
import torch


def mean_of_two(a, b):
    # %% indented, so no header
    return (a + b) / 2

# %% ring-buffer
class RingBuffer:
    """# %% not at the start of a line"""
'''


def test_a_section_is_all_up_to_the_next_header():
    found = sections(TEXT)
    assert list(found) == ["mean-of-two", "ring-buffer"]
    assert found["mean-of-two"].startswith("import torch\n\n\ndef mean_of_two(a, b):\n    # %% indented")
    assert found["mean-of-two"].endswith("return (a + b) / 2")
    assert found["ring-buffer"] == 'class RingBuffer:\n    """# %% not at the start of a line"""'


def test_no_header_no_answer_and_a_cell_of_another_kind_is_no_header():
    assert sections("") == sections("x = 1\n") == {}
    assert sections("# %% one\nx = 1\n# %%\n# %% [markdown]\n# %% Two Words\ny = 2\n") == {
        "one": "x = 1\n# %%\n# %% [markdown]\n# %% Two Words\ny = 2"
    }


def test_the_last_of_two_counts_and_windows_line_ends_are_line_ends():
    assert sections("# %% one\nx = 1\n# %% one\nx = 2\n") == {"one": "x = 2"}
    assert sections("# %% one\r\nx = 1\r\n# %% two\r\ny = 2\r\n") == {"one": "x = 1", "two": "y = 2"}
