//! Facts about a connection that every record repeats: its ends, and how and where it was observed.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytestring::ByteString;
use serde::{Deserialize, Serialize, Serializer};

use crate::positional::positional;

/// One end of a connection as the packets show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct Endpoint {
    /// IP address; text in every encoding.
    #[serde(deserialize_with = "address_text::deserialize")]
    pub address: IpAddr,
    /// Port number; 0 where the transport has none.
    #[serde(deserialize_with = "port_int::deserialize")]
    pub port: u16,
}

positional!(Endpoint {
    address via AddressText,
    port via PortInt,
});

/// Avro has no unsigned 16-bit integer; the wire type is `int`.
pub(crate) struct PortInt<'p>(pub(crate) &'p u16);

impl Serialize for PortInt<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(i32::from(*self.0))
    }
}

pub(crate) mod port_int {
    use serde::{Deserialize, Deserializer, de};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
        let port = i32::deserialize(deserializer)?;
        u16::try_from(port).map_err(|_| de::Error::custom(format!("port {port} is out of range")))
    }
}

/// An address is text in Avro too: SIEMs match on it, and it costs a few bytes a record.
pub(crate) struct AddressText<'a>(pub(crate) &'a IpAddr);

impl Serialize for AddressText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Text { bytes: [0; 48], length: 0 };
        write!(text, "{}", self.0).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(std::str::from_utf8(&text.bytes[..text.length]).unwrap_or_default())
    }
}

/// A small buffer on the stack: the longest address has 45 characters (RFC 4291 section 2.2).
struct Text {
    bytes: [u8; 48],
    length: usize,
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        let end = self.length + part.len();
        self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(part.as_bytes());
        self.length = end;
        Ok(())
    }
}

pub(crate) mod address_text {
    use std::net::IpAddr;

    use serde::{Deserialize, Deserializer, de};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::custom(format!("not an IP address: {text}")))
    }
}

/// Transport protocol of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Not known.
    #[default]
    Unknown,
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

/// The place a connection was observed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VantageKind {
    /// Not known.
    #[default]
    Unknown,
    /// The client's node.
    Client,
    /// The server's node.
    Server,
    /// A node that holds both ends.
    Both,
}

/// How bytes were captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMethod {
    /// Not known.
    #[default]
    Unknown,
    /// A capture file.
    Pcap,
    /// An AF_PACKET ring.
    AfPacket,
    /// eBPF programs on sockets.
    Ebpf,
    /// Plaintext at OpenSSL's read and write.
    TlsOpenssl,
    /// Plaintext at Go's crypto/tls.
    TlsGo,
}

/// How the client and the server of a connection were told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Orientation {
    /// Not at all.
    #[default]
    Unknown,
    /// The client sent the SYN.
    Syn,
    /// The server sent the SYN-ACK.
    SynAck,
    /// By a later packet of the handshake.
    Handshake,
    /// One port is a well-known service port, the other is not.
    Port,
    /// The sender of the first packet is taken for the client.
    FirstPacket,
}

impl Orientation {
    /// True when no packet of the handshake decided.
    pub const fn is_guess(self) -> bool {
        matches!(self, Self::Unknown | Self::Port | Self::FirstPacket)
    }
}

/// The local process that owns a socket, where the capture method knows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Process {
    /// Process id in the host's namespace.
    pub pid: i32,
    /// Command name.
    pub name: Option<ByteString>,
    /// Cgroup v2 id.
    pub cgroup_id: Option<i64>,
    /// Container id without its runtime prefix.
    pub container_id: Option<ByteString>,
}

positional!(Process { pid, name, cgroup_id, container_id });
