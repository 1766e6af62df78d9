"""Headgate: from the model registry to live traffic, through a gate."""
