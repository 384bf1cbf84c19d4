"""One offline page per run: spectra, energies, trajectory, and what it was made with.

`read_content` collects what a folder holds, `render` makes the page of it, and
`write_report` does both. The page is complete in itself: it fetches nothing.
"""

from molpool_calc.report.content import RunContent, read_content
from molpool_calc.report.page import REPORT, render, write_report

__all__ = ["REPORT", "RunContent", "read_content", "render", "write_report"]
