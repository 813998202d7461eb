"""CoLA-like: is a sentence acceptable English?

Every phenomenon makes a minimal pair, a good sentence and the same sentence damaged in one place; one of the two is
given. The label is therefore no matter of which words or which phenomenon occur: agreement across a distracting noun,
determiner and number, word order, auxiliary and verb form, arguments of the verb, reflexives, missing words, pronoun
case, and a regular ending on an irregular verb (the only damage that a single word gives away).
"""

from __future__ import annotations

from collections.abc import Callable

from bnnapps.plugins.text.miniglue.dice import Dice
from bnnapps.plugins.text.miniglue.morphology import (
    IRREGULAR,
    article,
    participle,
    past,
    plural,
    progressive,
    regular_past,
    third_person,
)

Pair = tuple[list[str], list[str]]

_MEN = ("boy", "man", "king", "uncle", "waiter", "prince", "father", "grandfather")
_WOMEN = ("girl", "woman", "queen", "aunt", "waitress", "princess", "mother", "grandmother")
_JOBS = ("teacher", "doctor", "lawyer", "student", "farmer", "painter", "neighbor", "visitor", "thief", "guest")
_PEOPLE = (*_MEN, *_WOMEN, *_JOBS)
_THINGS = (
    *("book", "letter", "picture", "box", "knife", "cake", "car", "window", "apple", "key", "song", "chair", "bottle"),
    *("poem", "map", "basket", "coat"),
)
_NAMES = ("John", "Mary", "Bill", "Susan", "Peter", "Anna", "Martha", "Tom")
_ADJECTIVES = ("old", "young", "tall", "small", "famous", "quiet", "angry", "tired", "clever", "new")
_PREPOSITIONS = ("near", "behind", "beside", "with", "in front of", "next to")
_TRANSITIVE = (
    *("see", "know", "take", "write", "break", "steal", "choose", "draw", "hide", "forget", "help", "like", "visit"),
    *("paint", "carry", "watch", "admire", "find"),
)
_ACTIONS = ("take", "write", "break", "steal", "choose", "draw", "hide", "paint", "carry", "watch")
_NEED_OBJECT = ("take", "admire", "carry", "like", "destroy", "mention", "find", "buy", "describe", "devour")
_INTRANSITIVE = (
    "sleep",
    "fall",
    "smile",
    "laugh",
    "sneeze",
    "arrive",
    "cry",
    "vanish",
    "shiver",
    "yawn",
    "run",
    "swim",
)
_NO_OBJECT = ("arrive", "vanish", "sneeze", "fall", "shiver", "yawn", "sleep")
_STATES = ("happy", "late", "ready", "hungry", "afraid", "here", "busy", "alone")
_TIMES = ("today", "yesterday", "every day", "in the garden", "at home", "last week", "in the morning", "after lunch")
_MODALS = ("will", "can", "must", "should", "might", "would")


def make_sentence(dice: Dice, label: int) -> str:
    """A sentence that is acceptable (1) or not (0)."""
    good, bad = dice.pick(PHENOMENA)(dice)
    words = " ".join(good if label == 1 else bad)
    return words[0].upper() + words[1:] + "."


def _agreement(dice: Dice) -> Pair:
    """The verb agrees with the head noun, not with the noun before it."""
    many = dice.chance(0.5)
    subject = ["the", *_adjective(dice), _noun(dice.pick(_PEOPLE), many)]
    if dice.chance(0.6):
        subject += [dice.pick(_PREPOSITIONS), "the", _noun(dice.pick(_PEOPLE), dice.chance(0.5))]
    elif dice.chance(0.5):
        inner = dice.chance(0.5)
        subject += ["that", "the", _noun(dice.pick(_PEOPLE), inner), _finite(dice.pick(("like", "know", "see")), inner)]
    if dice.chance(0.5):
        state = [dice.pick(_STATES)]
        return [*subject, "are" if many else "is", *state], [*subject, "is" if many else "are", *state]
    verb = dice.pick(_INTRANSITIVE)
    when = [dice.pick(("today", "every day", "at home", "in the garden"))]
    return [*subject, _finite(verb, many), *when], [*subject, _finite(verb, not many), *when]


def _determiner(dice: Dice) -> Pair:
    """A determiner agrees with its noun in number."""
    one, several = dice.pick((("this", "these"), ("that", "those"), ("every", "many"), ("each", "several")))
    many = dice.chance(0.5)
    noun = _noun(dice.pick(_THINGS), many)
    start = [dice.pick(_NAMES), past(dice.pick(_TRANSITIVE))]
    middle = _adjective(dice)
    end = _when(dice)
    good, bad = (several, one) if many else (one, several)
    return [*start, good, *middle, noun, *end], [*start, bad, *middle, noun, *end]


