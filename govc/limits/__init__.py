"""Limits that hold a crowd: counting who asks how often, how many work at once, and what the machine can bear.

Knows no HTTP and no Git: names and numbers in, permission or `Refused` out.
"""
