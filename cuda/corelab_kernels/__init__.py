"""Compiled code of corelab's, and how it is compiled on the machine that uses it."""
