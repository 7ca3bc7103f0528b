"""Put this folder on the path: tests below share its tiny runs."""
