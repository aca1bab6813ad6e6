"""Measures govc beside git-http-backend and dulwich: `python -m bench`."""
