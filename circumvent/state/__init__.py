"""One SQLite file that outlives the process: attempts, scores, servers and origins."""
