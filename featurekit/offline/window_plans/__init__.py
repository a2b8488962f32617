"""The plans that compute windows, one per file; all give the same bits, and `choose` picks one."""
