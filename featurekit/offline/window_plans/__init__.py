"""The plans by which windows are computed: each gives the same bits."""
