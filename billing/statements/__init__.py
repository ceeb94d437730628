"""An organization's month: the statement, and its files."""
