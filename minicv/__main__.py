"""``python -m minicv`` is the command ``minicv``."""
import sys

from .cli.main import main

sys.exit(main())
