"""The modes of a parity check, a file each."""
