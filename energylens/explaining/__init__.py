"""Features explained in words by a language model, and anybody's explanations judged by one.

Knows no storage and no torch: excerpts come in, words and scores go out.
"""
