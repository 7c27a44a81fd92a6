//! The dissector: segments in, calls out, one transaction a commit.
