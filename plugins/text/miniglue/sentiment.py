"""SST-like: is a sentence of a film review positive?

Words of praise and blame mostly decide, but not alone: a negation turns a clause round, and in a contrast (`but`,
`although`) the main clause decides while the other one says the opposite. Text is lower case with separate punctuation,
as in SST-2.
"""

from __future__ import annotations

from collections.abc import Sequence

from bnnapps.plugins.text.miniglue.dice import Dice
from bnnapps.plugins.text.miniglue.morphology import past, third_person

ADJECTIVES: dict[bool, Sequence[str]] = {
    True: (
        *(
            "wonderful",
            "charming",
            "delightful",
            "brilliant",
            "clever",
            "moving",
            "funny",
            "warm",
            "elegant",
            "gripping",
        ),
        *("witty", "graceful", "tender", "vivid", "honest", "fresh", "inspired", "lovely", "superb", "touching"),
        *("engaging", "thrilling", "rich", "smart", "sincere", "beautiful", "memorable", "powerful", "subtle", "bold"),
    ),
    False: (
        *("dull", "boring", "tedious", "clumsy", "shallow", "bland", "flat", "predictable", "lifeless", "messy"),
        *("awful", "stale", "tiresome", "silly", "weak", "hollow", "sluggish", "dreary", "pointless", "crude"),
        *("forgettable", "annoying", "painful", "sloppy", "ugly", "cold", "empty", "dreadful", "absurd", "noisy"),
    ),
}
VERBS: dict[bool, Sequence[str]] = {
    True: ("work", "shine", "delight", "soar", "succeed", "sparkle", "impress", "convince", "glow", "surprise"),
    False: ("fail", "drag", "disappoint", "collapse", "stumble", "annoy", "bore", "falter", "fade", "irritate"),
}
OPINIONS: dict[bool, Sequence[str]] = {
    True: ("love", "enjoy", "admire", "like", "praise", "adore"),
    False: ("hate", "dislike", "loathe", "resent", "mock", "despise"),
}
QUALITIES: dict[bool, Sequence[str]] = {
    True: ("charm", "wit", "heart", "warmth", "energy", "grace", "imagination", "intelligence", "passion", "depth"),
    False: ("cliches", "nonsense", "stereotypes", "mistakes", "gloom", "platitudes", "vanity", "filler", "confusion"),
}
_WORKS = (
    *("film", "movie", "drama", "comedy", "thriller", "documentary", "sequel", "remake", "musical", "western"),
    *("adventure", "cartoon", "mystery", "debut", "picture", "series"),
)
_ASPECTS = (
    *("plot", "story", "acting", "cast", "script", "dialogue", "music", "score", "ending", "direction", "photography"),
    *("pacing", "romance", "opening", "hero", "villain", "soundtrack", "editing", "premise", "finale", "scenery"),
)
_MANY = ("characters", "jokes", "songs", "scenes", "actors", "effects", "costumes", "performances")
_PEOPLE = ("i", "we", "critics", "viewers", "my friends", "the audience", "most people", "children")
_DENIALS = ("not", "n't", "never")
_DEGREES = ("very", "really", "truly", "quite", "deeply", "utterly", "simply", "rather")
OPENERS = (
    *(
        "in the end ,",
        "to my surprise ,",
        "as a fan ,",
        "for two hours ,",
        "from start to finish ,",
        "in the last act ,",
    ),
    *("at its core ,", "on a second viewing ,", "by the halfway point ,", "oddly ,", "this time ,", "once again ,"),
)


def make_review(dice: Dice, label: int) -> str:
    """A sentence of the given sentiment (1 positive, 0 negative)."""
    positive = label == 1
    shape = dice.below(100)
    if shape < 45:
        body = _clause(dice, positive)
    elif shape < 70:
        body = f"{_clause(dice, positive)} and {_clause(dice, positive)}"
    else:
        body = _contrast(dice, positive)
    opener = dice.maybe(OPENERS, 0.3)
    return (f"{opener} " if opener else "") + f"{body} ."


def _contrast(dice: Dice, positive: bool) -> str:
    """Two clauses of opposite sentiment, of which the main one counts."""
    main, aside = _clause(dice, positive), _clause(dice, not positive)
    shape = dice.below(4)
    if shape == 0:
        return f"{aside} , but {main}"
    if shape == 1:
        return f"although {aside} , {main}"
    if shape == 2:
        return f"{main} , even though {aside}"
    return f"{aside} ; still , {main}"


def _clause(dice: Dice, positive: bool) -> str:
    negated = dice.chance(0.25)
    tone = positive != negated
    shape = dice.below(4)
    if shape == 0:
        subject, many = _subject(dice)
        words = [subject, "are" if many else "is"]
        if negated:
            words.append(dice.pick(("not", "n't", "never", "hardly", "anything but")))
        if (degree := dice.maybe(_DEGREES, 0.4)) and words[-1] != "anything but":
            words.append(degree)
        return " ".join([*words, dice.pick(ADJECTIVES[tone])])
    if shape == 1:
        subject, many = _subject(dice)
        verb = dice.pick(VERBS[tone])
        finite = verb if many else third_person(verb)
        if not negated:
            return f"{subject} {finite}"
        denial = dice.pick(_DENIALS)
        return (
            f"{subject} never {finite}"
            if denial == "never"
            else f"{subject} {'do' if many else 'does'} {denial} {verb}"
        )
    if shape == 2:
        verb = dice.pick(OPINIONS[tone])
        target, _ = _subject(dice)
        person = dice.pick(_PEOPLE)
        if not negated:
            return f"{person} {past(verb)} {target}"
        denial = dice.pick(_DENIALS)
        return (
            f"{person} never {past(verb)} {target}" if denial == "never" else f"{person} did {denial} {verb} {target}"
        )
    subject, many = _subject(dice)
    quality = dice.pick(QUALITIES[tone])
    if negated:
        shapes = ("lack" if many else "lacks", "have no" if many else "has no", "are free of" if many else "is free of")
        return f"{subject} {dice.pick(shapes)} {quality}"
    return f"{subject} {dice.pick(('are full of' if many else 'is full of', 'offer' if many else 'offers'))} {quality}"


def _subject(dice: Dice) -> tuple[str, bool]:
    """A noun phrase, and whether it is plural."""
    shape = dice.below(10)
    if shape < 4:
        return f"the {dice.pick(_ASPECTS)}", False
    if shape < 6:
        return f"the {dice.pick(_MANY)}", True
    if shape < 9:
        return f"{dice.pick(('the', 'this'))} {dice.pick(_WORKS)}", False
    return f"the {dice.pick(_ASPECTS)} of this {dice.pick(_WORKS)}", False
