//! Plays a capture several times so that each pass is new traffic: later in time, and with connections of its own.
//!
//! Connections are told apart by their initial sequence numbers, so every pass adds a number of its own to all sequence
//! and acknowledgement numbers. That keeps a conversation consistent with itself. Packets inside tunnels and behind
//! IPv6 extension headers stay as they are; end the core's connections between two passes, and they are new as well.

use wirecall_capture_core::{LinkType, Packet};
use wirecall_schemas::Timestamp;

/// Silence between two passes in microseconds.
const PAUSE: i64 = 1_000_000;

/// What a pass adds to sequence numbers, times its number: odd, so that passes repeat after 2³² only.
const STEP: u32 = 0x9e37_79b1;

/// Protocol number of TCP.
const TCP: u8 = 6;

/// Moves the packets of each pass behind those of the one before.
#[derive(Debug, Default)]
pub struct Repeat {
    pass: u32,
    shift: i64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    buffer: Vec<u8>,
}

impl Repeat {
    /// Before the first pass, which changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the next pass, behind the latest packet of all so far.
    pub fn next_pass(&mut self) {
        self.pass = self.pass.wrapping_add(1);
        if let (Some(first), Some(last)) = (self.first, self.last) {
            self.shift = last.plus_micros(PAUSE).micros_since(first);
        }
    }

    /// The packet as this pass has it.
    pub fn packet<'r>(&'r mut self, packet: Packet<'r>) -> Packet<'r> {
        if self.pass == 0 {
            self.first = self.first.map_or(Some(packet.time), |first| Some(first.min(packet.time)));
        }
        let time = packet.time.plus_micros(self.shift);
        self.last = self.last.max(Some(time));
        if self.pass == 0 {
            return packet;
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(packet.data);
        if let Some(header) = tcp_header(packet.link_type, &mut self.buffer) {
            shift_numbers(header, STEP.wrapping_mul(self.pass));
        }
        Packet { time, data: &self.buffer, ..packet }
    }
}

/// Adds to the sequence number, and to the acknowledgement number where the ACK flag says that it counts.
fn shift_numbers(header: &mut [u8], shift: u32) {
    add(header, 4, shift);
    if header.get(13).is_some_and(|flags| flags & 0x10 != 0) {
        add(header, 8, shift);
    }
}

fn add(header: &mut [u8], offset: usize, shift: u32) {
    if let Some(number) = header.get_mut(offset..).and_then(<[u8]>::first_chunk_mut::<4>) {
        *number = u32::from_be_bytes(*number).wrapping_add(shift).to_be_bytes();
    }
}

fn tcp_header(link_type: LinkType, frame: &mut [u8]) -> Option<&mut [u8]> {
    let network = network_offset(link_type, frame)?;
    let packet = frame.get_mut(network..)?;
    let offset = match packet.first()? >> 4 {
        // Only the first fragment has the TCP header.
        4 if *packet.get(9)? == TCP
            && u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff == 0 =>
        {
            usize::from(packet.first()? & 15) * 4
        }
        6 if *packet.get(6)? == TCP => 40,
        _ => return None,
    };
    packet.get_mut(offset..)
}

fn network_offset(link_type: LinkType, frame: &[u8]) -> Option<usize> {
    match link_type {
        LinkType::ETHERNET => {
            let mut offset = 12;
            // VLAN tags, 802.1Q and 802.1ad.
            while matches!(frame.get(offset..offset + 2)?, [0x81, 0] | [0x88, 0xa8]) {
                offset += 4;
            }
            Some(offset + 2)
        }
        LinkType::LINUX_SLL => Some(16),
        LinkType::LINUX_SLL2 => Some(20),
        LinkType::NULL | LinkType::LOOP => Some(4),
        LinkType::RAW | LinkType::RAW_BSD | LinkType::RAW_OPENBSD | LinkType::IPV4 | LinkType::IPV6 => {
            Some(0)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(network: &[u8]) -> Vec<u8> {
        [&[0; 12][..], &[0x81, 0, 0, 5], &[8, 0], network].concat()
    }

    /// An IPv4 packet with a TCP header whose sequence numbers are 100 and 200.
    fn ipv4(fragment_offset: u8, flags: u8) -> Vec<u8> {
        let mut packet =
            vec![0x45, 0, 0, 40, 0, 0, 0, fragment_offset, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0, 80, 0, 81, 0, 0, 0, 100, 0, 0, 0, 200, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        packet
    }

    fn packet(data: &[u8], micros: i64) -> Packet<'_> {
        Packet {
            time: Timestamp::from_micros(micros),
            link_type: LinkType::ETHERNET,
            data,
            original_length: 60,
            interface: None,
            vlan: None,
        }
    }

    /// Time, sequence and acknowledgement number of the packet in its pass.
    fn seen(repeat: &mut Repeat, data: &[u8], micros: i64) -> (i64, u32, u32) {
        let packet = repeat.packet(packet(data, micros));
        let number = |offset| u32::from_be_bytes(*packet.data[offset..].first_chunk().unwrap());
        (packet.time.as_micros(), number(18 + 24), number(18 + 28))
    }

    #[test]
    fn the_first_pass_changes_nothing() {
        let data = frame(&ipv4(0, 0x10));
        let mut repeat = Repeat::new();
        assert_eq!(repeat.packet(packet(&data, 7)).data, data);
        assert_eq!(seen(&mut repeat, &data, 7), (7, 100, 200));
    }

    #[test]
    fn each_pass_is_later_and_has_its_own_numbers() {
        let data = frame(&ipv4(0, 0x10));
        let mut repeat = Repeat::new();
        assert_eq!(seen(&mut repeat, &data, 1_000).0, 1_000);
        assert_eq!(seen(&mut repeat, &data, 5_000).0, 5_000);
        repeat.next_pass();
        let shifted = (100_u32.wrapping_add(STEP), 200_u32.wrapping_add(STEP));
        assert_eq!(seen(&mut repeat, &data, 1_000), (1_005_000, shifted.0, shifted.1));
        assert_eq!(seen(&mut repeat, &data, 5_000).0, 1_009_000);
        repeat.next_pass();
        assert_eq!(seen(&mut repeat, &data, 1_000).0, 2_009_000);
    }

    #[test]
    fn an_acknowledgement_that_does_not_count_stays() {
        let mut repeat = Repeat::new();
        repeat.next_pass();
        assert_eq!(seen(&mut repeat, &frame(&ipv4(0, 2)), 0).2, 200);
    }

    #[test]
    fn later_fragments_and_cut_packets_stay() {
        let mut repeat = Repeat::new();
        repeat.next_pass();
        let fragment = frame(&ipv4(1, 0x10));
        assert_eq!(repeat.packet(packet(&fragment, 0)).data, fragment);
        let whole = frame(&ipv4(0, 0x10));
        for cut in 0..18 + 24 {
            assert_eq!(repeat.packet(packet(&whole[..cut], 0)).data, &whole[..cut]);
        }
    }
}
