"""A monthly statement as a PDF: A4 pages of a summary and a table. The same statement is the same bytes."""

from datetime import datetime
from pathlib import Path

import msgspec
from fpdf import FPDF
from fpdf.enums import MethodReturnValue, XPos, YPos

from billing.statements.monthly import Line, Statement
from common.numbers import fixed_credits

FONTS = Path(__file__).parent / "fonts"
FAMILY = "DejaVu"

INK = (26, 31, 54)
MUTED = (105, 115, 134)
RULE = (227, 232, 238)
SHADE = (247, 250, 252)
MARGIN_MM = 18
LINE_MM = 5.2
TEXT_MM = 4.2  # a line within a table's row
PADDING_MM = 2.0  # of a row, above and below together
LINES_MAX = 3  # of a row; the CSV has all of it

TITLES = {
    "purchase": "Purchases",
    "grant": "Grants",
    "usage": "Usage",
    "correction": "Corrections",
    "refund": "Refunds",
    "expiry": "Expired credits",
    "adjustment": "Adjustments",
}
SINGULAR = {
    "purchase": "Purchase",
    "grant": "Grant",
    "correction": "Correction",
    "refund": "Refund",
    "expiry": "Expired",
    "adjustment": "Adjustment",
}


class Column(msgspec.Struct, frozen=True):
    title: str
    width_mm: float
    align: str


COLUMNS = (
    Column("Date", 22, "L"),
    Column("Description", 70, "L"),
    Column("Calls", 18, "R"),
    Column("Credits", 32, "R"),
    Column("Balance", 32, "R"),
)
MODEL_COLUMNS = (Column("Model", 90, "L"), Column("Calls", 40, "R"), Column("Credits", 44, "R"))


def as_pdf(of: Statement, issuer: list[str]) -> bytes:
    pdf = Page(of, issuer[0])
    letterhead(pdf, of, issuer)
    summary(pdf, of)
    if of.models:
        table(pdf, "Usage by model", MODEL_COLUMNS, [[m.model, f"{m.calls:,}", grouped(m.amount)] for m in of.models])
    movements = [["", "Opening balance", "", "", grouped(of.opening)], *map(movement, of.lines)]
    movements.append(["", "Closing balance" if of.is_final else "Balance to date", "", "", grouped(of.closing)])
    table(pdf, "All movements", COLUMNS, movements, strong_ends=True)
    return bytes(pdf.output())


