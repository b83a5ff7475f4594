"""The collective variables of this package, one kind per file; ``observables`` knows them by name."""
