"""Clouds of points: classes, parts and scenes, with BiPointNet and others."""
