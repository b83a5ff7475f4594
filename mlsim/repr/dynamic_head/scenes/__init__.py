"""Images with exact boxes: free-energy surfaces and contact maps."""
