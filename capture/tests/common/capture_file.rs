//! Builds pcap and pcapng files in any byte order and resolution.

/// Byte order of the written file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Little,
    Big,
}

impl Order {
    pub const BOTH: [Self; 2] = [Self::Little, Self::Big];

    pub fn u16(self, number: u16) -> [u8; 2] {
        if self == Self::Little { number.to_le_bytes() } else { number.to_be_bytes() }
    }

    pub fn u32(self, number: u32) -> [u8; 4] {
        if self == Self::Little { number.to_le_bytes() } else { number.to_be_bytes() }
    }

    pub fn u64(self, number: u64) -> [u8; 8] {
        if self == Self::Little { number.to_le_bytes() } else { number.to_be_bytes() }
    }
}

/// Ethernet.
pub const ETHERNET: u16 = 1;

/// A classic pcap file.
pub struct Pcap {
    pub order: Order,
    pub bytes: Vec<u8>,
}

impl Pcap {
    pub fn new(order: Order, magic: u32) -> Self {
        Self::with_header(order, magic, (2, 4), 262_144, u32::from(ETHERNET))
    }

    pub fn with_header(order: Order, magic: u32, version: (u16, u16), snapshot: u32, network: u32) -> Self {
        let mut bytes = Vec::new();
        bytes.extend(order.u32(magic));
        bytes.extend(order.u16(version.0));
        bytes.extend(order.u16(version.1));
        bytes.extend([0; 8]);
        bytes.extend(order.u32(snapshot));
        bytes.extend(order.u32(network));
        Self { order, bytes }
    }

    pub fn packet(&mut self, seconds: u32, fraction: u32, data: &[u8], original: u32) -> &mut Self {
        self.record(seconds, fraction, data.len() as u32, original, data)
    }

    pub fn record(&mut self, seconds: u32, fraction: u32, first: u32, second: u32, data: &[u8]) -> &mut Self {
        for number in [seconds, fraction, first, second] {
            self.bytes.extend(self.order.u32(number));
        }
        self.bytes.extend(data);
        self
    }
}

/// A pcapng file.
pub struct PcapNg {
    pub order: Order,
    pub bytes: Vec<u8>,
}

impl PcapNg {
    /// With its first section.
    pub fn new(order: Order) -> Self {
        let mut file = Self { order, bytes: Vec::new() };
        file.section(order);
        file
    }

    /// Starts another section, maybe in another byte order.
    pub fn section(&mut self, order: Order) -> &mut Self {
        self.section_of_version(order, 1, 0)
    }

    pub fn section_of_version(&mut self, order: Order, major: u16, minor: u16) -> &mut Self {
        self.order = order;
        let mut body = order.u32(0x1a2b_3c4d).to_vec();
        body.extend(order.u16(major));
        body.extend(order.u16(minor));
        body.extend(order.u64(u64::MAX));
        self.block(0x0a0d_0d0a, &body)
    }

    pub fn interface(&mut self, link_type: u16, snapshot: u32, options: &[(u16, &[u8])]) -> &mut Self {
        let mut body = self.order.u16(link_type).to_vec();
        body.extend([0; 2]);
        body.extend(self.order.u32(snapshot));
        for (code, value) in options {
            body.extend(self.order.u16(*code));
            body.extend(self.order.u16(value.len() as u16));
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        if !options.is_empty() {
            body.extend([0; 4]);
        }
        self.block(1, &body)
    }

    pub fn enhanced(&mut self, interface: u32, ticks: u64, data: &[u8], original: u32) -> &mut Self {
        let mut body = self.order.u32(interface).to_vec();
        self.packet_fields(&mut body, ticks, data, original);
        // An option behind the packet: epb_flags.
        body.extend(self.order.u16(2));
        body.extend(self.order.u16(4));
        body.extend([1, 0, 0, 0]);
        body.extend([0; 4]);
        self.block(6, &body)
    }

    pub fn obsolete(&mut self, interface: u16, ticks: u64, data: &[u8], original: u32) -> &mut Self {
        let mut body = self.order.u16(interface).to_vec();
        body.extend(self.order.u16(7));
        self.packet_fields(&mut body, ticks, data, original);
        self.block(2, &body)
    }

    fn packet_fields(&self, body: &mut Vec<u8>, ticks: u64, data: &[u8], original: u32) {
        body.extend(self.order.u32((ticks >> 32) as u32));
        body.extend(self.order.u32(ticks as u32));
        body.extend(self.order.u32(data.len() as u32));
        body.extend(self.order.u32(original));
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
    }

    pub fn simple(&mut self, original: u32, data: &[u8]) -> &mut Self {
        let mut body = self.order.u32(original).to_vec();
        body.extend(data);
        self.block(3, &body)
    }

    pub fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let padded = body.len().next_multiple_of(4);
        let length = self.order.u32(padded as u32 + 12);
        self.bytes.extend(self.order.u32(kind));
        self.bytes.extend(length);
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len() + padded - body.len(), 0);
        self.bytes.extend(length);
        self
    }
}
