"""NLI-like: does a sentence with a quantifier follow from another one?

Premise and hypothesis say "Q A are B", where A is a noun of a taxonomy with an optional adjective and place, and B a
verb of a taxonomy with an optional adverb and time. Whether a wider or a narrower A or B follows depends on the
quantifier: that is monotonicity, and no word tells it alone. With A and A' not empty, and B ⊆ B' for the scope:

    every A B   entails  every A' B' for A' ⊆ A,    some A' B' for A ⊆ A' or A' ⊆ A
    some A B    entails  some A' B'  for A ⊆ A'
    no A B      = every A not-B,   not every A B = some A not-B   (so B' ⊆ B there)

A contradiction is a premise that entails the negated hypothesis; what is neither is neutral.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from bnnapps.plugins.text.miniglue.dice import Dice
from bnnapps.plugins.text.miniglue.morphology import plural, third_person

Quantifier = Literal["every", "some", "no", "not every"]
Relation = Literal["entailment", "neutral", "contradiction"]

_QUANTIFIERS: tuple[Quantifier, ...] = ("every", "some", "no", "not every")
NEGATION: dict[Quantifier, Quantifier] = {"every": "not every", "not every": "every", "some": "no", "no": "some"}

# each noun and its kinds, in two domains
_HOME: dict[str, tuple[str, ...]] = {
    "animal": ("dog", "bird", "cat", "horse"),
    "dog": ("puppy", "terrier", "poodle", "spaniel"),
    "bird": ("sparrow", "parrot", "eagle", "owl"),
    "cat": ("kitten", "tabby"),
    "horse": ("pony", "mare", "stallion"),
    "adult": ("musician", "athlete", "doctor", "scientist"),
    "musician": ("violinist", "pianist", "drummer", "guitarist"),
    "athlete": ("boxer", "gymnast", "wrestler", "sprinter"),
    "doctor": ("surgeon", "dentist"),
    "scientist": ("chemist", "biologist", "physicist"),
}
_AWAY: dict[str, tuple[str, ...]] = {
    "creature": ("insect", "reptile", "rodent"),
    "insect": ("bee", "ant", "beetle", "wasp"),
    "reptile": ("lizard", "snake", "turtle"),
    "rodent": ("mouse", "rat", "hamster"),
    "person": ("official", "artist", "worker"),
    "official": ("judge", "mayor", "senator"),
    "artist": ("painter", "sculptor", "poet"),
    "worker": ("carpenter", "plumber", "welder", "miner"),
}
NOUN_KINDS = _HOME | _AWAY
VERB_KINDS: dict[str, tuple[str, ...]] = {
    "move": ("run", "walk", "jump", "crawl"),
    "run": ("sprint", "jog"),
    "walk": ("march", "limp", "stroll"),
    "rest": ("sleep", "doze"),
    "shout": ("scream", "yell"),
}
HOME_NOUNS, AWAY_NOUNS, _VERBS = (
    tuple(word for children in kinds.values() for word in children) for kinds in (_HOME, _AWAY, VERB_KINDS)
)
_TRIES = 40

ADJECTIVES = ("young", "old", "brown", "hungry", "happy", "tired", "small", "nervous")
PLACES = ("in the garden", "near the lake", "behind the barn", "in the park", "on the hill", "at the station")
ADVERBS = ("quickly", "slowly", "quietly", "often", "calmly", "outside")
TIMES = ("at night", "in the morning", "in winter", "on sundays", "after lunch")


class Restrictor(NamedTuple):
    """The A of "Q A are B": things of a kind, perhaps with a property, perhaps in a place."""

    noun: str
    adjective: str | None
    place: str | None


class Scope(NamedTuple):
    """The B of "Q A are B": what they do, perhaps how, perhaps when."""

    verb: str
    adverb: str | None
    time: str | None


class Statement(NamedTuple):
    """A quantified statement."""

    quantifier: Quantifier
    restrictor: Restrictor
    scope: Scope


def above(word: str, kinds: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The word and everything it is a kind of, nearest first."""
    for parent, children in kinds.items():
        if word in children:
            return (word, *above(parent, kinds))
    return (word,)


_NOUNS_ABOVE = {noun: above(noun, NOUN_KINDS) for pair in NOUN_KINDS.items() for noun in (pair[0], *pair[1])}
_VERBS_ABOVE = {verb: above(verb, VERB_KINDS) for pair in VERB_KINDS.items() for verb in (pair[0], *pair[1])}


def narrower(a: Restrictor | Scope, b: Restrictor | Scope) -> bool:
    """Whether a ⊆ b follows from the words: b is a wider word, and says nothing that a does not say."""
    if isinstance(a, Restrictor) and isinstance(b, Restrictor):
        wider = b.noun in _NOUNS_ABOVE[a.noun]
        return wider and b.adjective in (None, a.adjective) and b.place in (None, a.place)
    if isinstance(a, Scope) and isinstance(b, Scope):
        wider = b.verb in _VERBS_ABOVE[a.verb]
        return wider and b.adverb in (None, a.adverb) and b.time in (None, a.time)
    raise TypeError("a restrictor and a scope cannot be compared")


