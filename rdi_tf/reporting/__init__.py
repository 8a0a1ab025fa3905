"""Runs as pages, tables and plots."""
