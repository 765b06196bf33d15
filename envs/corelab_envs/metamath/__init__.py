"""Proving the theorems of Metamath databases, backwards from the goal."""
