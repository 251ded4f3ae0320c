"""Parsers of what strangers send, under coverage-guided fuzzing (atheris, which is libFuzzer)."""
