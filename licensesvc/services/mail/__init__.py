"""Mail to buyers and operators."""
