"""Tasks, one folder each; installed as `bnnapps.plugins`."""
