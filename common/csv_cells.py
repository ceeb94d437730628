"""Text in CSV files that people open with a spreadsheet. Pure."""

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


def no_formula(cell: object) -> object:
    """Spreadsheets run a text that begins with one of these signs as a formula; an apostrophe makes it text again.
    Figures, and cells that are empty, stay."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_SIGNS) else cell
