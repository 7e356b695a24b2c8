"""What is installed, and what users may import."""
