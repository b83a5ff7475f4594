"""Engines: how one, several or held copies of a molecule move."""
