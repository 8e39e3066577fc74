import sys

from pyfpm.cli import main

sys.exit(main())
