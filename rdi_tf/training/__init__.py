"""Runs: iterations that survive, what is written down when, schedules, weight averages."""
