//! Packets of whole TCP conversations, for tests that need traffic whose content they know.

use super::capture_file::{Order, Pcap};

/// A TCP conversation over IPv4 in Ethernet frames, written packet by packet.
pub struct Conversation {
    client_port: u16,
    server_port: u16,
    /// Next sequence number of the client and of the server.
    next: [u32; 2],
}

const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 1;

impl Conversation {
    pub fn new(client_port: u16, server_port: u16) -> Self {
        let isn = u32::from(client_port) << 12;
        Self { client_port, server_port, next: [isn, isn ^ 0xffff_0000] }
    }

    fn frame(&mut self, from: usize, flags: u8, payload: &[u8]) -> Vec<u8> {
        let ports = [self.client_port, self.server_port];
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((40 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend([10, 0, 0, 1 + from as u8]);
        frame.extend([10, 0, 0, 2 - from as u8]);
        frame.extend(ports[from].to_be_bytes());
        frame.extend(ports[1 - from].to_be_bytes());
        frame.extend(self.next[from].to_be_bytes());
        frame.extend(if flags & ACK == 0 { [0; 4] } else { self.next[1 - from].to_be_bytes() });
        frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(payload);
        self.next[from] += payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        frame
    }

    pub fn open(&mut self) -> Vec<Vec<u8>> {
        vec![self.frame(0, SYN, b""), self.frame(1, SYN | ACK, b""), self.frame(0, ACK, b"")]
    }

    pub fn exchange(&mut self, request: &[u8], response: &[u8]) -> Vec<Vec<u8>> {
        vec![self.frame(0, ACK, request), self.frame(1, ACK, response)]
    }

    pub fn close(&mut self) -> Vec<Vec<u8>> {
        vec![self.frame(0, FIN | ACK, b""), self.frame(1, FIN | ACK, b""), self.frame(0, ACK, b"")]
    }
}

/// A capture of whole conversations one after another, a millisecond between packets: each has `exchanges` requests and
/// responses of 100 and 1000 bytes.
pub fn conversations(count: u16, exchanges: usize) -> Vec<u8> {
    let mut file = Pcap::new(Order::Little, 0xa1b2_c3d4);
    let mut time = 1_700_000_000_000_u64;
    for number in 0..count {
        let mut conversation = Conversation::new(20_000 + number, 80);
        let mut frames = conversation.open();
        for _ in 0..exchanges {
            frames.extend(conversation.exchange(&[b'q'; 100], &[b'r'; 1_000]));
        }
        frames.extend(conversation.close());
        for frame in frames {
            time += 1;
            file.packet((time / 1_000) as u32, (time % 1_000 * 1_000) as u32, &frame, frame.len() as u32);
        }
    }
    file.bytes
}
