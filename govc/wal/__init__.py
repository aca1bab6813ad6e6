"""The write-ahead log of one repository: `<commondir>/govc/`.

    errors      what can go wrong
    record      one record: values in, bytes out, and back
    segment     the files that records lie in: header, names, making one
    state       what the processes on this machine share: the tail, what is durable, what is published
    log         appending, group commit, rotation, going on after a failed sync
    reader      records in order; a torn tail told from damage
    owner       which processes live: tokens, liveness locks, lock files
    checkpoint  the file that says up to where the native repository is durable
    boot        has this machine been restarted since?

The room knows refnames and object ids as bytes and nothing of refs, packs or HTTP: what a record means for a
repository is `repo.journal`, `repo.recovery` and `repo.checkpointing`. docs/formats/log.md specifies every byte.
"""
