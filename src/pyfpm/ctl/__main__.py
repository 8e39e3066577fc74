import sys

from pyfpm.ctl.main import main

sys.exit(main())
