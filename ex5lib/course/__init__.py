"""What the notebooks use besides the library: sections, sliders, uploads, checks of a student's work, the report."""

import lazy_loader

# Imported on first use: the command line needs only the hand-in, and none of the notebooks' libraries.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"claims": ["check"], "live": ["Live"], "sweep": ["sweep_html"], "upload": ["choose_photo"]},
)
