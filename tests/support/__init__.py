"""Small verbs that the tests are told in. Nothing here asserts a claim about pyfpm but that it leaves nothing behind."""
