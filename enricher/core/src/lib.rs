//! Calls to API events: identity through time, redaction and routing, without input or output.