def _order(dice: Dice) -> Pair:
    """Two neighbours change places: determiner and noun, noun and adjective, or subject and verb."""
    subject = ["the", dice.pick(_ADJECTIVES), dice.pick(_PEOPLE)]
    rest = [past(dice.pick(_TRANSITIVE)), "the", dice.pick(_THINGS), *_when(dice)]
    good = [*subject, *rest]
    place = dice.pick((0, 1, 2, 3, 4))
    bad = list(good)
    bad[place], bad[place + 1] = bad[place + 1], bad[place]
    return good, bad


def _auxiliary(dice: Dice) -> Pair:
    """The auxiliary decides the form of the verb."""
    verb = dice.pick(_ACTIONS)
    subject = ["the", *_adjective(dice), dice.pick(_PEOPLE)]
    forms = {"has": participle(verb), "is": progressive(verb), dice.pick(_MODALS): verb}
    helper = dice.pick(list(forms))
    wrong = dice.other([*forms.values()], forms[helper])
    end = ["the", dice.pick(_THINGS)]
    return [*subject, helper, forms[helper], *end], [*subject, helper, wrong, *end]


def _argument(dice: Dice) -> Pair:
    """Some verbs need an object, others bear none."""
    subject = dice.pick((["the", dice.pick(_PEOPLE)], [dice.pick(_NAMES)]))
    thing = ["the", *_adjective(dice), dice.pick(_THINGS)]
    end = _when(dice)
    if dice.chance(0.5):
        verb = [past(dice.pick(_NEED_OBJECT))]
        return [*subject, *verb, *thing, *end], [*subject, *verb, *end]
    verb = [past(dice.pick(_NO_OBJECT))]
    return [*subject, *verb, *end], [*subject, *verb, *thing, *end]


def _reflexive(dice: Dice) -> Pair:
    """A reflexive agrees with its subject in gender and number."""
    kind = dice.below(3)
    noun = dice.pick((_MEN, _WOMEN, _JOBS)[kind])
    right = ("himself", "herself", "themselves")[kind]
    subject = ["the", *_adjective(dice), _noun(noun, kind == 2)]
    if dice.chance(0.4):
        subject += [dice.pick(_PREPOSITIONS), "the", _noun(dice.pick(_PEOPLE), dice.chance(0.5))]
    start = [*subject, past(dice.pick(("hurt", "help", "see", "hide", "admire", "paint", "teach")))]
    end = _when(dice)
    wrong = dice.other(("himself", "herself", "themselves"), right)
    return [*start, right, *end], [*start, wrong, *end]


def _missing(dice: Dice) -> Pair:
    """A determiner or the verb is left out."""
    words = ["the", dice.pick(_PEOPLE), past(dice.pick(_TRANSITIVE)), dice.pick(("the", "this", "every"))]
    words += [*_adjective(dice), dice.pick(_THINGS), *_when(dice)]
    gap = dice.pick((0, 2, 3))
    return words, words[:gap] + words[gap + 1 :]


def _case(dice: Dice) -> Pair:
    """Subjects and objects take different pronouns."""
    nominative, accusative = dice.pick((("he", "him"), ("she", "her"), ("they", "them"), ("we", "us"), ("I", "me")))
    verb = past(dice.pick(_TRANSITIVE))
    end = _when(dice)
    if dice.chance(0.5):
        rest = [verb, "the", *_adjective(dice), dice.pick(_THINGS), *end]
        return [nominative, *rest], [accusative, *rest]
    start = ["the", *_adjective(dice), dice.pick(_PEOPLE), past(dice.pick(("see", "know", "help", "like", "visit")))]
    return [*start, accusative, *end], [*start, nominative, *end]


def _ending(dice: Dice) -> Pair:
    """An irregular verb with the regular ending."""
    verb = dice.pick([v for v in _TRANSITIVE if v in IRREGULAR])
    subject = dice.pick((["the", *_adjective(dice), dice.pick(_PEOPLE)], [dice.pick(_NAMES)]))
    thing = dice.pick(_THINGS)
    end = [article(thing), thing, *_when(dice)]
    return [*subject, past(verb), *end], [*subject, regular_past(verb), *end]


PHENOMENA: tuple[Callable[[Dice], Pair], ...] = (
    *(_agreement, _agreement, _agreement, _determiner, _determiner, _order, _order, _order),
    *(_auxiliary, _auxiliary, _argument, _reflexive, _missing, _case, _ending),
)


def _noun(noun: str, many: bool) -> str:
    return plural(noun) if many else noun


def _finite(verb: str, many: bool) -> str:
    return verb if many else third_person(verb)


def _adjective(dice: Dice) -> list[str]:
    return [dice.pick(_ADJECTIVES)] if dice.chance(0.4) else []


def _when(dice: Dice) -> list[str]:
    return [dice.pick(_TIMES)] if dice.chance(0.5) else []