def entails(premise: Statement, hypothesis: Statement) -> bool:
    """Whether the hypothesis is true wherever the premise is and both restrictors have members."""
    a, b, c, d = premise.restrictor, premise.scope, hypothesis.restrictor, hypothesis.scope
    before, after = premise.quantifier, hypothesis.quantifier
    denied = before in ("no", "not every")
    if denied != (after in ("no", "not every")) or not (narrower(d, b) if denied else narrower(b, d)):
        return False
    universal, weak = before in ("every", "no"), after in ("some", "not every")
    if universal:
        return narrower(c, a) or (weak and narrower(a, c))
    return weak and narrower(a, c)


def relation(premise: Statement, hypothesis: Statement) -> Relation:
    """Entailment, contradiction, or neutral."""
    if entails(premise, hypothesis):
        return "entailment"
    if entails(premise, hypothesis._replace(quantifier=NEGATION[hypothesis.quantifier])):
        return "contradiction"
    return "neutral"


def make_statements(dice: Dice, wanted: Relation, away: bool, keep: Callable[[str], bool]) -> tuple[str, str] | None:
    """A premise and a hypothesis in the wanted relation, as sentences that `keep` accepts; None if this try failed.

    `away` draws from the second domain.
    """
    premise = random_statement(dice, AWAY_NOUNS if away else HOME_NOUNS)
    text = say(dice, premise)
    if not keep(text):
        return None
    # most edits of a statement do not contradict it, so the search for a contradiction starts from its negation
    start = premise._replace(quantifier=NEGATION[premise.quantifier]) if wanted == "contradiction" else premise
    for _ in range(_TRIES):
        hypothesis = edited(dice, start)
        if hypothesis != premise and relation(premise, hypothesis) == wanted:
            pair = say(dice, hypothesis)
            if keep(pair):
                return text, pair
    return None


def say(dice: Dice, statement: Statement) -> str:
    """The statement as an English sentence, with one of the quantifier's words."""
    word, many = dice.pick(_WORDS[statement.quantifier])
    what, how = statement.restrictor, statement.scope
    noun = plural(what.noun) if many else what.noun
    verb = how.verb if many else third_person(how.verb)
    parts = (word, what.adjective, noun, what.place, verb, how.adverb, how.time)
    sentence = " ".join(part for part in parts if part)
    return sentence[0].upper() + sentence[1:] + "."


# words of a quantifier, and whether they take the plural
_WORDS: dict[Quantifier, tuple[tuple[str, bool], ...]] = {
    "every": (("every", False), ("all", True), ("each", False)),
    "some": (("some", True), ("at least one", False)),
    "no": (("no", True), ("no", False), ("not a single", False)),
    "not every": (("not every", False), ("not all", True)),
}


def random_statement(dice: Dice, nouns: tuple[str, ...]) -> Statement:
    """Any statement about one of the nouns."""
    return Statement(
        dice.pick(_QUANTIFIERS),
        Restrictor(dice.pick(nouns), dice.maybe(ADJECTIVES, 0.5), dice.maybe(PLACES, 0.4)),
        Scope(dice.pick(_VERBS), dice.maybe(ADVERBS, 0.5), dice.maybe(TIMES, 0.3)),
    )


def edited(dice: Dice, statement: Statement) -> Statement:
    """The statement after one or two edits."""
    for _ in range(1 + dice.below(2)):
        part = dice.below(5)
        if part < 2:
            statement = statement._replace(restrictor=_edit_restrictor(dice, statement.restrictor))
        elif part < 4:
            statement = statement._replace(scope=_edit_scope(dice, statement.scope))
        else:
            statement = statement._replace(quantifier=dice.pick(_QUANTIFIERS))
    return statement


def _edit_restrictor(dice: Dice, what: Restrictor) -> Restrictor:
    part = dice.below(4)
    if part == 0:
        return what._replace(adjective=_toggled(dice, what.adjective, ADJECTIVES))
    if part == 1:
        return what._replace(place=_toggled(dice, what.place, PLACES))
    return what._replace(noun=_neighbour(dice, _NOUNS_ABOVE[what.noun], NOUN_KINDS.get(what.noun, ())))


def _edit_scope(dice: Dice, how: Scope) -> Scope:
    part = dice.below(4)
    if part == 0:
        return how._replace(adverb=_toggled(dice, how.adverb, ADVERBS))
    if part == 1:
        return how._replace(time=_toggled(dice, how.time, TIMES))
    return how._replace(verb=_neighbour(dice, _VERBS_ABOVE[how.verb], VERB_KINDS.get(how.verb, ())))


def _toggled(dice: Dice, now: str | None, choices: tuple[str, ...]) -> str | None:
    """A detail is added where there is none, and dropped where there is one."""
    return dice.pick(choices) if now is None else None


def _neighbour(dice: Dice, wider: tuple[str, ...], kinds: tuple[str, ...]) -> str:
    """A wider word or a narrower one; `wider` begins with the word itself."""
    return dice.pick((*wider[1:], *wider[1:], *kinds) or wider)
