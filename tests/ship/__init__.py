"""What is shipped, checked by the tools that will read it."""
