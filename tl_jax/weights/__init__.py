"""Weight files in: readers that execute nothing, name tables, strict merge."""
