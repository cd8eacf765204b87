"""Exchange rules as configuration: a typed rule book in TOML, compiled to the plan that the loop follows."""

from replay.rules.compile import compile_rules
from replay.rules.load import RuleFile, list_rules, load_file, load_rules
from replay.rules.model import RuleBook
from replay.rules.plan import BookOrder, Deleverage, Plan, Takeover

__all__ = [
    "BookOrder",
    "Deleverage",
    "Plan",
    "RuleBook",
    "RuleFile",
    "Takeover",
    "compile_rules",
    "list_rules",
    "load_file",
    "load_rules",
]
