"""Mitogen's strategy, found without the path of an installation: one interpreter on the other side for all tasks.

A bake has a hundred small tasks; by a process and a copied module each, it takes twice as long.
"""

from ansible_mitogen.plugins.strategy.mitogen_linear import StrategyModule

__all__ = ["StrategyModule"]
