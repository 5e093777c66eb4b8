"""What screens inherit: each kind of screen with its keys."""
