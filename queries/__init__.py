"""Named SQL over a store, and typed results. Never torch, never textual."""
