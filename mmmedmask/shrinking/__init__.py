"""Make any config small enough for a test, a smoke run or a check."""
