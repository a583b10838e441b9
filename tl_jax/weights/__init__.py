"""Weight files: readers that execute nothing, rules for names, and strict conversion."""
