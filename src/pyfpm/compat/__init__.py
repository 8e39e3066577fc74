"""Other servers' interfaces over pyfpm's own rooms, for programs that were written for them."""
