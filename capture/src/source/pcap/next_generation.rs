//! The pcapng format: sections of blocks, each block with its type, its length before and its length after.
//!
//! ```text
//! block   type 4 | length 4 | body … padded to 4 | length 4
//! section header      0x0a0d0d0a   byte-order magic 4 | major 2 | minor 2 | section length 8 | options
//! interface           1            link type 2 | reserved 2 | snapshot length 4 | options
//! obsolete packet     2            interface 2 | drops 2 | time 8 | captured 4 | original 4 | packet | options
//! simple packet       3            original 4 | packet
//! enhanced packet     6            interface 4 | time 8 | captured 4 | original 4 | packet | options
//! ```

use bytestring::ByteString;
use wirecall_schemas::Timestamp;

use super::{
    Record,
    byte_order::{ByteOrder, array_at},
    error::{Offset, PcapError},
    window::{MAXIMUM_RECORD, Window},
};
use crate::source::{Interface, LinkType};

/// Type of a section header; the same in both byte orders.
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;

const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Type and length before a body.
const BLOCK_HEADER: usize = 8;

/// Least bytes of a section header block, an interface block and the packet blocks.
const SECTION_MINIMUM: u32 = 28;
const INTERFACE_MINIMUM: u32 = 20;
const PACKET_MINIMUM: u32 = 32;
const SIMPLE_MINIMUM: u32 = 16;
const BLOCK_MINIMUM: u32 = 12;

/// Bytes of an enhanced or obsolete packet block before the packet.
const PACKET_HEADER: usize = 28;

/// Interfaces the reader keeps, over all sections. A node has hundreds at most; the number is a guess far above it that
/// keeps a file of nothing but interface blocks from filling the memory.
pub(super) const MAXIMUM_INTERFACES: usize = 65_536;

/// Bytes kept of an interface's name. Linux allows 15, Windows writes GUIDs of about 50.
const MAXIMUM_NAME: usize = 255;

/// State of reading a pcapng file.
#[derive(Debug)]
pub(super) struct NextGeneration {
    order: ByteOrder,
    /// Interfaces of earlier sections, whose numbers the current one does not reach.
    section_base: usize,
    /// Clock and snapshot length of each interface, in step with the table of interfaces.
    clocks: Vec<Clock>,
    /// The latest packet's time, which packets without one inherit.
    latest: Timestamp,
}

/// How an interface counts time, and how much of a packet it keeps.
#[derive(Clone, Copy, Debug)]
struct Clock {
    resolution: Resolution,
    offset_seconds: i64,
    snapshot: u32,
}

/// Ticks of an interface's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    Microseconds,
    Nanoseconds,
    /// Ticks a second; 128 bits hold every power that the format can express without losing its first microsecond.
    PerSecond(u128),
    /// Finer than any 64-bit count of ticks can make a microsecond of.
    BelowMicroseconds,
}

/// A block whose header has been read and whose length is plausible.
#[derive(Clone, Copy, Debug)]
struct Block {
    at: Offset,
    kind: u32,
    /// As written before and behind the body.
    length: u32,
    /// Bytes that the block takes.
    size: u32,
}

impl NextGeneration {
    /// Before the first section header.
    pub(super) const fn start() -> Self {
        Self {
            order: ByteOrder::Little,
            section_base: 0,
            clocks: Vec::new(),
            latest: Timestamp::from_micros(0),
        }
    }

    /// The next packet, whose block is then in the window; `None` at the end of the file.
    pub(super) fn next(
        &mut self,
        window: &mut Window,
        interfaces: &mut Vec<Interface>,
    ) -> Result<Option<Record>, PcapError> {
        while let Some(block) = self.block(window)? {
            match block.kind {
                SECTION_HEADER => self.section(window, block)?,
                INTERFACE_DESCRIPTION => self.interface(window, block, interfaces)?,
                ENHANCED_PACKET | OBSOLETE_PACKET => return self.packet(window, block).map(Some),
                SIMPLE_PACKET => return self.simple_packet(window, block).map(Some),
                _ => self.skip(window, block)?,
            }
        }
        Ok(None)
    }

