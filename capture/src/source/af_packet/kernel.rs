//! The packet socket and its ring, behind safe functions: all unsafe code of the live capture is in this file.
//!
//! The kernel's side is `Documentation/networking/packet_mmap.rst` and `include/uapi/linux/if_packet.h`. The ring is
//! a row of blocks that kernel and reader own in turn; `block_status` says who. Inside a block of the reader:
//!
//! ```text
//! block header │ packet header │ sockaddr_ll │ … tp_mac: link header … tp_net: network header … │ packet header │ …
//!               ^ offset_to_first_pkt         tp_next_offset leads from one packet header to the next
//! ```
#![expect(unsafe_code, reason = "packet rings are shared memory, and libc is the only way to the kernel")]

use std::{
    ffi::{CStr, CString, c_int, c_uint, c_void},
    io,
    mem::{self, offset_of, size_of},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use libc::{
    sock_filter, sockaddr_ll, tpacket_block_desc, tpacket_hdr_v1, tpacket_req3, tpacket_stats_v3,
    tpacket3_hdr,
};

// What the code below takes for granted of the kernel's structures, on every architecture.
const _: () = {
    assert!(size_of::<tpacket3_hdr>() == 48);
    assert!(offset_of!(tpacket3_hdr, tp_snaplen) == 12);
    assert!(offset_of!(tpacket3_hdr, tp_mac) == 24);
    assert!(offset_of!(tpacket3_hdr, hv1) == 28);
    assert!(size_of::<sockaddr_ll>() == 20);
    assert!(size_of::<tpacket_hdr_v1>() == 40);
    assert!(offset_of!(tpacket_block_desc, hdr) == 8);
    assert!(offset_of!(tpacket_hdr_v1, block_status) == 0);
    assert!(offset_of!(tpacket_hdr_v1, num_pkts) == 4);
    assert!(offset_of!(tpacket_hdr_v1, offset_to_first_pkt) == 8);
    assert!(size_of::<tpacket_req3>() == 28);
    assert!(size_of::<tpacket_stats_v3>() == 12);
    assert!(size_of::<sock_filter>() == 8);
};

/// Options of `linux/if_packet.h` that libc does not name.
const PACKET_ADD_MEMBERSHIP: c_int = 1;
const PACKET_RX_RING: c_int = 5;
const PACKET_STATISTICS: c_int = 6;
const PACKET_VERSION: c_int = 10;
const PACKET_MR_PROMISC: u16 = 1;
const TPACKET_V3: c_int = 2;

/// `struct packet_mreq`.
#[repr(C)]
struct Membership {
    interface: c_int,
    kind: u16,
    address_length: u16,
    address: [u8; 8],
}

/// The size of a ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingSize {
    /// Bytes of a block: a power of two, a multiple of the page size.
    pub(super) block_bytes: u32,
    /// Number of blocks.
    pub(super) blocks: u32,
    /// Milliseconds after which the kernel hands over a block that is not full.
    pub(super) retire_milliseconds: u32,
}

/// Packets that the kernel saw for a socket, and those it dropped because the ring was full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Packets that passed the filter, dropped ones included.
    pub(super) packets: u32,
    /// Packets dropped.
    pub(super) drops: u32,
}

