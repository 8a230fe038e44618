"""What is sold, and through which accounts (connections)."""
