"""Rules with a dial: networks trained once whose strength of a rule is chosen when they are used."""

from __future__ import annotations
