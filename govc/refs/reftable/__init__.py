"""The "reftable" backend of refs: sorted, indexed tables in a stack, one new table per transaction.

format      bytes of header, footer and records
block       one block: its records, and searching in it
table       one file: refs and reflog entries
columns     many refs in a few byte strings
merged      the tables of a stack as one view
stack       tables.list, its lock, the tables it names
log         which refs have a reflog, and its entries
writer      a new table
compaction  fewer tables
transaction changing refs
database    the refs of a repository
"""
