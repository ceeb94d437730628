"""A kind of provider that there is not, made by docs/ADDING_A_PROVIDER.md: kind.py has its record.

It takes a list of thoughts, and answers one JSON object a line, streamed or not:

    POST /think {"to": "medium", "thoughts": [["user", "Hello!"]], "words_max": 64}

    {"mind": "t-1"}                              the call's id
    {"word": "Paris"}                            a piece of the answer
    {"end": "enough", "heard": 12, "said": 3}    how it ended, and what it took
    {"lost": "static"}                           instead of an end

Any other status has {"lost": "why"} alone. One mind remembers what it was asked: GET /memory?of=t-1, and what it was
paid: GET /days?on=2026-01-01. Nobody needs to be tested for more than `GET /mind`.
"""
