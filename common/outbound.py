"""How synchronous code calls a server that the operator named. A door of this room.

Nothing of the environment's goes along: no proxy, and no .netrc in place of our key. A redirect is an answer like any
other, and followed by nobody: our key goes to the host it was saved for.
"""

import requests


class Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def session() -> requests.Session:
    made = Session()
    made.trust_env = False
    return made
