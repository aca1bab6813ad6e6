"""What trees hold, and how a folder changed through history: the compiled kernel where there is one, else its twin.

`kernels.treelist` has the story.
"""

from typing import TYPE_CHECKING

from govc.kernels.treelist import AVAILABLE

if TYPE_CHECKING or AVAILABLE:
    from govc.kernels.treelist import Folder, Values, find_entry, list_files, parse_entries, root_column
else:
    from govc.graph.treelist_py import Folder, Values, find_entry, list_files, parse_entries, root_column

__all__ = ["Folder", "Values", "find_entry", "list_files", "parse_entries", "root_column"]
