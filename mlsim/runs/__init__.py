"""What a run leaves: record, checkpoint, append-only outputs, and how they are read again."""
