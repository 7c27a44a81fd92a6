//! Segments to calls: streams, protocols and matching, without input or output.
