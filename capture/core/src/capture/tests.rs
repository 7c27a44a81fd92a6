//! Whole connections through the machine.

mod handshake;
mod limits;
mod property;
mod streams;
mod time;
