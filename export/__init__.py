"""Exported models: one LiteRT model per stage in a bundle, and the runtime that runs them one after another."""
