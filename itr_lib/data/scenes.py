"""The front door of the embedded data set: scenes, their captions, what is true of what, and twins."""

from itr_lib.data.world import COLOURS, GROUNDS, SHAPES, SIZES, TEXTURES, Scene, SceneObject, make_scene

__all__ = ["COLOURS", "GROUNDS", "SHAPES", "SIZES", "TEXTURES", "Scene", "SceneObject", "make_scene"]
