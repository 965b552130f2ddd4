"""Control loops: each brings the bodies of one kind in line with the API records, and the records with the bodies."""
