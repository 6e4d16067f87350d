"""The words for things: synonyms of each canonical name, plurals, and the phrases for relations, places and grounds.

In a phrase, a starred word carries the meaning ("to the *left* of"); the others are function words.
"""

from __future__ import annotations

SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "shape": {
        "circle": ("circle", "disc"), "square": ("square", "box"), "triangle": ("triangle",), "star": ("star",),
        "heart": ("heart",), "diamond": ("diamond", "rhombus"), "arrow": ("arrow",), "cross": ("cross", "plus"),
        "ring": ("ring", "hoop"), "crescent": ("crescent", "moon"), "flower": ("flower", "blossom"),
        "drop": ("drop", "teardrop"),
    },
    "colour": {
        "red": ("red",), "orange": ("orange",), "yellow": ("yellow",), "green": ("green",),
        "turquoise": ("turquoise", "teal"), "blue": ("blue",), "purple": ("purple", "violet"),
        "pink": ("pink", "rose"), "white": ("white",), "black": ("black",),
    },
    "size": {
        "small": ("small", "little", "tiny"), "medium": ("medium",), "large": ("large", "big", "huge"),
    },
    "texture": {
        "plain": ("plain", "solid"), "striped": ("striped", "stripy"), "spotted": ("spotted", "dotted"),
        "checked": ("checked", "chequered"),
    },
    "number": {"2": ("two",), "3": ("three",)},
}  # fmt: skip

# canonical relation, are the two objects exchanged?, how it is said
RELATION_PHRASES: tuple[tuple[str, bool, tuple[str, ...]], ...] = (
    ("left of", False, ("to the *left* of", "*left* of", "on the *left* of")),
    ("left of", True, ("to the *right* of", "*right* of", "on the *right* of")),
    ("above", False, ("*above*", "*over*", "*higher* than")),
    ("above", True, ("*below*", "*under*", "*beneath*")),
    ("near", False, ("*near*", "*next* to", "*beside*", "*close* to")),
)

POSITION_PHRASES: dict[str, tuple[str, ...]] = {
    "left": ("on the *left*", "at the *left* *side*"),
    "right": ("on the *right*", "at the *right* *side*"),
    "top": ("at the *top*", "in the *upper* *part*"),
    "bottom": ("at the *bottom*", "in the *lower* *part*"),
    "upper left": ("in the *upper* *left*", "in the *top* *left* *corner*"),
    "upper right": ("in the *upper* *right*", "in the *top* *right* *corner*"),
    "lower left": ("in the *lower* *left*", "in the *bottom* *left* *corner*"),
    "lower right": ("in the *lower* *right*", "in the *bottom* *right* *corner*"),
    "middle": ("in the *middle*", "in the *centre*"),
}

GROUND_PHRASES: dict[str, tuple[str, ...]] = {
    "grass": ("on the *grass*", "on a *lawn*", "on a *meadow*"),
    "sand": ("on the *sand*", "on a *sandy* *beach*"),
    "water": ("on the *water*", "on the *sea*"),
    "wood": ("on a *wooden* *floor*", "on *wood*", "on *wooden* *boards*"),
    "brick": ("against a *brick* *wall*", "on a *wall* of *bricks*"),
    "snow": ("in the *snow*", "on *snowy* *ground*"),
    "night sky": ("against the *night* *sky*", "in the *sky* at *night*"),
    "stone": ("on *stone*", "on a *stone* *pavement*", "on the *stones*"),
}

OPENINGS = ("", "", "", "there {be}", "a picture of", "we see", "you can see", "this picture shows", "a scene with")

_IRREGULAR = {"cross": "crosses", "plus": "pluses", "box": "boxes", "rhombus": "rhombuses"}


def plural(noun: str) -> str:
    """The plural of a shape's name."""
    return _IRREGULAR.get(noun, noun + "s")


def article(word: str) -> str:
    """The indefinite article before this word."""
    return "an" if word[0] in "aeiou" else "a"


# Word of an attribute, singular or plural -> (kind, canonical name). No word has two readings.
CANONICAL = {
    form: (kind, name)
    for kind, names in SYNONYMS.items()
    for name, words in names.items()
    for word in words
    for form in ({word, plural(word)} if kind == "shape" else {word})
}
