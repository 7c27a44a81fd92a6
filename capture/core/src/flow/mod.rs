//! Who talks to whom: keys, the table of connections, their identity, and what time does to them.

pub(crate) mod clock;
pub(crate) mod ended;
pub(crate) mod identity;
pub(crate) mod key;
pub(crate) mod orientation;
pub(crate) mod table;
pub(crate) mod tcp;
pub(crate) mod timers;
pub(crate) mod udp;
