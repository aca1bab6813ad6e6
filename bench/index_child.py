"""The processes that index a pack, one contender each: `python -S -c "..." KIND PACK INDEX ARGUMENT ...`.

They are started as helpers of the server are (`govc.repo.helper`): without site, which searches the environment for
packages that nothing here needs, and with sys.path in PYTHONPATH. Each imports what its own contender needs, no more,
looks for no garbage meanwhile, and isn't taken apart at its end. A helper that takes a push imports more than that (the
repository, the check of what the objects need), as it does more than `git index-pack`.

govc's says how much CPU time (seconds) the indexing itself took, from the first byte of the pack to the last of the
index: what it costs a process of the server that runs already.
"""

import gc
import os
import sys
import time

OPTIONS_BYTES = 256  # more than git_indexer_options has, all zero but the version


def index_with_govc(pack: str, index: str, threads: str, detection: str, bits: str, inflater: str = "") -> None:
    """One run of our indexer; prints the CPU seconds that it took, without the start of the process."""
    from govc.kernels.indexing import find_compiled
    from govc.pack.indexer import index_pack
    from govc.protocol.oid import SHA1

    kernel = find_compiled("sha1")
    if kernel is not None:
        kernel.use_instructions(sha=bits != "128", vector_bits=int(bits))
        kernel.use_deflate(inflater != "zlib")
    gc.enable()
    began = time.process_time()
    fd = os.open(pack, os.O_RDONLY)
    index_pack(fd, SHA1, detects=detection == "on", threads=int(threads)).write_index(index)
    os.close(fd)
    print(time.process_time() - began)


def index_thin_with_govc(pack: str, index: str, objects_dir: str, detection: str) -> None:
    """One thin pack, which is completed in place from a repository."""
    from govc.odb.store import ObjectStore
    from govc.pack.indexer import index_pack
    from govc.protocol.oid import SHA1

    gc.enable()
    store = ObjectStore.open(objects_dir, SHA1)
    fd = os.open(pack, os.O_RDWR)
    index_pack(fd, SHA1, base_reader=store.read_oid, detects=detection == "on").write_index(index)
    os.close(fd)


def index_with_dulwich(pack: str, index: str) -> None:
    """One run of dulwich's, with its compiled parts."""
    from dulwich.object_format import DEFAULT_OBJECT_FORMAT
    from dulwich.pack import PackData

    gc.enable()
    with PackData(pack, object_format=DEFAULT_OBJECT_FORMAT) as data:
        data.create_index_v2(index)


def index_with_libgit2(pack: str, index: str) -> None:
    """One run of git_indexer, fed in pieces of 1 MiB as its own transports do (smaller ones)."""
    import ctypes
    from pathlib import Path

    import pygit2

    (path,) = (Path(pygit2.__file__).parent.parent / "pygit2.libs").glob("libgit2*")
    library = ctypes.CDLL(os.fspath(path))
    library.git_libgit2_init()

    def check(code: int) -> None:
        if code < 0:
            raise OSError(f"libgit2 answers {code}")

    indexer = ctypes.c_void_p()
    statistics_of = ctypes.create_string_buffer(OPTIONS_BYTES)
    options = ctypes.create_string_buffer(OPTIONS_BYTES)
    options[0] = 1
    library.git_indexer_append.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p]
    library.git_indexer_commit.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    folder = Path(index + ".d")
    folder.mkdir()
    check(library.git_indexer_new(ctypes.byref(indexer), os.fsencode(folder), 0, None, options))
    with open(pack, "rb") as file:
        while piece := file.read(1 << 20):
            check(library.git_indexer_append(indexer, piece, len(piece), statistics_of))
    check(library.git_indexer_commit(indexer, statistics_of))
    (made,) = folder.glob("*.idx")
    made.rename(index)
    for rest in folder.iterdir():
        rest.unlink()
    folder.rmdir()


CHILDREN = {
    "govc": index_with_govc,
    "govc-thin": index_thin_with_govc,
    "dulwich": index_with_dulwich,
    "libgit2": index_with_libgit2,
}


def main() -> None:
    """Do what the command line says, and end as a helper does."""
    gc.disable()
    CHILDREN[sys.argv[1]](*sys.argv[2:])
    sys.stdout.flush()
    os._exit(0)
