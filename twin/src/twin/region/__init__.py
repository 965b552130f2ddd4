"""Extensions to moto, one module per AWS service: what the API must say once its records have bodies."""
