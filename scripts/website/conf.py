"""Sphinx's configuration of the site; ``python -m scripts.website`` gathers the pages."""

project = html_title = "GAN inversion"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx-mathjax-offline"]
html_theme = "furo"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_copyright = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_render_image_options = {"scale": "100"}  # so that it is a link to its full size

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # PyTorch's, of forward, says nothing
default_role = "code"
maximum_signature_line_length = 80
suppress_warnings = ["misc.highlighting_failure"]  # a line of Python that begins with Jupyter's !
