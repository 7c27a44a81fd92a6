//! Unit tests of content codings.
