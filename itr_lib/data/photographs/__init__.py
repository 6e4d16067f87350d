"""Photographs with captions, in the files that the field uses."""
