"""The plans by which windows are computed, one a file: each gives the same bits. `choose` picks."""
