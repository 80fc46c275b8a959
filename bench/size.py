"""bytes of the executable"""

import os

from bench import context as bench


def rows(_):
    yield 'executable', 'yado', os.path.getsize(bench.YADO), 'bytes'
