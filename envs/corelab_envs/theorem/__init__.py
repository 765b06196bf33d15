"""Proving theorems: first-order problems, connection tableaux, and proofs that are checked."""
