"""Where objects live: packs, loose objects, alternates, the quarantine of a push.

Read in this order: `loose`, `packs`, `alternates`, `cache`, `resolve`, `store`, `modes`, `quarantine`,
`repack`.
"""
