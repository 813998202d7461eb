"""Recipes: the schema, loading, overrides."""
