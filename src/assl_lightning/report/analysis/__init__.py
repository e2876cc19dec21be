"""What several runs say together: which of them may be compared, and what their difference tells."""
