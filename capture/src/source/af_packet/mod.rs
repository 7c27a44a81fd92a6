//! Live capture through packet sockets: a ring of memory shared with the kernel, read without copying.

mod error;
mod filter;
mod kernel;

use std::{collections::HashMap, ffi::CString, io, time::Duration};

use bytestring::ByteString;
use wirecall_schemas::Timestamp;

use self::kernel::{Frame, Ring, RingSize, Socket};
pub use self::{error::AfPacketError, filter::FilterRules};
use super::{Batch, LinkType, Packet, Source};

/// The name that stands for all interfaces, also those that come later.
pub const ANY: &str = "any";

/// Bytes of a block of the ring: room for the largest super-segments in use (64 KiB, some 200 KiB with big TCP), and
/// small enough that a ring has many: little traffic uses up a block at each timeout, so their number is what a stalled
/// reader is given in time.
const BLOCK_BYTES: u32 = 512 << 10;

/// Fewest blocks that let the kernel fill one while another is read.
const MINIMUM_BLOCKS: u32 = 2;

/// Interface names kept. Pods come and go and each has a number of its own; when the table is full it starts anew.
const MAXIMUM_NAMES: usize = 4_096;

/// How to capture on an interface.
#[derive(Clone, Debug)]
pub struct AfPacketConfig {
    /// Name of the interface, or [`ANY`].
    pub interface: String,
    /// Rings, and so threads, that share the packets by connection.
    pub rings: u16,
    /// Bytes of each ring.
    pub ring_bytes: usize,
    /// After this time the kernel hands over what it has, even if it is little.
    pub block_timeout: Duration,
    /// Bytes kept of each packet.
    pub snapshot: u32,
    /// Whether to receive packets for other machines too.
    pub promiscuous: bool,
    /// What the kernel leaves out.
    pub filter: FilterRules,
}

impl Default for AfPacketConfig {
    fn default() -> Self {
        Self {
            interface: ANY.to_owned(),
            rings: 1,
            ring_bytes: 32 << 20,
            block_timeout: Duration::from_millis(20),
            snapshot: 262_144,
            promiscuous: false,
            filter: FilterRules::default(),
        }
    }
}

/// Packets that the kernel counted for one ring since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// Packets that passed the filter, dropped ones included.
    pub packets: u64,
    /// Packets dropped because the ring was full.
    pub drops: u64,
}

/// One ring of a live capture.
pub struct AfPacket {
    ring: Ring,
    config: AfPacketConfig,
    bound_to: u32,
    in_group: bool,
    down: bool,
    filter_complete: bool,
    names: HashMap<u32, Option<ByteString>>,
    counts: KernelCounts,
}

impl AfPacket {
    /// Opens the rings of an interface, each to be read by a thread of its own.
    ///
    /// # Errors
    /// Without the right to capture, without the interface, or when the kernel refuses a step.
    pub fn open(config: &AfPacketConfig) -> Result<Vec<Self>, AfPacketError> {
        let mut rings = Vec::with_capacity(usize::from(config.rings.max(1)));
        let mut group = None;
        for _ in 0..config.rings.max(1) {
            let mut ring = Self::open_ring(config)?;
            if config.rings > 1 {
                ring.share(&mut group)?;
            }
            rings.push(ring);
        }
        Ok(rings)
    }

    fn open_ring(config: &AfPacketConfig) -> Result<Self, AfPacketError> {
        let index = index_of(&config.interface)?;
        let socket = Socket::open().map_err(|cause| match cause.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => AfPacketError::NotPermitted,
            _ => system(config, "opening a packet socket", cause),
        })?;
        let program = filter::compile(&config.filter, config.snapshot.max(1));
        let filter_error = |cause| system(config, "attaching the packet filter", cause);
        socket.attach_filter(&program.instructions).map_err(filter_error)?;
        let size = ring_size(config);
        let ring = Ring::new(socket, size).map_err(|cause| AfPacketError::Ring {
            interface: config.interface.clone(),
            blocks: size.blocks,
            block_bytes: size.block_bytes,
            cause,
        })?;
        if config.promiscuous && index != 0 {
            let promiscuous_error = |cause| system(config, "switching on promiscuous mode", cause);
            ring.socket.set_promiscuous(index).map_err(promiscuous_error)?;
        }
        ring.socket.bind(index).map_err(|cause| system(config, "binding to the interface", cause))?;
        Ok(Self {
            ring,
            config: config.clone(),
            bound_to: index,
            in_group: false,
            down: false,
            filter_complete: program.complete,
            names: HashMap::new(),
            counts: KernelCounts::default(),
        })
    }

    fn share(&mut self, group: &mut Option<u16>) -> Result<(), AfPacketError> {
        let outcome = match *group {
            Some(number) => self.ring.socket.join_group(number),
            None => self.ring.socket.found_group().map(|number| *group = Some(number)),
        };
        self.in_group = true;
        outcome.map_err(|cause| AfPacketError::Fanout { interface: self.config.interface.clone(), cause })
    }

    fn drain_block(&mut self, handle: &mut dyn FnMut(Packet<'_>)) -> usize {
        let Some(block) = self.ring.block() else { return 0 };
        let mut read = 0;
        for frame in block.frames() {
            let name = name_of(&mut self.names, frame.interface);
            handle(raw_packet(&frame, name));
            read += 1;
        }
        read
    }

    fn went_down(&mut self) {
        if !self.down {
            tracing::warn!(interface = %self.config.interface, "interface went down; waiting for it");
        }
        self.down = true;
    }

    /// The kernel resumes by itself when the same interface comes up again; a new one of the same name has another
    /// number and has to be bound to.
    fn look_again(&mut self) -> Result<(), AfPacketError> {
        let index = match index_of(&self.config.interface) {
            Err(AfPacketError::NoInterface { interface }) if self.in_group => {
                return Err(AfPacketError::InterfaceGone { interface });
            }
            Err(AfPacketError::NoInterface { .. }) => return Ok(()),
            other => other?,
        };
        if index != self.bound_to {
            if self.in_group {
                return Err(AfPacketError::InterfaceGone { interface: self.config.interface.clone() });
            }
            let bind_error = |cause| system(&self.config, "binding to the new interface", cause);
            self.ring.socket.bind(index).map_err(bind_error)?;
            self.bound_to = index;
        }
        self.down = false;
        Ok(())
    }

    /// False when the rules were too many for the kernel, so that the core has to drop what they leave out.
    #[must_use]
    pub const fn filter_is_complete(&self) -> bool {
        self.filter_complete
    }

    /// What the kernel counted so far.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn kernel_counts(&mut self) -> Result<KernelCounts, AfPacketError> {
        let counters = self.ring.socket.counters();
        let counters =
            counters.map_err(|cause| system(&self.config, "reading the packet statistics", cause))?;
        self.counts.packets += u64::from(counters.packets);
        self.counts.drops += u64::from(counters.drops);
        Ok(self.counts)
    }
}

