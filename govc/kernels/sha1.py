"""SHA-1 that notices collision attacks, and how it can be fast.

Two files with one SHA-1 exist (SHAttered, 2017; SHA-mbles, 2020). Git refuses objects that are part of such an attack,
and so do we. An attack needs a message block whose difference to the other message follows one of a few *disturbance
vectors* (32 are feasible). From one of the two messages alone one can tell: take the block, apply the vector's
difference to it, run SHA-1 from the step at which both must be in the same state back to the beginning and forth to the
end; if the chaining value after the block is the same, it is half of a collision. Random blocks are that with a chance
of 2^-128.

That would cost 32 more hashes for each block. But an attack along a vector satisfies bit conditions on the expanded
message (sha1_conditions.h), and about 20 blocks in 21 break some condition of every vector. So:

    sha1_hash, sha1_blocks   the hash itself, keeping the chaining value before each block
    sha1_suspect             94 of the 156 conditions, for sixteen blocks at a time, on vectors of words
    sha1_look_further        the others, of the vectors that are left: one block in eleven has one
    sha1_recompute           the blocks that break none, gathered until there are sixteen, computed again

The last padded block and an object's header are blocks like others. A vector's word differences follow from three
numbers (type, K, b) by SHA-1's own expansion.

Hashing many objects at once is the faster way: a SHA-1 is one long chain of dependent additions, which leaves most of a
CPU idle; sixteen of them in the lanes of a vector do not. One message alone goes through the CPU's SHA instructions.
The instruction set is chosen when the program starts: AVX-512, AVX2 or plain vectors; SHA instructions or C.

OpenSSL's SHA-1, the twin, has no such detection: an installation without compiled kernels does not notice attacks (it
compares an object that exists already with what came, and keeps the old one, as everybody does). `govc doctor` says so.

Source: M. Stevens, "Counter-cryptanalysis", CRYPTO 2013; Stevens, Shumow, "Speeding up detection of SHA-1 collision
attacks using unavoidable attack conditions", USENIX Security 2017.
"""

from typing import TYPE_CHECKING

from govc.kernels.choice import choose

__all__ = ["Sha1", "hash_many"]

if TYPE_CHECKING:
    from govc.kernels.sha1_py import Sha1, hash_many
else:
    _chosen = choose("sha1")
    Sha1 = _chosen.Sha1
    hash_many = _chosen.hash_many
