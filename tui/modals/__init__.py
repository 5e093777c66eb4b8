"""Small screens that ask or tell one thing and return a value."""
