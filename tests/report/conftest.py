"""The run that pages are written about is the one that many tests of runs look at."""

from tests.run.conftest import finished, options, plan

__all__ = ["finished", "options", "plan"]
