//! Packets to segments: headers, flows and reassembly, without input or output.
