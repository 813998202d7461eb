"""Labels of generated examples against an independent reading of the text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import product

import pytest

from bnnapps.plugins.text.glue import TASKS
from bnnapps.plugins.text.miniglue import acceptability, generate, inference, sentiment, similarity
from bnnapps.plugins.text.miniglue.dice import Dice
from bnnapps.plugins.text.miniglue.morphology import past, plural, progressive, third_person


def tone(clause: str) -> bool:
    """The sentiment of one clause: its word of praise or blame, turned round by each negation."""
    words = clause.split()
    praise = {
        word: positive
        for positive in (True, False)
        for word in (
            *sentiment.ADJECTIVES[positive],
            *sentiment.QUALITIES[positive],
            *(form for verb in sentiment.VERBS[positive] for form in (verb, third_person(verb))),
            *(form for verb in sentiment.OPINIONS[positive] for form in (verb, past(verb))),
        )
    }
    (found,) = [praise[word] for word in words if word in praise]
    negations = ("not", "n't", "never", "hardly", "anything", "lack", "lacks", "no", "free")
    return found != (sum(word in negations for word in words) % 2 == 1)


def main_clauses(text: str) -> list[str]:
    body = text.removesuffix(" .")
    for opener in sentiment.OPENERS:
        body = body.removeprefix(f"{opener} ")
    if body.startswith("although "):
        return [body.split(" , ")[1]]
    if " , even though " in body:
        return [body.split(" , even though ")[0]]
    for turn in (" , but ", " ; still , "):
        if turn in body:
            return [body.split(turn)[1]]
    return body.split(" and ")


def test_sentiment_follows_from_the_main_clauses() -> None:
    for example in generate("sst2", "train", 3000, seed=11):
        tones = {tone(clause) for clause in main_clauses(example.text)}
        assert tones == {example.label == 1}, example


def test_no_sentence_is_both_acceptable_and_not() -> None:
    drawn = [[acceptability.make_sentence(Dice("pairs", i), label) for i in range(20000)] for label in (0, 1)]
    assert not set(drawn[0]) & set(drawn[1])
    minimal = [make(Dice("pairs", i)) for i in range(300) for make in acceptability.PHENOMENA]
    assert all(good != bad and abs(len(good) - len(bad)) <= 3 for good, bad in minimal)


def parse_scene(text: str) -> dict[str, object]:
    """What a description of a scene says, by meaning instead of wording."""

    def one_of(concepts: tuple[tuple[str, ...], ...], form: object = str) -> dict[str, tuple[str, ...]]:
        return {form(word): concept for concept in concepts for word in concept}  # type: ignore[operator]

    person, look = one_of(similarity.PEOPLE), one_of(similarity.PERSON_LOOKS)
    things = {word: (kind, c) for kind, cs in similarity.OBJECTS.items() for c in cs for word in c}
    thing_look, places, times = (one_of(c) for c in (similarity.OBJECT_LOOKS, similarity.PLACES, similarity.TIMES))

    def choice(words: object) -> str:
        return "|".join(sorted((re.escape(w) for w in words), key=len, reverse=True))  # type: ignore[attr-defined]

    pattern = (
        rf"(?:(?P<before>{choice(times)}), )?an? (?:(?P<look>{choice(look)}) )?(?P<person>{choice(person)}) is "
        rf"(?P<verb>\w+) an? (?:(?P<thing_look>{choice(thing_look)}) )?(?P<thing>{choice(things)})"
        rf"(?: (?P<place>{choice(places)}))?(?: (?P<after>{choice(times)}))?\."
    )
    match = re.fullmatch(pattern, text[0].lower() + text[1:])
    assert match is not None, text
    part = match.groupdict()
    kind, thing = things[part["thing"]]
    verbs = {progressive(word): concept for concept in similarity.VERBS[kind] for word in concept}
    return {
        "person": person[part["person"]],
        "verb": verbs[part["verb"]],
        "kind": kind,
        "thing": thing,
        "look": look.get(part["look"]),
        "thing_look": thing_look.get(part["thing_look"]),
        "place": places.get(part["place"]),
        "time": times.get(part["before"] or part["after"]),
    }


COSTS = {"person": 1.5, "verb": 1.8, "thing": 1.2}
DETAIL_COSTS = {"look": (0.4, 0.8), "thing_look": (0.4, 0.8), "place": (0.6, 1.0), "time": (0.4, 0.6)}


def test_similarity_is_five_less_the_cost_of_what_differs_in_meaning() -> None:
    for example in generate("stsb", "train", 2000, seed=11):
        assert example.pair is not None
        first, second = parse_scene(example.text), parse_scene(example.pair)
        cost = sum(price for part, price in COSTS.items() if first[part] != second[part])
        for part, (dropped, changed) in DETAIL_COSTS.items():
            if first[part] != second[part]:
                cost += dropped if None in (first[part], second[part]) else changed
        if first["kind"] != second["kind"]:
            cost = 5.0
        assert example.label == pytest.approx(max(0.0, 5.0 - cost), abs=1e-6), example


def holds(quantifier: str, inside: list[bool]) -> bool:
    """Whether "Q A are B" is true, where `inside` says of each A whether it is B."""
    return {"every": all(inside), "some": any(inside), "no": not any(inside), "not every": not all(inside)}[quantifier]


@cache
def relation_by_models(kinds: frozenset[tuple[bool, ...]], before: str, after: str) -> str:
    """The relation of "Q A are B" to "Q' A' are B'" by trying every model.

    `kinds` are the individuals (in A, in B, in A', in B') that the words allow; a model is any set of them in which
    some are A and some are A'.
    """
    individuals = sorted(kind for kind in kinds if kind[0] or kind[2])
    seen = set()
    for members in product((False, True), repeat=len(individuals)):
        model = [kind for kind, member in zip(individuals, members, strict=True) if member]
        premise = [kind[1] for kind in model if kind[0]]
        hypothesis = [kind[3] for kind in model if kind[2]]
        if premise and hypothesis and holds(before, premise):
            seen.add(holds(after, hypothesis))
    return {(True,): "entailment", (False,): "contradiction"}.get(tuple(seen), "neutral")


def allowed_kinds(premise: inference.Statement, hypothesis: inference.Statement) -> frozenset[tuple[bool, ...]]:
    """Which individuals the taxonomies allow: a puppy is a dog, and everything else is free."""
    kinds = inference.NOUN_KINDS | inference.VERB_KINDS
    wider = {child: parent for parent, children in kinds.items() for child in children}

    def implied(word: str) -> set[str]:
        return {word} | (implied(wider[word]) if word in wider else set())

    parts = [[w for w in part if w] for s in (premise, hypothesis) for part in (s.restrictor, s.scope)]
    words = sorted({word for part in parts for word in part})
    found = set()
    for truth in product((False, True), repeat=len(words)):
        true = {word for word, value in zip(words, truth, strict=True) if value}
        if all(implied(word) & set(words) <= true for word in true):
            found.add(tuple(set(part) <= true for part in parts))
    return frozenset(found)


def test_inference_labels_hold_in_every_model() -> None:
    counts: Counter[str] = Counter()
    for i in range(400):
        dice = Dice("models", i)
        premise = inference.random_statement(dice, inference.HOME_NOUNS)
        hypothesis = premise
        while hypothesis == premise:
            hypothesis = inference.edited(dice, premise)
        expected = relation_by_models(allowed_kinds(premise, hypothesis), premise.quantifier, hypothesis.quantifier)
        assert inference.relation(premise, hypothesis) == expected, (premise, hypothesis)
        counts[expected] += 1
    assert min(counts.values()) > 20
    assert len(counts) == 3


def parse_statement(text: str) -> inference.Statement:
    """The statement that a sentence makes."""

    def choice(words: Iterable[str]) -> str:
        return "|".join(sorted(words, key=len, reverse=True))

    kinds = inference.NOUN_KINDS | inference.VERB_KINDS
    words = {*kinds, *(child for children in kinds.values() for child in children)}
    nouns = {form: word for word in words for form in (word, plural(word))}
    verbs = {form: word for word in words for form in (word, third_person(word))}
    names = {"all": "every", "each": "every", "at least one": "some", "not a single": "no", "not all": "not every"}
    names |= {name: name for name in inference.NEGATION}
    pattern = (
        rf"(?P<quantifier>{choice(names)}) (?:(?P<adjective>{choice(inference.ADJECTIVES)}) )?(?P<noun>\w+)"
        rf"(?: (?P<place>{choice(inference.PLACES)}))? (?P<verb>\w+)"
        rf"(?: (?P<adverb>{choice(inference.ADVERBS)}))?(?: (?P<time>{choice(inference.TIMES)}))?\."
    )
    match = re.fullmatch(pattern, text[0].lower() + text[1:])
    assert match is not None, text
    part = match.groupdict()
    return inference.Statement(
        names[part["quantifier"]],  # type: ignore[arg-type]
        inference.Restrictor(nouns[part["noun"]], part["adjective"], part["place"]),
        inference.Scope(verbs[part["verb"]], part["adverb"], part["time"]),
    )


@pytest.mark.parametrize("split", ["train", "dev_mismatched"])
def test_inference_sentences_carry_their_relation(split: str) -> None:
    for example in generate("mnli", split, 300, seed=4):
        assert example.pair is not None
        assert example.label is not None
        premise, hypothesis = parse_statement(example.text), parse_statement(example.pair)
        expected = relation_by_models(allowed_kinds(premise, hypothesis), premise.quantifier, hypothesis.quantifier)
        assert (TASKS["mnli"].labels or ())[int(example.label)] == expected, example


def test_rte_is_entailment_or_not() -> None:
    for example in generate("rte", "train", 300, seed=4):
        assert example.pair is not None
        relation = inference.relation(parse_statement(example.text), parse_statement(example.pair))
        assert (relation == "entailment") == (example.label == 0)
