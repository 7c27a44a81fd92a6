//! Unit tests of the head grammar.
