"""The recipes that come with the package: `bnnapps run NAME`."""
