"""The terminal program. The only package that knows Textual; importing it loads nothing."""
