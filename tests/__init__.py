"""The tests; run by ``make test``."""

import os

# Trial sets it for the processes in which tests run side by side. The programs that tests start must find the package
# without it, as the programs of users do.
os.environ.pop("PYTHONPATH", None)
