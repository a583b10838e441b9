"""How well what a base has learned serves a task: scores, similarity, layers put on trial."""
