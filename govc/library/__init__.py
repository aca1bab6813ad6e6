"""The library: what a Python program asks of a repository, with no server around it.

`from govc import Repository` is the door (docs/library.md). A room beside `service`: it answers to a caller in the same
process where that answers to a client, and stands on the same snapshot (`repo.repository`). Nothing here writes into a
repository, imports gevent, or needs the caller to be in any particular thread.

    repository     Repository: opening, validation by stat, the memory that is shared
    reading        every question, asked of the present or of a picture that is held
    objects        contents by oid, from a cache with a budget
    history        the commit graph of the repository in memory, logs
    paths          which commits changed a path
    refs           a mapping of refs
    values         what the answers are made of
"""
