"""What QuIP is used for: search in a library, tagging, similarity, classification, scores."""
