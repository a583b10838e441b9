"""Everything that only a CPU needs: oneDNN, a program for each core, the heap."""
