"""Counts the words of a text."""

import collections


def handler(event, context):
    words = collections.Counter(event.get("text", "").lower().split())
    return {"words": sum(words.values()), "most": words.most_common(3)}
