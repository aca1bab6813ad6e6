"""What git keeps of a work tree: the index file. Pure."""
