"""What was done: results folders, their settings, results and logs."""
