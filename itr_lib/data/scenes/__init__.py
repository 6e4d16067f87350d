"""The front door of the embedded data set: everything a lesson needs to know about scenes, under one name.

    world.py      what a scene is; relations and places; drawing one by lot
    lexicon.py    the words for it
    grammar.py    true captions, each word with the objects it speaks of
    meaning.py    what a caption claims, of which scenes it is true, graded relevance
    twins.py      pairs of scenes that differ in one thing
    rendering.py  the picture (with shapes.py and grounds.py)

None of them imports torch, so that worker processes start fast. All chance comes from the numpy generator that
the caller hands in.
"""

from itr_lib.data.scenes.grammar import Caption, Word, make_captions
from itr_lib.data.scenes.lexicon import CANONICAL, SYNONYMS
from itr_lib.data.scenes.meaning import Description, Meaning, Relation, graph_relevance, is_true, truth_matrix
from itr_lib.data.scenes.twins import Twins, make_twins
from itr_lib.data.scenes.world import (
    COLOURS,
    GROUNDS,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    SceneObject,
    make_scene,
    position_holds,
    relation_holds,
)

__all__ = [
    "CANONICAL", "COLOURS", "GROUNDS", "POSITIONS", "RELATIONS", "SHAPES", "SIZES", "SYNONYMS", "TEXTURES",
    "Caption", "Description", "Meaning", "Relation", "Scene", "SceneObject", "Twins", "Word",
    "graph_relevance", "is_true", "make_captions", "make_scene", "make_twins", "position_holds", "relation_holds",
    "truth_matrix",
]  # fmt: skip
