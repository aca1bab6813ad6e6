"""Scenarios with real clients over real sockets; see README.md in this folder."""
