"""The outside tools: found, started, watched, and quoted where they fail."""
