"""Contract tests for those who add a backbone or an aggregator."""
