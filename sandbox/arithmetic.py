"""Sums in words people use: `2+2`, `3 x (4 - 1)`. Exact, and bounded."""

import ast
import re
from fractions import Fraction

_LENGTH_MAX = 120
_DEPTH_MAX = 30
_DECIMALS = 6
_EXPRESSION = re.compile(r"[\d\s.()+*/x×÷-]*\d[\d\s.()+*/x×÷-]*")
_SIGNS = str.maketrans({"x": "*", "×": "*", "÷": "/"})


def solve(text: str) -> tuple[str, Fraction | None] | None:
    """(the sum as written, its value or None if it has none); None if the text is no sum."""
    text = text.strip()
    if len(text) > _LENGTH_MAX or not _EXPRESSION.fullmatch(text):
        return None
    try:
        tree = ast.parse(text.translate(_SIGNS), mode="eval").body
        return (_spaced(text), _evaluate(tree, 0)) if isinstance(tree, ast.BinOp) else None
    except ZeroDivisionError:
        return _spaced(text), None
    except (SyntaxError, ValueError):
        return None


def written(number: Fraction) -> str:
    """A whole number as such, another with at most six decimals."""
    if number.denominator == 1:
        return str(number.numerator)
    return f"{float(number):.{_DECIMALS}f}".rstrip("0").rstrip(".")


def _spaced(text: str) -> str:
    return re.sub(r"\s*(?<=[\d)\s])([+*/x×÷-])\s*", r" \1 ", text)


def _evaluate(node: ast.expr, depth: int) -> Fraction:
    if depth > _DEPTH_MAX:
        raise ValueError("nested too deeply")
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand, depth + 1)
    if isinstance(node, ast.BinOp):
        return _combine(node.op, _evaluate(node.left, depth + 1), _evaluate(node.right, depth + 1))
    raise ValueError("not a sum")


def _combine(operator: ast.operator, left: Fraction, right: Fraction) -> Fraction:
    if isinstance(operator, ast.Add):
        return left + right
    if isinstance(operator, ast.Sub):
        return left - right
    if isinstance(operator, ast.Mult):
        return left * right
    if isinstance(operator, ast.Div):
        return left / right
    raise ValueError("powers and other operators are not offered")
