"""What the documents show and say."""