    fn block(&mut self, window: &mut Window) -> Result<Option<Block>, PcapError> {
        if !window.has(BLOCK_HEADER)? {
            return if window.available() == 0 {
                Ok(None)
            } else {
                window.require(BLOCK_HEADER).map(|()| None)
            };
        }
        let at = window.offset();
        if self.order.u32_at(window.bytes(), 0) == SECTION_HEADER {
            self.byte_order(window, at)?;
        }
        let header = window.bytes();
        let (kind, length) = (self.order.u32_at(header, 0), self.order.u32_at(header, 4));
        let (minimum, maximum) = match kind {
            SECTION_HEADER => (SECTION_MINIMUM, MAXIMUM_RECORD),
            INTERFACE_DESCRIPTION => (INTERFACE_MINIMUM, MAXIMUM_RECORD),
            ENHANCED_PACKET | OBSOLETE_PACKET => (PACKET_MINIMUM, MAXIMUM_RECORD),
            SIMPLE_PACKET => (SIMPLE_MINIMUM, MAXIMUM_RECORD),
            // Never held, so its size does not matter.
            _ => (BLOCK_MINIMUM, u32::MAX - 3),
        };
        if length < minimum || length > maximum {
            return Err(PcapError::RecordLength { at, claimed: length, minimum, maximum });
        }
        // The format demands multiples of 4; early writers padded the body without counting the padding.
        Ok(Some(Block { at, kind, length, size: length.next_multiple_of(4) }))
    }

    /// Learns the byte order of a section from the magic behind its header's length.
    fn byte_order(&mut self, window: &mut Window, at: Offset) -> Result<(), PcapError> {
        window.require(BLOCK_HEADER + 4)?;
        self.order = match ByteOrder::Little.u32_at(window.bytes(), BLOCK_HEADER) {
            0x1a2b_3c4d => ByteOrder::Little,
            0x4d3c_2b1a => ByteOrder::Big,
            _ => return Err(PcapError::ByteOrder { at }),
        };
        Ok(())
    }

    /// Brings the whole block into the window and checks that it ends with its length again.
    fn hold<'w>(&self, window: &'w mut Window, block: Block) -> Result<&'w [u8], PcapError> {
        let size = block.size as usize;
        window.require(size)?;
        let bytes = &window.bytes()[..size];
        self.check_trailer(block, self.order.u32_at(bytes, size - 4))?;
        Ok(bytes)
    }

    const fn check_trailer(&self, block: Block, trailing: u32) -> Result<(), PcapError> {
        if trailing == block.length {
            return Ok(());
        }
        Err(PcapError::BlockTrailer { at: block.at, leading: block.length, trailing })
    }

    fn skip(&self, window: &mut Window, block: Block) -> Result<(), PcapError> {
        window.skip(u64::from(block.size) - 4)?;
        window.require(4)?;
        self.check_trailer(block, self.order.u32_at(window.bytes(), 0))?;
        window.consume(4);
        Ok(())
    }

    fn section(&mut self, window: &mut Window, block: Block) -> Result<(), PcapError> {
        let bytes = self.hold(window, block)?;
        let (major, minor) = (self.order.u16_at(bytes, 12), self.order.u16_at(bytes, 14));
        // Version 1.2 was written by some tools and is the same as 1.0 (draft-ietf-opsawg-pcapng, section 4.1).
        if major != 1 || !matches!(minor, 0 | 2) {
            return Err(PcapError::Version { at: block.at, format: "pcapng", major, minor });
        }
        self.section_base = self.clocks.len();
        window.consume(block.size as usize);
        Ok(())
    }

    fn interface(
        &mut self,
        window: &mut Window,
        block: Block,
        interfaces: &mut Vec<Interface>,
    ) -> Result<(), PcapError> {
        if interfaces.len() >= MAXIMUM_INTERFACES {
            return Err(PcapError::TooManyInterfaces { at: block.at, limit: MAXIMUM_INTERFACES });
        }
        let bytes = self.hold(window, block)?;
        let link_type = LinkType(u32::from(self.order.u16_at(bytes, 8)));
        let mut clock = Clock {
            resolution: Resolution::Microseconds,
            offset_seconds: 0,
            snapshot: self.order.u32_at(bytes, 12),
        };
        let mut name = None;
        for (code, value) in options(self.order, &bytes[16..bytes.len() - 4]) {
            match code {
                2 => name = Some(interface_name(value)),
                9 => clock.resolution = value.first().map_or(clock.resolution, |byte| resolution(*byte)),
                14 => {
                    clock.offset_seconds =
                        array_at(value, 0).map_or(0, |ticks| self.order.u64(ticks)).cast_signed()
                }
                _ => {}
            }
        }
        interfaces.push(Interface { name, link_type });
        self.clocks.push(clock);
        window.consume(block.size as usize);
        Ok(())
    }

    fn packet(&mut self, window: &mut Window, block: Block) -> Result<Record, PcapError> {
        let order = self.order;
        let bytes = self.hold(window, block)?;
        let interface = match block.kind {
            ENHANCED_PACKET => order.u32_at(bytes, 8),
            _ => u32::from(order.u16_at(bytes, 8)),
        };
        let ticks = u64::from(order.u32_at(bytes, 12)) << 32 | u64::from(order.u32_at(bytes, 16));
        let (captured, original) = (order.u32_at(bytes, 20), order.u32_at(bytes, 24));
        let maximum = block.length - PACKET_MINIMUM;
        if captured > maximum {
            return Err(PcapError::RecordLength { at: block.at, claimed: captured, minimum: 0, maximum });
        }
        let (id, clock) = self.clock(block, interface)?;
        self.latest = clock.time(ticks);
        Ok(Record {
            time: self.latest,
            header: PACKET_HEADER,
            captured: captured as usize,
            rest: block.size as usize - PACKET_HEADER - captured as usize,
            original_length: original.max(captured),
            interface: id,
        })
    }

    fn simple_packet(&self, window: &mut Window, block: Block) -> Result<Record, PcapError> {
        let original = self.order.u32_at(self.hold(window, block)?, BLOCK_HEADER);
        let (id, clock) = self.clock(block, 0)?;
        // The captured length is not written: it is what the interface keeps of the original, and what fits the block.
        let snapshot = if clock.snapshot == 0 { u32::MAX } else { clock.snapshot };
        let captured = original.min(snapshot).min(block.length - SIMPLE_MINIMUM);
        Ok(Record {
            time: self.latest,
            header: BLOCK_HEADER + 4,
            captured: captured as usize,
            rest: block.size as usize - BLOCK_HEADER - 4 - captured as usize,
            original_length: original.max(captured),
            interface: id,
        })
    }

    fn clock(&self, block: Block, interface: u32) -> Result<(usize, Clock), PcapError> {
        let index = self.section_base.saturating_add(interface as usize);
        let known = self.clocks.len() - self.section_base;
        let unknown = PcapError::UnknownInterface { at: block.at, interface, known };
        let clock = *self.clocks.get(index).ok_or(unknown)?;
        Ok((index, clock))
    }
}

