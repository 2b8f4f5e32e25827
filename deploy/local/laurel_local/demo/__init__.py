"""`laurel demo`: a course's results on their way from a file to verifiable badges."""
