"""One SQLite file that survives the process: attempts, scores, servers and origins."""
