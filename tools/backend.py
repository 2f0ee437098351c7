"""What pip asks before it builds f1buf: setuptools' backend, which looks first where it is.

pip installs what a build needs before setup.py runs. Where numpy has no wheel, that would be an hour's compilation, or
its error, in place of the sentence that says why f1buf is not built there.
"""

import sys

from setuptools.build_meta import *  # noqa: F403
from where import why_not

NEEDED = ["Cython>=3.3", "numpy>=2.0"]


def get_requires_for_build_sdist(config_settings=None) -> list[str]:
    return NEEDED


def get_requires_for_build_wheel(config_settings=None) -> list[str]:
    if refusal := why_not():
        sys.exit(refusal)
    return NEEDED


get_requires_for_build_editable = get_requires_for_build_wheel
