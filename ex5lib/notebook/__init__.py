"""What the notebooks use besides the library: sections, sliders, uploads and the report."""

from ex5lib.notebook.sweep import sweep_html
from ex5lib.notebook.upload import choose_photo

__all__ = ["choose_photo", "sweep_html"]
