"""Pages of HTML that open from a disk, with nothing beside them."""
