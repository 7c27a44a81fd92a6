//! What can be wrong with a capture file. Each message names the place and what the user can do about it.

use std::{fmt, io, path::PathBuf};

/// A place in a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Bytes from the start of the capture, after decompression.
    pub bytes: u64,
    /// Whether the file is compressed, so that the bytes are not those of the file itself.
    pub decompressed: bool,
}

impl fmt::Display for Offset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "byte {}", self.bytes)?;
        if self.decompressed { formatter.write_str(" of the decompressed data") } else { Ok(()) }
    }
}

/// A capture that cannot be read, or not to its end. All packets before the place have been handed out.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// The file cannot be opened.
    #[error("{} cannot be opened; check the path and its permissions", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The system, or the decompressor, refused to read on.
    #[error("{at}: reading failed; the packets before it were read")]
    Read {
        /// Where.
        at: Offset,
        /// What the system or the decompressor says.
        #[source]
        cause: io::Error,
    },
    /// A gzip stream without its end.
    #[error("{at}: the compressed file ends early; the packets before it were read; copy the file again")]
    CompressedTruncated {
        /// Where the data ends.
        at: Offset,
    },
    /// There is not one byte.
    #[error(
        "the file is empty, without even a file header; capture again, and check the disk that it was written to"
    )]
    Empty,
    /// The file ends inside its first header.
    #[error(
        "the file has only {length} bytes, too few for a pcap or pcapng header; capture or copy it again"
    )]
    ShortHeader {
        /// Bytes there are.
        length: usize,
    },
    /// The first bytes belong to no format that can be read.
    #[error(
        "not a capture file: it starts with {} where pcap or pcapng have their magic number; \
         other capture formats can be converted with `editcap -F pcapng IN OUT`",
        Hex(*first)
    )]
    UnknownFormat {
        /// The first four bytes.
        first: [u8; 4],
    },
    /// Compressed, but not with gzip.
    #[error(
        "the file is compressed with {format}; decompress it first: `{command} FILE | wirecall replay -`"
    )]
    Compressed {
        /// Name of the format.
        format: &'static str,
        /// Command that decompresses to standard output.
        command: &'static str,
    },
    /// A version of the format that nobody can read reliably.
    #[error(
        "{at}: {format} version {major}.{minor} is not supported; convert the file with `editcap -F pcapng IN OUT`"
    )]
    Version {
        /// Where.
        at: Offset,
        /// `pcap` or `pcapng`.
        format: &'static str,
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// The capture ends inside a record.
    #[error(
        "{at}: the file ends inside a record: it needs {needed} bytes, {available} are there; the packets before it \
         were read; copy the file again, or stop its writer before reading"
    )]
    Truncated {
        /// Start of the record.
        at: Offset,
        /// Bytes of the record.
        needed: u64,
        /// Bytes before the end.
        available: u64,
    },
    /// A record claims a length that no writer produces.
    #[error(
        "{at}: a record claims {claimed} bytes, outside {minimum}..={maximum}; the file is damaged from here on; the \
         packets before it were read"
    )]
    RecordLength {
        /// Start of the record.
        at: Offset,
        /// Claimed length.
        claimed: u32,
        /// Least possible length.
        minimum: u32,
        /// Greatest accepted length.
        maximum: u32,
    },
    /// The length before and the length after a pcapng block differ.
    #[error(
        "{at}: a block has the length {leading} at its start and {trailing} at its end; the file is damaged from here \
         on; the packets before it were read"
    )]
    BlockTrailer {
        /// Start of the block.
        at: Offset,
        /// Length before.
        leading: u32,
        /// Length after.
        trailing: u32,
    },
    /// A section header without a byte-order magic.
    #[error("{at}: the section header has no byte-order magic; the file is damaged from here on")]
    ByteOrder {
        /// Start of the block.
        at: Offset,
    },
    /// A packet block names an interface that its section does not describe.
    #[error(
        "{at}: a packet belongs to interface {interface} but the section describes {known}; the file is damaged from \
         here on; the packets before it were read"
    )]
    UnknownInterface {
        /// Start of the block.
        at: Offset,
        /// Interface it names.
        interface: u32,
        /// Interfaces of the section.
        known: usize,
    },
    /// Every packet of the capture has a link-layer header that cannot be read.
    #[error(
        "{at}: the capture was read to its end, but its {packets} packets have link type {link_type}, which cannot be \
         read; capture on an Ethernet, cooked or IP interface"
    )]
    UnknownLinkType {
        /// The end of the capture.
        at: Offset,
        /// Link type of the first interface, as <https://www.tcpdump.org/linktypes.html> numbers them.
        link_type: u32,
        /// Packets there are.
        packets: u64,
    },
    /// More interfaces than the reader keeps.
    #[error("{at}: the file describes more than {limit} interfaces; split it by section and read the parts")]
    TooManyInterfaces {
        /// Start of the block.
        at: Offset,
        /// The limit.
        limit: usize,
    },
}

/// Four bytes as hex digits.
struct Hex([u8; 4]);

impl fmt::Display for Hex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}
