"""The rule that every key of a shipped recipe has a comment."""

from __future__ import annotations

import re

KEY = re.compile(r"^\s*(- )?[A-Za-z_0-9.]+:(\s|$)")


def bare_keys(text: str) -> list[str]:
    """Lines with a key and no comment. A profile's own comment, or the one above a row of profiles, speaks for it."""
    head, _, profiles = text.partition("\nprofiles:\n")
    bare = [line for line in head.splitlines() if KEY.match(line) and not line.startswith("#") and " # " not in line]
    spoken_for = False
    for line in profiles.splitlines():
        if line.startswith("  #"):
            spoken_for = True
        elif re.match(r"  \S", line) and not (spoken_for and line.rstrip().endswith("}")):
            spoken_for = False
            if " # " not in line:
                bare.append(line)
    # The short form of a term needs no comment of its own: its list has one, and `train.losses` explains the keys.
    return [line for line in bare if not line.strip().startswith("- {")]
