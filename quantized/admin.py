"""Where Django's admin finds the operator's pages."""

from quantized.operator import books, catalog, money, organizations, payments, people

__all__ = ["books", "catalog", "money", "organizations", "payments", "people"]