class Page(FPDF):
    """A4 with a footer of issuer, organization and page number."""

    def __init__(self, of: Statement, issuer: str) -> None:
        super().__init__(orientation="portrait", unit="mm", format="A4")
        self.footer_text = f"{issuer} · {of.organization_name} · {of.month}"
        self.add_font(FAMILY, "", FONTS / "DejaVuSans.ttf")
        self.add_font(FAMILY, "B", FONTS / "DejaVuSans-Bold.ttf")
        self.set_margins(MARGIN_MM, MARGIN_MM)
        self.set_auto_page_break(True, margin=MARGIN_MM + 4)
        self.set_creation_date(of.through)  # not the clock's: the same statement is the same file
        self.set_title(f"Statement {of.month}, {of.organization_name}")
        self.set_author(issuer)
        self.set_lang("en")
        self.alias_nb_pages()
        self.add_page()

    def footer(self) -> None:
        self.set_y(-MARGIN_MM)
        self.style(7.5, MUTED)
        self.cell(34, LINE_MM, f"Page {self.page_no()} of {{nb}}")
        width_mm = self.epw - 34
        self.cell(width_mm, LINE_MM, fitted(self, self.footer_text, width_mm), align="R")

    def style(self, size: float, color: tuple[int, int, int] = INK, *, bold: bool = False) -> None:
        self.set_font(FAMILY, "B" if bold else "", size)  # type: ignore[arg-type]  # halves of a point are fine
        self.set_text_color(*color)

    def line_of_text(self, text: str, *, align: str = "L") -> None:
        shown = fitted(self, text, self.epw)
        self.cell(0, LINE_MM, shown, align=align, new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def rule(self) -> None:
        self.set_draw_color(*RULE)
        self.set_line_width(0.2)
        self.line(self.l_margin, self.get_y(), self.w - self.r_margin, self.get_y())


def letterhead(pdf: Page, of: Statement, issuer: list[str]) -> None:
    pdf.style(20, bold=True)
    pdf.cell(0, 9, "Statement", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.style(10, MUTED)
    pdf.line_of_text(f"{of.start:%B %Y}" if of.is_final else f"{of.start:%B %Y}, to date")
    pdf.ln(6)
    top = pdf.get_y()
    column_mm = pdf.epw / 2 - 4
    ends = [
        block(pdf, pdf.l_margin, top, column_mm, "From", issuer),
        block(pdf, pdf.l_margin + pdf.epw / 2, top, column_mm, "For", [of.organization_name, str(of.organization_id)]),
    ]
    pdf.set_xy(pdf.l_margin, max(ends) + 6)


def block(pdf: Page, x: float, y: float, width_mm: float, title: str, lines: list[str]) -> float:
    pdf.set_xy(x, y)
    pdf.style(8, MUTED)
    pdf.cell(width_mm, LINE_MM, title)
    for number, line in enumerate(lines):
        pdf.style(9.5 if number == 0 else 8.5, INK if number == 0 else MUTED, bold=number == 0)
        pdf.set_xy(x, y + LINE_MM * (number + 1))
        pdf.cell(width_mm, LINE_MM, fitted(pdf, line, width_mm))
    return y + LINE_MM * (len(lines) + 1)


def summary(pdf: Page, of: Statement) -> None:
    pdf.rule()
    pdf.ln(3)
    amount(pdf, f"Opening balance, {moment(of.start)}", of.opening)
    for kind, total in of.totals.items():
        if any(line.kind == kind for line in of.lines):
            amount(pdf, TITLES[kind], total)
    pdf.ln(1.5)
    pdf.rule()
    pdf.ln(1.5)
    title = "Closing balance" if of.is_final else "Balance"
    amount(pdf, f"{title}, {moment(of.through)}", of.closing, bold=True)
    pdf.ln(1)
    pdf.style(7.5, MUTED)
    pdf.line_of_text("Amounts are credits. Months, days and times are UTC's.")
    pdf.ln(5)


def amount(pdf: Page, title: str, micro: int, *, bold: bool = False) -> None:
    pdf.style(9.5, INK, bold=bold)
    pdf.cell(pdf.epw - 50, 6, title)
    pdf.cell(50, 6, grouped(micro), align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def table(
    pdf: Page, title: str, columns: tuple[Column, ...], rows: list[list[str]], *, strong_ends: bool = False
) -> None:
    """A page break repeats the titles, and splits no row. The table's own title never stands alone at a page's foot."""
    if pdf.will_page_break(8 + 5 * LINE_MM):
        pdf.add_page()
    pdf.style(11, bold=True)
    pdf.cell(0, 8, title, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    titles(pdf, columns)
    for number, row in enumerate(rows):
        pdf.style(8, INK, bold=strong_ends and number in (0, len(rows) - 1))
        wrapped = [lines_of(pdf, column, text) for column, text in zip(columns, row, strict=True)]
        height_mm = TEXT_MM * max(map(len, wrapped)) + PADDING_MM
        if pdf.will_page_break(height_mm):
            pdf.add_page()
            titles(pdf, columns)
            pdf.style(8, INK, bold=strong_ends and number == len(rows) - 1)
        cells(pdf, columns, wrapped, height_mm)
    pdf.ln(6)


def titles(pdf: Page, columns: tuple[Column, ...]) -> None:
    pdf.style(7.5, MUTED)
    pdf.set_fill_color(*SHADE)
    pdf.rect(pdf.l_margin, pdf.get_y(), pdf.epw, TEXT_MM + PADDING_MM, style="F")
    cells(pdf, columns, [[column.title] for column in columns], TEXT_MM + PADDING_MM)


def lines_of(pdf: Page, column: Column, text: str) -> list[str]:
    """Text is wrapped; a number is one line, whatever its length."""
    if column.align == "R" or not text:
        return [text]
    found = pdf.multi_cell(column.width_mm, TEXT_MM, text, dry_run=True, output=MethodReturnValue.LINES)
    assert isinstance(found, list)
    return [str(line) for line in found[:LINES_MAX]]


def cells(pdf: Page, columns: tuple[Column, ...], row: list[list[str]], height_mm: float) -> None:
    left, top = pdf.l_margin, pdf.get_y()
    for column, lines in zip(columns, row, strict=True):
        for number, line in enumerate(lines):
            pdf.set_xy(left, top + PADDING_MM / 2 + number * TEXT_MM)
            narrowed(pdf, column, line)
        left += column.width_mm
    pdf.set_xy(pdf.l_margin, top + height_mm)
    pdf.rule()


def narrowed(pdf: Page, column: Column, text: str) -> None:
    """An amount that is too long is set narrower: of money no digit is left out."""
    room_mm = column.width_mm - 2 * pdf.c_margin
    pdf.set_stretching(min(100, 100 * room_mm / max(pdf.get_string_width(text), 0.001)))
    pdf.cell(column.width_mm, TEXT_MM, text, align=column.align)
    pdf.set_stretching(100)


def movement(line: Line) -> list[str]:
    calls = f"{line.calls:,}" if line.calls else ""
    return [line.day.isoformat(), described(line), calls, grouped(line.amount), grouped(line.balance_after)]


def described(line: Line) -> str:
    if line.kind == "usage":
        return line.model
    return f"{SINGULAR[line.kind]}: {line.reason}" if line.reason else SINGULAR[line.kind]


def fitted(pdf: FPDF, text: str, width_mm: float) -> str:
    """The text, or as much of its beginning as fits, with an ellipsis. The CSV has all of it."""
    room_mm = width_mm - 2 * pdf.c_margin
    if pdf.get_string_width(text) <= room_mm:
        return text
    while text and pdf.get_string_width(f"{text}…") > room_mm:
        text = text[:-1]
    return f"{text}…"


def grouped(micro: int) -> str:
    """`-1,234.567890`, exact, with the sign that typographers use."""
    whole, decimals = fixed_credits(abs(micro)).split(".")
    return f"{'−' if micro < 0 else ''}{int(whole):,}.{decimals}"


def moment(at: datetime) -> str:
    return f"{at.day} {at:%B %Y, %H:%M}"
