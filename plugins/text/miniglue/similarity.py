"""STS-like: how similar are two descriptions of a scene, from 0 to 5?

The second sentence is the first one after some edits. An edit costs what it takes from the meaning, and

    score = max(0, 5 - sum of the costs):

a synonym or another order costs nothing, a detail that is dropped or changed costs little, another person, object or
action costs most. Word overlap is thus a guide, but synonyms lower it for free and a new verb lowers it by one word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bnnapps.plugins.text.glue import SCORE_RANGE
from bnnapps.plugins.text.miniglue.dice import Dice
from bnnapps.plugins.text.miniglue.morphology import article, progressive

Concept = tuple[str, ...]
"""Words of one meaning."""

PEOPLE: tuple[Concept, ...] = (
    *(("man", "guy"), ("woman", "lady"), ("child", "kid"), ("boy", "lad"), ("girl",), ("doctor", "physician")),
    *(("teacher", "instructor"), ("policeman", "cop"), ("farmer",), ("cook", "chef"), ("soldier",), ("nurse",)),
)
OBJECTS: dict[str, tuple[Concept, ...]] = {
    "food": (("apple",), ("potato",), ("onion",), ("cucumber",), ("carrot",), ("sausage",), ("tomato",), ("pepper",)),
    "instrument": (("guitar",), ("violin", "fiddle"), ("piano",), ("flute",), ("trumpet",), ("drum",), ("harp",)),
    "vehicle": (
        ("car", "automobile"),
        ("bicycle", "bike"),
        ("truck", "lorry"),
        ("boat",),
        ("tractor",),
        ("motorcycle",),
    ),
    "animal": (("dog", "hound"), ("cat",), ("horse",), ("rabbit", "bunny"), ("goat",), ("pig",), ("cow",), ("donkey",)),
    "tool": (("hammer",), ("ladder",), ("rope", "cord"), ("bucket", "pail"), ("shovel", "spade"), ("lamp",)),
}
VERBS: dict[str, tuple[Concept, ...]] = {
    "food": (("slice", "cut"), ("cook", "prepare"), ("peel",), ("eat", "consume"), ("smell",), ("wash", "clean")),
    "instrument": (("play",), ("tune",), ("repair", "fix"), ("carry",), ("buy", "purchase"), ("polish",)),
    "vehicle": (("drive", "steer"), ("repair", "fix"), ("wash", "clean"), ("buy", "purchase"), ("push", "shove")),
    "animal": (("feed",), ("pet", "stroke"), ("chase", "pursue"), ("wash", "clean"), ("carry",), ("paint",)),
    "tool": (("lift", "raise"), ("throw", "toss"), ("buy", "purchase"), ("carry",), ("drop",), ("hide", "conceal")),
}
PERSON_LOOKS: tuple[Concept, ...] = (
    ("young",),
    ("old", "elderly"),
    ("tall",),
    ("bald",),
    ("smiling",),
    ("tired", "weary"),
)
OBJECT_LOOKS: tuple[Concept, ...] = (
    *(("red",), ("green",), ("black",), ("white",), ("big", "large"), ("small", "little"), ("old",), ("yellow",)),
    *(("dirty", "filthy"), ("brown",)),
)
PLACES: tuple[Concept, ...] = (
    *(("in the kitchen",), ("in the garden", "in the yard"), ("on the street", "on the road"), ("at the market",)),
    *(
        ("near the river",),
        ("in the park",),
        ("on the beach",),
        ("in front of a house",),
        ("behind a barn",),
        ("on a stage",),
    ),
)
TIMES: tuple[Concept, ...] = (
    *(
        ("in the morning",),
        ("at night",),
        ("in the rain",),
        ("in the evening",),
        ("at noon", "at midday"),
        ("on sunday",),
    ),
)


class Scene(NamedTuple):
    """Someone does something to an object somewhere at some time, and how each part is worded."""

    kind: str
    person: Concept
    verb: Concept
    object: Concept
    person_look: Concept | None
    object_look: Concept | None
    place: Concept | None
    time: Concept | None
    time_first: bool = False
    wording: tuple[int, ...] = (0,) * 7
    """Which synonym words each part, in the order of the fields."""

    @property
    def words(self) -> tuple[str, ...]:
        """The chosen word of person, verb, object, person's look, object's look, place and time; empty for none."""
        parts = (self.person, self.verb, self.object, self.person_look, self.object_look, self.place, self.time)
        return tuple(part[choice % len(part)] if part else "" for part, choice in zip(parts, self.wording, strict=True))

    def text(self) -> str:
        """The scene as an English sentence."""
        person, verb, thing, person_look, object_look, place, time = self.words
        subject = _phrase(person_look, person)
        middle = [subject, "is", progressive(verb), _phrase(object_look, thing), place]
        parts = [f"{time},", *middle] if time and self.time_first else [*middle, time]
        sentence = " ".join(part for part in parts if part)
        return sentence[0].upper() + sentence[1:] + "."


# how many edits are tried for a level, fewest and most
_EDITS_FOR = ((4, 7), (3, 5), (2, 4), (2, 3), (1, 2), (0, 1))
_TRIES = 40


def make_scenes(dice: Dice, level: int, keep: Callable[[str], bool]) -> tuple[str, str, float] | None:
    """Two sentences that `keep` accepts and their score, which rounds to the level; None if this try failed."""
    first = _scene(dice)
    text = first.text()
    if not keep(text):
        return None
    unrelated = level == 0 and dice.chance(0.5)
    for _ in range(_TRIES):
        second, cost = (
            (_unrelated(dice, first), SCORE_RANGE[1]) if unrelated else _edited(dice, first, _EDITS_FOR[level])
        )
        score = max(SCORE_RANGE[0], round(SCORE_RANGE[1] - cost, 3))
        if int(score + 0.5) != level:
            continue
        pair = second.text()
        if pair != text and keep(pair):
            return text, pair, score
    return None


def _scene(dice: Dice) -> Scene:
    kind = dice.pick(list(OBJECTS))
    return Scene(
        kind,
        dice.pick(PEOPLE),
        dice.pick(VERBS[kind]),
        dice.pick(OBJECTS[kind]),
        dice.maybe(PERSON_LOOKS, 0.4),
        dice.maybe(OBJECT_LOOKS, 0.5),
        dice.maybe(PLACES, 0.5),
        dice.maybe(TIMES, 0.3),
        dice.chance(0.3),
        tuple(dice.below(2) for _ in range(7)),
    )


def _unrelated(dice: Dice, first: Scene) -> Scene:
    """A scene with another person, action and kind of object."""
    while True:
        second = _scene(dice)
        if second.kind != first.kind and second.person != first.person and second.verb != first.verb:
            return second


def _edited(dice: Dice, scene: Scene, number: tuple[int, int]) -> tuple[Scene, float]:
    """The scene after some edits of different parts, and the sum of their costs."""
    edits = list(_EDITS)
    dice.shuffle(edits)
    total = 0.0
    fewest, most = number
    for edit in edits[: fewest + dice.below(most - fewest + 1)]:
        scene, cost = edit(dice, scene)
        total += cost
    if dice.chance(0.6):
        scene = scene._replace(wording=tuple(dice.below(2) for _ in range(7)))
    if dice.chance(0.2):
        scene = scene._replace(time_first=not scene.time_first)
    return scene, total


def _change_person(dice: Dice, scene: Scene) -> tuple[Scene, float]:
    return scene._replace(person=dice.other(PEOPLE, scene.person)), 1.5


def _change_verb(dice: Dice, scene: Scene) -> tuple[Scene, float]:
    return scene._replace(verb=dice.other(VERBS[scene.kind], scene.verb)), 1.8


def _change_object(dice: Dice, scene: Scene) -> tuple[Scene, float]:
    return scene._replace(object=dice.other(OBJECTS[scene.kind], scene.object)), 1.2


def _person_look(dice: Dice, scene: Scene) -> tuple[Scene, float]:
    look, cost = _detail(dice, scene.person_look, PERSON_LOOKS, 0.4, 0.8)
    return scene._replace(person_look=look), cost


def _object_look(dice: Dice, scene: Scene) -> tuple[Scene, float]:
    look, cost = _detail(dice, scene.object_look, OBJECT_LOOKS, 0.4, 0.8)
    return scene._replace(object_look=look), cost


def _place(dice: Dice, scene: Scene) -> tuple[Scene, float]:
    place, cost = _detail(dice, scene.place, PLACES, 0.6, 1.0)
    return scene._replace(place=place), cost


def _time(dice: Dice, scene: Scene) -> tuple[Scene, float]:
    time, cost = _detail(dice, scene.time, TIMES, 0.4, 0.6)
    return scene._replace(time=time), cost


def _detail(
    dice: Dice, now: Concept | None, choices: Sequence[Concept], dropped: float, changed: float
) -> tuple[Concept | None, float]:
    """Drop, add or change a detail; dropping and adding cost the same."""
    if now is None:
        return dice.pick(choices), dropped
    return (None, dropped) if dice.chance(0.5) else (dice.other(choices, now), changed)


_EDITS: tuple[Callable[[Dice, Scene], tuple[Scene, float]], ...] = (
    *(_change_person, _change_verb, _change_object, _person_look, _object_look, _place, _time),
)


def _phrase(look: str, noun: str) -> str:
    words = f"{look} {noun}" if look else noun
    return f"{article(words)} {words}"
