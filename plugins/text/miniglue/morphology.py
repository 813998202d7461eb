"""Forms of English nouns and verbs: regular endings and a table of exceptions."""

from __future__ import annotations

PLURALS = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "mouse": "mice",
    "thief": "thieves",
    "knife": "knives",
}

# base: past, past participle
IRREGULAR = {
    "see": ("saw", "seen"),
    "know": ("knew", "known"),
    "take": ("took", "taken"),
    "write": ("wrote", "written"),
    "break": ("broke", "broken"),
    "steal": ("stole", "stolen"),
    "choose": ("chose", "chosen"),
    "draw": ("drew", "drawn"),
    "hide": ("hid", "hidden"),
    "forget": ("forgot", "forgotten"),
    "eat": ("ate", "eaten"),
    "sing": ("sang", "sung"),
    "swim": ("swam", "swum"),
    "fall": ("fell", "fallen"),
    "sleep": ("slept", "slept"),
    "hurt": ("hurt", "hurt"),
    "teach": ("taught", "taught"),
    "find": ("found", "found"),
    "buy": ("bought", "bought"),
}

_DOUBLED = frozenset({"run", "swim", "forget", "pet"})


def plural(noun: str) -> str:
    """`dog` -> `dogs`, `puppy` -> `puppies`, `child` -> `children`."""
    return PLURALS.get(noun, _with_s(noun))


def third_person(verb: str) -> str:
    """`run` -> `runs`, `carry` -> `carries`, `watch` -> `watches`."""
    return _with_s(verb)


def past(verb: str) -> str:
    """`help` -> `helped`, `carry` -> `carried`, `see` -> `saw`."""
    return IRREGULAR[verb][0] if verb in IRREGULAR else regular_past(verb)


def participle(verb: str) -> str:
    """The past participle: `help` -> `helped`, `see` -> `seen`."""
    return IRREGULAR[verb][1] if verb in IRREGULAR else regular_past(verb)


def progressive(verb: str) -> str:
    """`help` -> `helping`, `write` -> `writing`, `run` -> `running`."""
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return _doubled(verb) + "ing"


def regular_past(verb: str) -> str:
    """The ending -ed by rule, right or wrong: `help` -> `helped`, and `see` -> `seed`."""
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return _doubled(verb) + "ed"


def article(following: str) -> str:
    """`a` or `an`, by the first letter of the word that follows."""
    return "an" if following[0] in "aeiou" else "a"


def _with_s(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    return word + "s"


def _doubled(verb: str) -> str:
    return verb + verb[-1] if verb in _DOUBLED else verb
