"""Commands for people and for the Makefile."""
