"""Molecular dynamics by name: one run, its replicas, a second stage, replica exchange."""
