"""HTTP: an environ in, an iterable out. No Git objects here and no wire format; those are the services'.

Read in this order: `routes`, `request`, `bodies`, `identity`, `responses`, `smart`, `dumb`, `wsgi_app`; then
`cgi`, which runs the same application for one request, and `gunicorn_server`, which runs it for many.
"""
