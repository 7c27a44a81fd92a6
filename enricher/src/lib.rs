//! The enricher: calls in, API events out, and the identity watcher.
