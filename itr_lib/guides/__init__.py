"""Vectors of whole pictures from another model, for those that are guided by one: a CLIP, or a small one made here."""

from itr_lib.guides.clip import guided
