"""How `make docs` builds the pages of this folder: Sphinx, MyST for Markdown, the theme Furo."""

project = "Energy-Lens"
author = "the Energy-Lens contributors"
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "Energy-Lens"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"source_repository": "", "footer_icons": []}
exclude_patterns = ["build"]
