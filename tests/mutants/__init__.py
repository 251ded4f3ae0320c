"""Do the unit tests bite? Each of a sample of small faults is given to the tests of its module."""
