"""From a graph with sites to one that computes on bits."""
