"""Rules by regular expression for the kinds of bundled texts, written by hand and not tuned.

One holds from the token on at which it first matches the text so far.
"""

import re

RULES = {
    "conversational": r"\b(I'm|you're|don't|can't|yeah|okay|hey|hi|thanks|please|well,|oh)\b|\?",
    "formal": (
        r"(?i)\b(hereby|herein|shall|pursuant|whereas|thereof|licen[cs]e|committee|president|"
        r"parliament|report|agreement|accordance)\b"
    ),
    "math": (
        r"\\frac|\\sum|\\int|[=≤≥∑∫√π∈]|\d\s*[-+*/^]\s*\d|"
        r"(?i:\b(theorem|proof|equation|integer|prime|derivative|matrix)\b)"
    ),
    "non_english": (
        r"[^\W\d_a-zA-Z]|"
        r"(?i:\b(der|die|und|ist|le|les|des|est|el|los|una|che|il|het)\b)"
    ),
    "python": (
        r"^(def|import|from|class|for|if|with|@\w+) ?|"
        r"\b(self|lambda|elif|None|True|return)\b|\w\(\w*\)"
    ),
    "social": r"#\w|@\w|[\U0001F300-\U0001FAFF☀-➿]|(?i:\b(lol|omg|tbh|ngl|rt)\b)",
    "urls": r"(?i)https?:|www\.|\w\.(com|org|net|io|de)\b|\w/\w+/",
}


def first_match(rule: str, prefixes: list[str]) -> int:
    """The first of ever longer beginnings of a text that a rule matches; their number if none."""
    found = (n for n, prefix in enumerate(prefixes) if re.search(rule, prefix, re.MULTILINE))
    return next(found, len(prefixes))
