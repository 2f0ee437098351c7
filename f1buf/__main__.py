"""``python -m f1buf``: the command `f1buf`."""

import sys

from f1buf.cli import main

sys.exit(main())