impl Clock {
    fn time(self, ticks: u64) -> Timestamp {
        let micros = match self.resolution {
            Resolution::Microseconds => ticks,
            Resolution::Nanoseconds => ticks / 1_000,
            Resolution::PerSecond(per_second) => {
                u64::try_from(u128::from(ticks) * 1_000_000 / per_second).unwrap_or(u64::MAX)
            }
            Resolution::BelowMicroseconds => 0,
        };
        let micros = i64::try_from(micros).unwrap_or(i64::MAX);
        Timestamp::from_micros(micros.saturating_add(self.offset_seconds.saturating_mul(1_000_000)))
    }
}

/// Reads `if_tsresol`: the high bit chooses a power of two over a power of ten, the rest is the exponent.
fn resolution(byte: u8) -> Resolution {
    let exponent = u32::from(byte & 0x7f);
    let per_second =
        if byte & 0x80 == 0 { 10_u128.checked_pow(exponent) } else { 2_u128.checked_pow(exponent) };
    match per_second {
        Some(1_000_000) => Resolution::Microseconds,
        Some(1_000_000_000) => Resolution::Nanoseconds,
        Some(per_second) => Resolution::PerSecond(per_second),
        None => Resolution::BelowMicroseconds,
    }
}

/// The options of a block, up to the end mark or the first that does not fit: a writer's mistake there costs the
/// remaining options, not the packets.
fn options(order: ByteOrder, bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (code, length) = (order.u16(array_at(rest, 0)?), usize::from(order.u16(array_at(rest, 2)?)));
        let value = rest.get(4..4 + length)?;
        rest = rest.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        (code != 0).then_some((code, value))
    })
}

fn interface_name(value: &[u8]) -> ByteString {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    ByteString::from(String::from_utf8_lossy(&text[..text.len().min(MAXIMUM_NAME)]).into_owned())
}
