"""PTX, one op a file, and the record beside each."""
