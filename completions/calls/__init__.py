"""A call from its hold to its settlement: the story, and what every call of a process shares."""
