"""Regions and words to vectors, and what encoders return."""

from itr_lib.encoders.tokens import Encoded, GlobalTokens, Tokens
