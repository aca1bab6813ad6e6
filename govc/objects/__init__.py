"""What an object says about itself: bytes in, values out. No repository, no pack, no file.

Read in this order: `types`, `errors`, `commit`, `tree`, `tag`.
"""
