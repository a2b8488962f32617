"""The statuses of a value, and the instants that stand for never and for ever."""

from __future__ import annotations

NEVER = -(2**63)
NEVER_VISIBLE = 2**63 - 1
NOT_FOUND, PRESENT, NULL_VALUE = "NOT_FOUND", "PRESENT", "NULL_VALUE"
OUTSIDE_MAX_AGE, ERROR_STATUS = "OUTSIDE_MAX_AGE", "ERROR"
DAMAGED, DEFAULT = "DAMAGED", "DEFAULT"
STATUSES = (PRESENT, NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE, ERROR_STATUS, DAMAGED, DEFAULT)
FORGOTTEN = "FORGOTTEN"
"""The status of a value that `forget` took out of the serving log; nothing else has it."""
LOGGED_STATUSES = (*STATUSES, FORGOTTEN)
"""The serving log writes a status as its place here, so a new one comes last."""
NOT_YET = "NOT_YET"
"""The status of a label that cannot be known yet (T10). It is of training sets alone: no lookup has
it, and no serving log."""
FOREVER = 2**63 - 1
"""The end of an event that no correction or deletion has ended."""
