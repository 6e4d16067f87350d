"""The tests of test_gpu.py on the simulated GPU.

python tests/gpu_tests_on_simulated_gpu.py [arguments of pytest]
"""

from __future__ import annotations

import sys

import pytest
import simulated_gpu

if __name__ == "__main__":
    simulated_gpu.install()
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/test_gpu.py", *sys.argv[1:]]))
