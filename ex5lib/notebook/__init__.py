"""What the notebooks use besides the library: sections, sliders, uploads, a student's checks, and the report."""

from ex5lib.notebook.checks import check
from ex5lib.notebook.live import Live
from ex5lib.notebook.sweep import sweep_html
from ex5lib.notebook.upload import choose_photo

__all__ = ["Live", "check", "choose_photo", "sweep_html"]