impl Source for AfPacket {
    type Error = AfPacketError;

    fn read_batch(
        &mut self,
        wait: Duration,
        handle: &mut dyn FnMut(Packet<'_>),
    ) -> Result<Batch, AfPacketError> {
        let read = self.drain_block(handle);
        if read > 0 {
            return Ok(Batch::Packets(read));
        }
        match self.ring.socket.wait(wait) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => self.went_down(),
            Err(cause) => return Err(system(&self.config, "waiting for packets", cause)),
        }
        if self.down {
            self.look_again()?;
        }
        match self.drain_block(handle) {
            0 => Ok(Batch::Idle),
            read => Ok(Batch::Packets(read)),
        }
    }

    fn lost_packets(&mut self) -> Result<u64, AfPacketError> {
        self.kernel_counts().map(|counts| counts.drops)
    }

    /// While packets flow.
    fn set_filter(&mut self, rules: FilterRules) -> Result<(), AfPacketError> {
        let program = filter::compile(&rules, self.config.snapshot.max(1));
        let filter_error = |cause| system(&self.config, "attaching the packet filter", cause);
        self.ring.socket.attach_filter(&program.instructions).map_err(filter_error)?;
        self.filter_complete = program.complete;
        self.config.filter = rules;
        Ok(())
    }
}

/// Ethernet frames go out whole; of everything else, which Linux gives in many forms, the IP packet.
fn raw_packet<'b>(frame: &Frame<'b>, interface: Option<&'b ByteString>) -> Packet<'b> {
    let ethernet = matches!(frame.hardware, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK);
    let skipped = if ethernet { 0 } else { frame.link_header.min(frame.data.len()) };
    let (seconds, nanoseconds) = frame.time;
    Packet {
        time: Timestamp::from_micros(i64::from(seconds) * 1_000_000 + i64::from(nanoseconds / 1_000)),
        link_type: if ethernet { LinkType::ETHERNET } else { LinkType::RAW },
        vlan: frame.vlan.map(|tag| tag & 0xfff),
        data: &frame.data[skipped..],
        original_length: frame.length.saturating_sub(u32::try_from(skipped).unwrap_or(0)),
        interface,
    }
}

fn name_of(names: &mut HashMap<u32, Option<ByteString>>, index: u32) -> Option<&ByteString> {
    if names.len() >= MAXIMUM_NAMES && !names.contains_key(&index) {
        names.clear();
    }
    names.entry(index).or_insert_with(|| kernel::interface_name(index).map(ByteString::from)).as_ref()
}

fn index_of(interface: &str) -> Result<u32, AfPacketError> {
    if interface == ANY {
        return Ok(0);
    }
    let name = CString::new(interface).ok().filter(|name| name.count_bytes() < libc::IF_NAMESIZE);
    let name = name.ok_or_else(|| AfPacketError::InterfaceName { interface: interface.to_owned() })?;
    let missing = || AfPacketError::NoInterface { interface: interface.to_owned() };
    kernel::interface_index(&name).ok_or_else(missing)
}

fn ring_size(config: &AfPacketConfig) -> RingSize {
    let block_bytes = BLOCK_BYTES.max(kernel::page_bytes());
    let blocks = u32::try_from(config.ring_bytes / block_bytes as usize).unwrap_or(u32::MAX);
    let milliseconds = u32::try_from(config.block_timeout.as_millis()).unwrap_or(u32::MAX);
    // Zero would let the kernel choose by link speed.
    RingSize { block_bytes, blocks: blocks.max(MINIMUM_BLOCKS), retire_milliseconds: milliseconds.max(1) }
}

fn system(config: &AfPacketConfig, step: &'static str, cause: io::Error) -> AfPacketError {
    AfPacketError::System { interface: config.interface.clone(), step, cause }
}
