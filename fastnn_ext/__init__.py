"""The native floor of fastnn: Cython drivers over C kernels.

Import ``fastnn``; what stands here is for fastnn itself, its tests, and the curious.
"""

import os
import sys
from importlib.machinery import PathFinder

if PathFinder.find_spec("fastnn_ext.runtime", __path__) is None:
    _version = ".".join(map(str, sys.version_info[:2]))
    raise ImportError(
        f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))} holds the source of fastnn, which is not built "
        f"for Python {_version}: build it with `pip install -e .` in that folder, or start Python in another one, "
        "where the fastnn that is installed is found"
    )
