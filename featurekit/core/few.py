"""Says of how few entities a value is too telling to be shown in a profile."""

from __future__ import annotations

LEAST_ENTITIES = 11
"""A value stands in a profile where at least so many entities have it: the least size of a cell
that the US Centers for Medicare & Medicaid Services let be published, whose policy hides 1 to 10
(https://resdac.org/articles/cms-cell-size-suppression-policy)."""
