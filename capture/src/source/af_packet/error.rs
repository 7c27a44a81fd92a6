//! What can keep the agent from capturing live. Each message names the interface and what the operator can do.

use std::io;

/// A live capture that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AfPacketError {
    /// Packet sockets need a right that the process does not have.
    #[error(
        "no right to capture packets: run as root, or grant the capability with `setcap cap_net_raw+ep` or, in \
         Kubernetes, `securityContext.capabilities.add: [NET_RAW]`"
    )]
    NotPermitted,
    /// There is no such interface.
    #[error(
        "interface {interface} does not exist; `ip link` lists the interfaces, `any` captures on all of them"
    )]
    NoInterface {
        /// As configured.
        interface: String,
    },
    /// The interface was removed while captured on.
    #[error("interface {interface} was removed; start the agent again once it is back, or capture on `any`")]
    InterfaceGone {
        /// As configured.
        interface: String,
    },
    /// The name has a zero byte or more bytes than Linux allows.
    #[error("{interface:?} cannot be the name of an interface: at most 15 bytes, none of them zero")]
    InterfaceName {
        /// As configured.
        interface: String,
    },
    /// The kernel refused the ring.
    #[error(
        "interface {interface}: the kernel refuses a packet ring of {blocks} blocks of {block_bytes} bytes; set a \
         smaller `ring_bytes`, or give the container more memory"
    )]
    Ring {
        /// As configured.
        interface: String,
        /// Blocks asked for.
        blocks: u32,
        /// Bytes of each.
        block_bytes: u32,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The kernel refused to spread packets over several rings.
    #[error(
        "interface {interface}: the kernel refuses to spread packets over several rings; bring the interface up \
         before the agent starts, or set `rings` to 1"
    )]
    Fanout {
        /// As configured.
        interface: String,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// A step of the set-up or of reading failed for another reason.
    #[error("interface {interface}: {step} failed")]
    System {
        /// As configured.
        interface: String,
        /// What was being done.
        step: &'static str,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}