/// A packet socket. It receives nothing until it is bound.
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket that sees link-layer headers.
    pub(super) fn open() -> io::Result<Self> {
        // SAFETY: the call takes no pointer; a descriptor that it returns is owned by nobody else.
        let descriptor = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        check(descriptor)?;
        // SAFETY: as above, and the descriptor has just been checked.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    fn set_option<T>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        let length = socket_length::<T>();
        // SAFETY: the pointer and the length describe `value`, which lives through the call and which the kernel only
        // reads; every caller passes the structure that the option expects.
        check(unsafe {
            libc::setsockopt(self.0.as_raw_fd(), level, option, ptr::from_ref(value).cast::<c_void>(), length)
        })?;
        Ok(())
    }

    fn option<T: Default>(&self, level: c_int, option: c_int) -> io::Result<T> {
        let mut value = T::default();
        let mut length = socket_length::<T>();
        // SAFETY: the pointer and the length describe `value`, and the kernel writes at most that many bytes; every
        // caller asks for a type of plain integers, so that any bytes are a value.
        check(unsafe {
            let target = ptr::from_mut(&mut value).cast::<c_void>();
            libc::getsockopt(self.0.as_raw_fd(), level, option, target, &raw mut length)
        })?;
        Ok(value)
    }

    /// Attaches a filter, in place of an earlier one.
    pub(super) fn attach_filter(&self, instructions: &[sock_filter]) -> io::Result<()> {
        let length =
            u16::try_from(instructions.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // The kernel copies the instructions; it does not write through the pointer in spite of its type.
        let program = libc::sock_fprog { len: length, filter: instructions.as_ptr().cast_mut() };
        self.set_option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    /// Starts receiving all protocols of the interface; 0 is every interface.
    pub(super) fn bind(&self, interface: u32) -> io::Result<()> {
        let address = sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: interface.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the pointer and the length describe `address`, which lives through the call.
        check(unsafe {
            let pointer = ptr::from_ref(&address).cast::<libc::sockaddr>();
            libc::bind(self.0.as_raw_fd(), pointer, socket_length::<sockaddr_ll>())
        })?;
        Ok(())
    }

    /// Also receives packets for other machines, for as long as the socket is open.
    pub(super) fn set_promiscuous(&self, interface: u32) -> io::Result<()> {
        let membership = Membership {
            interface: interface.cast_signed(),
            kind: PACKET_MR_PROMISC,
            address_length: 0,
            address: [0; 8],
        };
        self.set_option(libc::SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership)
    }

    /// Founds a group of sockets among which connections are spread; gives its number.
    pub(super) fn found_group(&self) -> io::Result<u16> {
        self.fanout(libc::PACKET_FANOUT_FLAG_UNIQUEID, 0)?;
        let value: c_uint = self.option(libc::SOL_PACKET, libc::PACKET_FANOUT)?;
        Ok((value & 0xffff) as u16)
    }

    /// Joins a group.
    pub(super) fn join_group(&self, group: u16) -> io::Result<()> {
        self.fanout(0, group)
    }

    /// By symmetric hash, so that both directions of a connection meet; fragments are put together first, because
    /// only the first carries the ports that are hashed.
    fn fanout(&self, flags: c_uint, group: u16) -> io::Result<()> {
        let kind = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_DEFRAG | flags;
        self.set_option(libc::SOL_PACKET, libc::PACKET_FANOUT, &(kind << 16 | c_uint::from(group)))
    }

    /// Counters since the last call.
    pub(super) fn counters(&self) -> io::Result<Counters> {
        #[derive(Default)]
        #[repr(C)]
        struct Statistics {
            packets: c_uint,
            drops: c_uint,
            freezes: c_uint,
        }
        const _: () = assert!(size_of::<Statistics>() == size_of::<tpacket_stats_v3>());
        let statistics: Statistics = self.option(libc::SOL_PACKET, PACKET_STATISTICS)?;
        Ok(Counters { packets: statistics.packets, drops: statistics.drops })
    }

    /// The error that the kernel left on the socket, which takes it off.
    fn pending_error(&self) -> io::Result<()> {
        match self.option::<c_int>(libc::SOL_SOCKET, libc::SO_ERROR)? {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Waits until a block is ready or the time is over; true when it is worth looking.
    ///
    /// # Errors
    /// The error that the kernel left on the socket, such as `ENETDOWN`.
    pub(super) fn wait(&self, limit: Duration) -> io::Result<bool> {
        let mut poll =
            libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN | libc::POLLERR, revents: 0 };
        let milliseconds = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the pointer and the count describe one `pollfd` that lives through the call.
        let ready = unsafe { libc::poll(&raw mut poll, 1, milliseconds) };
        match check(ready) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            outcome => outcome?,
        };
        if poll.revents & libc::POLLERR != 0 {
            self.pending_error()?;
        }
        Ok(poll.revents & libc::POLLIN != 0)
    }
}

/// A socket with its ring of blocks.
pub(super) struct Ring {
    pub(super) socket: Socket,
    memory: NonNull<u8>,
    size: RingSize,
    /// The block that the kernel fills next.
    current: u32,
}

// SAFETY: the memory belongs to this ring alone, through which all access goes; nothing of it is tied to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Gives the socket a ring.
    pub(super) fn new(socket: Socket, size: RingSize) -> io::Result<Self> {
        socket.set_option(libc::SOL_PACKET, PACKET_VERSION, &TPACKET_V3)?;
        let request = tpacket_req3 {
            tp_block_size: size.block_bytes,
            tp_block_nr: size.blocks,
            // Version 3 packs packets of any length; the frame size only has to divide the block.
            tp_frame_size: 2_048,
            tp_frame_nr: size.block_bytes / 2_048 * size.blocks,
            tp_retire_blk_tov: size.retire_milliseconds,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        socket.set_option(libc::SOL_PACKET, PACKET_RX_RING, &request)?;
        let length = size.block_bytes as usize * size.blocks as usize;
        // SAFETY: a new mapping at an address of the kernel's choice takes nothing from anybody; the result is checked.
        let memory = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, socket.0.as_raw_fd(), 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory =
            NonNull::new(memory.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Self { socket, memory, size, current: 0 })
    }

    /// The next block, if the kernel has handed it over. Dropping it gives it back.
    pub(super) fn block(&mut self) -> Option<Block<'_>> {
        let offset = self.current as usize * self.size.block_bytes as usize;
        // SAFETY: `current` is below the number of blocks, so the block lies inside the mapping.
        let start = unsafe { self.memory.add(offset) };
        // SAFETY: the block begins with a `tpacket_block_desc` (layout asserted above); the mapping is page-aligned and
        // blocks are whole pages, so the status is aligned; kernel and reader access it as one 32-bit word.
        let status = unsafe {
            AtomicU32::from_ptr(start.add(offset_of!(tpacket_block_desc, hdr)).cast::<u32>().as_ptr())
        };
        // Acquire: what the kernel wrote into the block before it set the status is then visible.
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        self.current = (self.current + 1) % self.size.blocks;
        // SAFETY: the kernel has handed the block over and does not write to it until its status is set back, which
        // happens when `Block` is dropped; the bytes lie inside the mapping, which outlives the borrow of the ring, and
        // the status, which is written while they are borrowed, is not among them.
        let bytes = unsafe {
            slice::from_raw_parts(
                start.add(BEFORE_BYTES).as_ptr(),
                self.size.block_bytes as usize - BEFORE_BYTES,
            )
        };
        Some(Block { bytes, status })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let length = self.size.block_bytes as usize * self.size.blocks as usize;
        // SAFETY: exactly the mapping made in `new`; blocks borrow the ring, so none is left.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), length) };
    }
}

