"""Bodies of answers that were sent before: one folder of files, shared by the workers of one machine. Knows no Git."""
