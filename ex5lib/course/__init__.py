"""What the notebooks use besides the library: sections, sliders, uploads, checks of a student's work, the report."""

from ex5lib.course.checks import check
from ex5lib.course.live import Live
from ex5lib.course.sweep import sweep_html
from ex5lib.course.upload import choose_photo

__all__ = ["Live", "check", "choose_photo", "sweep_html"]