/// Bytes of a block up to the end of its status.
const BEFORE_BYTES: usize = offset_of!(tpacket_block_desc, hdr) + size_of::<u32>();

/// A block that belongs to the reader until it is dropped.
pub(super) struct Block<'r> {
    /// What follows the status.
    bytes: &'r [u8],
    status: &'r AtomicU32,
}

impl Block<'_> {
    /// The packets of the block, in the order they came.
    pub(super) fn frames(&self) -> Frames<'_> {
        let field =
            |offset: usize| number(self.bytes, offset_of!(tpacket_block_desc, hdr) + offset - BEFORE_BYTES);
        let first = field(offset_of!(tpacket_hdr_v1, offset_to_first_pkt)) as usize;
        Frames {
            bytes: self.bytes,
            left: field(offset_of!(tpacket_hdr_v1, num_pkts)),
            // Offsets count from the start of the block.
            next: first.checked_sub(BEFORE_BYTES).unwrap_or(usize::MAX),
        }
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        // Release: all reads of the block are done before the kernel may write to it again.
        self.status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}

/// A packet in the ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'b> {
    /// Seconds since 1970 and nanoseconds of the second.
    pub(super) time: (u32, u32),
    /// Captured bytes from the link header on.
    pub(super) data: &'b [u8],
    /// Bytes of the link header.
    pub(super) link_header: usize,
    /// Bytes on the wire, link header included.
    pub(super) length: u32,
    /// VLAN tag that was taken off, priority bits included.
    pub(super) vlan: Option<u16>,
    /// Interface number.
    pub(super) interface: u32,
    /// Hardware type of the interface (`ARPHRD_…`).
    pub(super) hardware: u16,
}

/// Walks the packets of a block. Offsets come from the kernel; they are checked all the same, since a wrong one must
/// cost packets, not memory safety.
pub(super) struct Frames<'b> {
    bytes: &'b [u8],
    left: u32,
    next: usize,
}

impl<'b> Iterator for Frames<'b> {
    type Item = Frame<'b>;

