"""How synchronous code calls a server that the operator named. A door of this room.

Nothing of the environment's goes along: no proxy, and no .netrc in place of our key. A redirect is an error, or an
answer like any other where it is not followed at all.
"""

import requests


def session() -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    made.max_redirects = 0
    return made
