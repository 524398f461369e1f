"""Pages about runs: one HTML file each that needs nothing else, not even a network."""

from isjax.report.run import write_report

__all__ = ["write_report"]
