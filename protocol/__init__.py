"""The wire, without I/O: bytes in, values out; values in, bytes out. Standard library only.

Read in this order: `oid`, `pktline`, `sideband`, `capabilities`, `advertisement`, `ls_refs`, `upload_pack`,
`fetch`, `receive_pack`.
"""
