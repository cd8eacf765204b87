"""The arithmetic of liquidation as exchanges publish it: scalars in, exact fractions out.

Every function is one rule, named after the axis value that chooses it, and takes whole numbers and
fractions in whatever unit the caller keeps (all money of a call in one currency, sizes in units of the
underlying or in contracts, rates as shares: 1 % is ``Fraction(1, 100)``). Nothing is rounded unless the rule
says so. The compiled loop computes the same rules on integers in bulk; tests hold the two together.

Signs: ``size`` and money are signed from the account's point of view, a long is positive, a short negative; a
``quote`` is the cash an account receives (positive) or pays (negative) for a change of its position.
"""
