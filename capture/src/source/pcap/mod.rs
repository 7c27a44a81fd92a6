//! Capture files: pcap and pcapng, plain or compressed with gzip, from a path or from standard input.
//!
//! Written for this project instead of taken from a library for three reasons: a record is handed out where it lies in
//! one large buffer, which makes reading as fast as the memory; every error carries its byte offset; and big-endian
//! time offsets come out right.

mod byte_order;
mod classic;
mod error;
mod next_generation;
mod window;

use std::{
    fs::File,
    io::{self, Cursor, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::read::MultiGzDecoder;
use wirecall_schemas::Timestamp;

pub use self::error::{Offset, PcapError};
use self::{
    classic::{Classic, FILE_HEADER},
    next_generation::{NextGeneration, SECTION_HEADER},
    window::Window,
};
use super::{Interface, LinkType, Packet};

/// Reads the packets of one capture in bounded memory, whatever its size.
///
/// [`Reader::next_packet`] gives `None` only when the whole capture was read; an error means that packets are missing.
pub struct Reader {
    window: Window,
    format: Format,
    interfaces: Vec<Interface>,
    /// Nothing more is to come, be it for an error or for the end.
    ended: bool,
    packets: u64,
    input_read: Arc<AtomicU64>,
    input_length: Option<u64>,
}

/// The two formats.
enum Format {
    Classic(Classic),
    NextGeneration(NextGeneration),
}

/// A packet record that lies in the window, behind `header` bytes and before `rest` bytes.
struct Record {
    time: Timestamp,
    header: usize,
    captured: usize,
    rest: usize,
    original_length: u32,
    interface: usize,
}

impl Reader {
    /// Opens a capture file; `-` is standard input.
    ///
    /// # Errors
    /// When the file cannot be opened, or does not start like a capture.
    pub fn open(path: &Path) -> Result<Self, PcapError> {
        if path.as_os_str() == "-" {
            return Self::new(io::stdin());
        }
        let open_error = |cause| PcapError::Open { path: path.to_owned(), cause };
        let file = File::open(path).map_err(open_error)?;
        let metadata = file.metadata().map_err(open_error)?;
        let mut reader = Self::new(file)?;
        reader.input_length = metadata.is_file().then_some(metadata.len());
        Ok(reader)
    }

    /// Reads a capture from any input.
    ///
    /// # Errors
    /// When the input cannot be read, or does not start like a capture.
    pub fn new(input: impl Read + Send + 'static) -> Result<Self, PcapError> {
        let input_read = Arc::new(AtomicU64::new(0));
        let mut input = Counting { input, read: Arc::clone(&input_read) };
        let (first, length) = first_bytes(&mut input)?;
        let input = Cursor::new(first).take(length as u64).chain(input);
        let mut window = match first {
            [0x1f, 0x8b, ..] if length >= 2 => Window::new(Box::new(MultiGzDecoder::new(input)), true),
            _ => Window::new(Box::new(input), false),
        };
        let (format, interfaces) = start(&mut window)?;
        Ok(Self { window, format, interfaces, ended: false, packets: 0, input_read, input_length: None })
    }

    /// The next packet, or `None` after the last.
    ///
    /// # Errors
    /// Names what is wrong with the capture and where. Nothing can be read after an error: later calls give `None`.
    #[inline]
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, PcapError> {
        if self.ended {
            return Ok(None);
        }
        let record = match &mut self.format {
            Format::Classic(classic) => classic.next(&mut self.window),
            Format::NextGeneration(sections) => sections.next(&mut self.window, &mut self.interfaces),
        };
        self.ended = record.is_err();
        let Some(record) = record? else {
            self.ended = true;
            return self.check_link_types().map(|()| None);
        };
        self.packets += 1;
        let interface = self.interfaces.get(record.interface);
        Ok(Some(Packet {
            time: record.time,
            link_type: interface.map_or(LinkType(u32::MAX), |interface| interface.link_type),
            vlan: None,
            data: self.window.take(record.header, record.captured, record.rest),
            original_length: record.original_length,
            interface: interface.and_then(|interface| interface.name.as_ref()),
        }))
    }

    /// A capture of which not one packet can be read is an error, though each packet was handed out and counted.
    fn check_link_types(&self) -> Result<(), PcapError> {
        if self.packets == 0 || self.interfaces.iter().any(|interface| interface.link_type.is_known()) {
            return Ok(());
        }
        let link_type = self.interfaces.first().map_or(0, |interface| interface.link_type.0);
        Err(PcapError::UnknownLinkType { at: self.offset(), link_type, packets: self.packets })
    }

    /// The interfaces met so far; grows while a pcapng capture is read.
    #[must_use]
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Where the next record starts.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        self.window.offset()
    }

    /// Bytes read from the file, before decompression; for progress.
    #[must_use]
    pub fn input_read(&self) -> u64 {
        self.input_read.load(Ordering::Relaxed)
    }

    /// Bytes of the file, where it is a regular one.
    #[must_use]
    pub const fn input_length(&self) -> Option<u64> {
        self.input_length
    }
}

/// Finds the format and reads the file header.
fn start(window: &mut Window) -> Result<(Format, Vec<Interface>), PcapError> {
    if !window.has(4)? {
        let length = window.available();
        return Err(if length == 0 { PcapError::Empty } else { PcapError::ShortHeader { length } });
    }
    let first = window.bytes().first_chunk().copied().unwrap_or_default();
    if u32::from_le_bytes(first) == SECTION_HEADER {
        return Ok((Format::NextGeneration(NextGeneration::start()), Vec::new()));
    }
    let Some(variant) = Classic::detect(first) else { return Err(unknown_format(first)) };
    if !window.has(FILE_HEADER)? {
        return Err(PcapError::ShortHeader { length: window.available() });
    }
    let (classic, interface) = Classic::start(window, variant)?;
    Ok((Format::Classic(classic), vec![interface]))
}

fn unknown_format(first: [u8; 4]) -> PcapError {
    let (format, command) = match first {
        [0x28, 0xb5, 0x2f, 0xfd] => ("zstd", "zstd -dc"),
        [0x04, 0x22, 0x4d, 0x18] => ("lz4", "lz4 -dc"),
        [0xfd, b'7', b'z', b'X'] => ("xz", "xz -dc"),
        [b'B', b'Z', b'h', _] => ("bzip2", "bzip2 -dc"),
        [b'P', b'K', 3, 4] => ("zip", "unzip -p"),
        _ => return PcapError::UnknownFormat { first },
    };
    PcapError::Compressed { format, command }
}

/// The first bytes of the input, as many as there are of four.
fn first_bytes(input: &mut impl Read) -> Result<([u8; 4], usize), PcapError> {
    let (mut first, mut length) = ([0; 4], 0);
    while length < first.len() {
        match input.read(&mut first[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => {
                return Err(PcapError::Read { at: Offset { bytes: 0, decompressed: false }, cause });
            }
        }
    }
    Ok((first, length))
}

/// Counts the bytes that pass.
struct Counting<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