    fn next(&mut self) -> Option<Frame<'b>> {
        self.left = self.left.checked_sub(1)?;
        let bytes = self.bytes.get(self.next..)?;
        let header = bytes.get(..size_of::<tpacket3_hdr>() + size_of::<sockaddr_ll>())?;
        self.next =
            self.next.saturating_add(number(header, offset_of!(tpacket3_hdr, tp_next_offset)) as usize);
        let status = number(header, offset_of!(tpacket3_hdr, tp_status));
        let captured = number(header, offset_of!(tpacket3_hdr, tp_snaplen)) as usize;
        let link = usize::from(short(header, offset_of!(tpacket3_hdr, tp_mac)));
        let network = usize::from(short(header, offset_of!(tpacket3_hdr, tp_net)));
        let tag = number(
            header,
            offset_of!(tpacket3_hdr, hv1) + offset_of!(libc::tpacket_hdr_variant1, tp_vlan_tci),
        );
        // The address follows the header, whose length is a multiple of TPACKET_ALIGNMENT.
        let address = &header[size_of::<tpacket3_hdr>()..];
        Some(Frame {
            time: (
                number(header, offset_of!(tpacket3_hdr, tp_sec)),
                number(header, offset_of!(tpacket3_hdr, tp_nsec)),
            ),
            data: bytes.get(link..link.checked_add(captured)?)?,
            link_header: network.saturating_sub(link),
            length: number(header, offset_of!(tpacket3_hdr, tp_len)),
            vlan: (status & libc::TP_STATUS_VLAN_VALID != 0).then_some((tag & 0xffff) as u16),
            interface: number(address, offset_of!(sockaddr_ll, sll_ifindex)),
            hardware: short(address, offset_of!(sockaddr_ll, sll_hatype)),
        })
    }
}

/// A number in the machine's byte order; 0 where the bytes are not there, which callers have excluded.
fn number(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn short(bytes: &[u8], offset: usize) -> u16 {
    bytes.get(offset..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_ne_bytes(*bytes))
}

/// The number of an interface; `None` when there is none of that name.
pub(super) fn interface_index(name: &CString) -> Option<u32> {
    // SAFETY: the pointer is to a C string that lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

/// The name of an interface; `None` when it is gone.
pub(super) fn interface_name(index: u32) -> Option<String> {
    let mut buffer = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes that the function may write.
    let name = unsafe { libc::if_indextoname(index, buffer.as_mut_ptr().cast()) };
    if name.is_null() {
        return None;
    }
    Some(CStr::from_bytes_until_nul(&buffer).ok()?.to_string_lossy().into_owned())
}

/// Bytes of a memory page.
pub(super) fn page_bytes() -> u32 {
    // SAFETY: the call takes no pointer.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(bytes).unwrap_or(4_096)
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn socket_length<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(mem::size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of three bytes with its headers, followed by the next one `next` bytes later.
    fn frame(next: u32, captured: u32, link: u16, status: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [next, 7, 8_000, captured, 60, status] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(link.to_ne_bytes());
        bytes.extend((link + 2).to_ne_bytes());
        // Hash, VLAN tag, then the rest of the header.
        bytes.extend([0; 4]);
        bytes.extend(0x6005_u32.to_ne_bytes());
        bytes.resize(48, 0);
        // Family, protocol, interface, hardware type.
        bytes.extend([17, 0, 8, 0]);
        bytes.extend(3_u32.to_ne_bytes());
        bytes.extend(772_u16.to_ne_bytes());
        bytes.resize(80, 0);
        bytes.extend(b"abc");
        bytes.resize(96, 0);
        bytes
    }

    fn frames(bytes: &[u8], left: u32) -> Vec<Frame<'_>> {
        Frames { bytes, left, next: 0 }.collect()
    }

    #[test]
    fn frames_follow_one_another() {
        let bytes = [frame(96, 3, 80, 0), frame(0, 3, 80, libc::TP_STATUS_VLAN_VALID)].concat();
        let seen = frames(&bytes, 2);
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].time, seen[0].data, seen[0].link_header), ((7, 8_000), &b"abc"[..], 2));
        assert_eq!((seen[0].length, seen[0].interface, seen[0].hardware), (60, 3, 772));
        assert_eq!((seen[0].vlan, seen[1].vlan), (None, Some(0x6005)));
    }

    #[test]
    fn offsets_that_lead_out_of_the_block_end_it() {
        assert_eq!(frames(&frame(u32::MAX, 3, 80, 0), 2).len(), 1);
        assert_eq!(frames(&frame(0, u32::MAX, 80, 0), 1).len(), 0);
        assert_eq!(frames(&frame(0, 3, 60_000, 0), 1).len(), 0);
        let whole = frame(0, 3, 80, 0);
        for cut in 0..83 {
            assert_eq!(frames(&whole[..cut], 1).len(), 0, "cut at {cut}");
        }
        assert_eq!(Frames { bytes: &whole, left: 1, next: usize::MAX }.count(), 0);
    }
}
