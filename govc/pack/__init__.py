"""Packs: the format, its entries and deltas, its indexes; reading a received one, writing one to send.

Read in this order: `format`, `entry`, `delta`, `index`, `index_writer`, `indexer`, `writer`.
"""
