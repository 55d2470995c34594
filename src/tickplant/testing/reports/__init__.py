"""What a seed gave, and what became of each fault."""
