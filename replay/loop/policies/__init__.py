"""Policies of deleveraging: who of the winners is closed, and for how much.

A policy is a function ``f(need, winners) -> lots``: how many whole lots are needed, the candidates as arrays,
and an array of lots back, one per candidate. It never closes more than is needed or more than a candidate
has; what it leaves although somebody still has something is its rule, and is reported. Scores are floating
point for order only; lots are exact integers, and parts always sum to the whole.
"""
