"""The command line: one file per group of verbs; every verb imports what it needs when it runs."""
