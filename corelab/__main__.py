"""`python -m corelab` is `corelab`."""

import sys

from corelab.cli import main

sys.exit(main())
