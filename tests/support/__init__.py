"""Small verbs that the tests are told in. Nothing here claims anything of pyfpm but that it leaves nothing behind."""
