//! Each header, and every cut of it.
