"""Force fields by name, and their errors in the mean force."""
