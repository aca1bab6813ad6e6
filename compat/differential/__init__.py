"""The same requests to govc and to `git http-backend`, over copies of the same repositories; the answers must agree.

    world         the repositories, twice; the two servers; putting both back when pushes have changed them
    requests      real requests, and what a fuzzer makes of them
    answers       what of an answer counts, and in which words
    differences   where the answers may differ, and why: the only ones that pass
    __main__      the long run: `python -m compat.differential --minutes 10`, which is `make fuzz-http MINUTES=10`

govc is called as a WSGI application in this process, git http-backend runs as a CGI program; both get the very same
variables and the very same bytes.
"""
