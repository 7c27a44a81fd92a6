//! Whole connections through the machine.
