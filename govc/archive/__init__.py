"""Archives of a tree: which entries, as which bytes, in which container.

options      the arguments of git archive
pathspec     which paths were asked for
attributes   .gitattributes of the tree: export-ignore, export-subst, and how text is written
convert      line ends, $Id$, encodings
substitute   $Format:...$ in files with export-subst
entries      the walk over the tree that brings these together
tar, zip     the containers
"""
