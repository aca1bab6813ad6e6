# SHA-256 by the OpenSSL that this Python's hashlib uses: its functions are looked up in what is loaded already, so that
# nothing has to be installed to build against. Where that fails (a Python that hides them) the twins serve SHA-256.

from libc.stdint cimport uint8_t

from govc.kernels._inflate cimport RTLD_NOW, dlopen, dlsym

ctypedef void *(*evp_new_t)() noexcept nogil
ctypedef void (*evp_free_t)(void *) noexcept nogil
ctypedef int (*evp_init_t)(void *, const void *, void *) noexcept nogil
ctypedef int (*evp_update_t)(void *, const void *, size_t) noexcept nogil
ctypedef int (*evp_final_t)(void *, uint8_t *, unsigned int *) noexcept nogil
ctypedef const void *(*evp_md_t)() noexcept nogil

cdef struct Evp:
    evp_new_t new
    evp_free_t free
    evp_init_t init
    evp_update_t update
    evp_final_t final
    const void *sha256


cdef inline bint find_evp(Evp *evp, const char *path) noexcept:
    """Fill `evp` from the library at `path` (NULL: the program itself) and what it depends on."""
    cdef void *library = dlopen(path, RTLD_NOW)
    cdef evp_md_t sha256
    if library == NULL:
        return False
    evp.new = <evp_new_t>dlsym(library, "EVP_MD_CTX_new")
    evp.free = <evp_free_t>dlsym(library, "EVP_MD_CTX_free")
    evp.init = <evp_init_t>dlsym(library, "EVP_DigestInit_ex")
    evp.update = <evp_update_t>dlsym(library, "EVP_DigestUpdate")
    evp.final = <evp_final_t>dlsym(library, "EVP_DigestFinal_ex")
    sha256 = <evp_md_t>dlsym(library, "EVP_sha256")
    if evp.new == NULL or evp.free == NULL or evp.init == NULL or evp.update == NULL or evp.final == NULL:
        return False
    if sha256 == NULL:
        return False
    evp.sha256 = sha256()
    return evp.sha256 != NULL
