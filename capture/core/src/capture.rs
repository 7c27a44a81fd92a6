//! The machine: packets and times in, segments out.

mod upkeep;

#[cfg(test)]
mod tests;

use wirecall_schemas::{ChunkCause, ChunkKind, Orientation, Segment, Timestamp, Transport};

use crate::config::CaptureConfig;
use crate::filter::Filter;
use crate::flow::clock::Clock;
use crate::flow::ended::Ended;
use crate::flow::identity::{Identities, handshake_key, tuple_id, tuple_key};
use crate::flow::key::{FlowKey, Sighting};
use crate::flow::orientation;
use crate::flow::table::{Table, Waiting};
use crate::flow::tcp::TcpConnection;
use crate::flow::udp::UdpFlow;
use crate::limits::{Limit, Limits};
use crate::packet::fragment::Fragments;
use crate::packet::{ACK, Addresses, Body, Decoded, Packet, RST, SYN, TcpHeader, decode, decode_datagram};
use crate::reassembly::Context;
use crate::segment::{Channel, Head, Moment, Output, Run};
use crate::stats::{Reason, Stats};

/// A flow in the table; boxed, so that the table stays small and grows cheaply.
enum Flow {
    Tcp(Box<TcpConnection>),
    Udp(Box<UdpFlow>),
    /// A TCP connection that has ended.
    Ended(Ended),
}

impl Flow {
    /// Keeps only what tells stragglers apart, once the close was published; true if it was.
    fn forget_if_closed(&mut self) -> bool {
        match self {
            Self::Tcp(tcp) if tcp.is_closed() => {
                *self = Self::Ended(tcp.ended());
                true
            }
            _ => false,
        }
    }

    /// What the flow writes to, while it is open.
    fn channel_mut(&mut self) -> Option<&mut Channel> {
        match self {
            Self::Tcp(tcp) => Some(&mut tcp.channel),
            Self::Udp(udp) => Some(&mut udp.channel),
            Self::Ended(_) => None,
        }
    }
}

struct Tracked {
    flow: Flow,
    /// The client is the lower end of the key.
    client_is_low: bool,
}

/// Turns packets into segments.
///
/// Feed packets with [`Capture::handle_packet`], time with [`Capture::handle_time`], and take segments with
/// [`Capture::poll_segment`] after each. At the end call [`Capture::finish`] and poll once more.
pub struct Capture {
    filter: Filter,
    has_filter: bool,
    clock: Clock,
    table: Table<Tracked>,
    fragments: Fragments,
    shared: Shared,
    open: usize,
    /// No idle time or fragment can run out before this.
    next_sweep: i64,
}

/// What all connections write to, apart from the table that holds them.
struct Shared {
    output: Output,
    stats: Stats,
    identities: Identities,
    limits: Limits,
}

impl Shared {
    const fn context(&mut self, moment: Moment) -> Context<'_> {
        Context {
            output: &mut self.output,
            stats: &mut self.stats,
            identities: &mut self.identities,
            limits: &self.limits,
            moment,
        }
    }
}

/// A packet on its way through the table.
struct Arrival {
    sighting: Sighting,
    moment: Moment,
    /// Frames it came in: more than one when it was fragmented.
    packets: u64,
}

impl Capture {
    /// Begins a capture.
    #[must_use]
    pub fn new(config: CaptureConfig) -> Self {
        Self {
            has_filter: !config.filter.is_empty(),
            shared: Shared {
                output: Output::new(&config),
                stats: Stats::default(),
                identities: Identities::default(),
                limits: config.limits,
            },
            filter: config.filter,
            clock: Clock::default(),
            table: Table::default(),
            fragments: Fragments::default(),
            open: 0,
            next_sweep: i64::MIN,
        }
    }

    /// Takes one frame.
    pub fn handle_packet(&mut self, packet: Packet<'_>) {
        let now = self.clock.advance(packet.time);
        self.run_timers(now);
        let captured = packet.data.len() as u64;
        self.shared.stats.read.packets += 1;
        self.shared.stats.read.bytes += captured;
        let moment = Moment { now, time: packet.time };
        match decode(&packet, self.shared.limits.headers) {
            Ok(decoded) => self.handle_decoded(decoded, &packet, 1, captured, moment),
            Err(reason) => self.refuse(reason, 1, captured),
        }
        self.bound_memory(moment);
    }

    /// Tells the time while no packet comes, so that runs are published and idle connections close.
    pub fn handle_time(&mut self, now: Timestamp) {
        let now = self.clock.advance(now);
        self.run_timers(now);
    }

    /// Ends the capture: closes every connection with the reason and settles all that waits.
    pub fn finish(&mut self, reason: ChunkCause) {
        self.fragments.finish(&mut self.shared.stats);
        let moment = self.moment();
        for index in self.table.indexes() {
            self.close(index, reason, moment);
            self.table.remove(index);
        }
    }

    /// The next segment that is ready.
    pub fn poll_segment(&mut self) -> Option<Segment> {
        self.shared.output.poll()
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Bytes held in run buffers, reorder buffers and fragments. Segments that wait to be polled are not among them.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.shared.output.held() + self.fragments.held()
    }

    /// Connections and flows that are open.
    #[must_use]
    pub const fn open_connections(&self) -> usize {
        self.open
    }

    /// Replaces the filter, for instance when the agent's Kafka connections have changed. Connections under way keep
    /// what they have; their next packets are judged by the new filter.
    pub fn set_filter(&mut self, filter: Filter) {
        self.has_filter = !filter.is_empty();
        self.filter = filter;
    }

    const fn moment(&self) -> Moment {
        Moment { now: self.clock.now(), time: self.clock.capture_time() }
    }

    fn refuse(&mut self, reason: Reason, packets: u64, captured: u64) {
        if reason == Reason::NestingLimit {
            self.shared.stats.reach(Limit::Headers);
        }
        self.shared.stats.count(reason, packets, captured);
    }

    fn handle_decoded(
        &mut self,
        decoded: Decoded<'_>,
        packet: &Packet<'_>,
        packets: u64,
        captured: u64,
        moment: Moment,
    ) {
        match decoded {
            Decoded::Tcp { addresses, header, body } => {
                let ports = [header.source_port, header.destination_port];
                let counted = self.count_headers(&addresses, ports, &body, packets, captured);
                if counted {
                    let sighting = FlowKey::of(&addresses, ports, Transport::Tcp);
                    self.handle_tcp(&header, &body, packet, Arrival { sighting, moment, packets });
                }
            }
            Decoded::Udp { addresses, source_port, destination_port, body } => {
                let ports = [source_port, destination_port];
                let counted = self.count_headers(&addresses, ports, &body, packets, captured);
                if counted {
                    let sighting = FlowKey::of(&addresses, ports, Transport::Udp);
                    self.handle_udp(ports, &body, packet, Arrival { sighting, moment, packets });
                }
            }
            Decoded::Fragment(part) => {
                let limits = &self.shared.limits;
                let whole = self.fragments.handle(
                    &part,
                    (packets, captured),
                    moment.now,
                    limits,
                    &mut self.shared.stats,
                );
                self.next_sweep = self.next_sweep.min(self.fragments.next_deadline().unwrap_or(i64::MAX));
                let Some(datagram) = whole else { return };
                match decode_datagram(&datagram) {
                    Ok(decoded) => {
                        self.handle_decoded(decoded, packet, datagram.packets, datagram.captured, moment);
                    }
                    Err(reason) => self.refuse(reason, datagram.packets, datagram.captured),
                }
            }
        }
    }

    /// Counts what is not payload; false if the filter leaves the packet out.
    fn count_headers(
        &mut self,
        addresses: &Addresses,
        ports: [u16; 2],
        body: &Body<'_>,
        packets: u64,
        captured: u64,
    ) -> bool {
        if self.has_filter
            && let Some(reason) = self.filter.refuses(addresses, ports)
        {
            self.shared.stats.count(reason, packets, captured);
            return false;
        }
        let padding = body.padding as u64;
        self.shared.stats.count(Reason::Padding, 0, padding);
        self.shared.stats.count(Reason::Headers, 0, captured - padding - body.data.len() as u64);
        true
    }

    fn handle_tcp(&mut self, header: &TcpHeader, body: &Body<'_>, packet: &Packet<'_>, arrival: Arrival) {
        let payload = body.data.len() + body.missing;
        let mut found = self
            .table
            .find(arrival.sighting, body.domain)
            .or_else(|| self.second_sighting(header, body, &arrival));
        if let Some(index) = found
            && self.is_replaced(index, header, payload, arrival.sighting.from_low)
        {
            self.close(index, ChunkCause::PortReuse, arrival.moment);
            self.table.remove(index);
            found = None;
        }
        let index = match found {
            Some(index) => index,
            None if header.has(RST) => {
                self.shared.stats.count(Reason::Stray, arrival.packets, body.data.len() as u64);
                return;
            }
            None => self.begin_tcp(header, body.domain, packet, &arrival),
        };
        let mut context = self.shared.context(arrival.moment);
        let Some(tracked) = self.table.get_mut(index) else { return };
        let side = side(tracked.client_is_low, arrival.sighting.from_low);
        let waiting = match &mut tracked.flow {
            Flow::Tcp(tcp) => {
                tcp.handle(side, header, body, arrival.packets, &mut context);
                tcp.waiting()
            }
            _ => {
                self.shared.stats.count(Reason::AfterClose, arrival.packets, body.data.len() as u64);
                Waiting::Linger
            }
        };
        let has_ended = tracked.flow.forget_if_closed();
        self.open -= usize::from(has_ended);
        let waiting = if has_ended { Waiting::Linger } else { waiting };
        self.touch(index, waiting, arrival.moment.now);
    }

    /// Whether a packet begins a new connection in the place of one with the same addresses and ports.
    fn is_replaced(&mut self, index: u32, header: &TcpHeader, payload: usize, from_low: bool) -> bool {
        let window = self.shared.limits.reorder_bytes;
        self.table.get_mut(index).is_some_and(|tracked| {
            let side = side(tracked.client_is_low, from_low);
            match &tracked.flow {
                Flow::Tcp(tcp) => tcp.is_replaced_by(side, header),
                Flow::Ended(ended) => ended.is_replaced_by(side, header, payload, window),
                Flow::Udp(_) => false,
            }
        })
    }

    /// A connection that is seen in two address spaces at once is one: its second sighting repeats the first.
    fn second_sighting(&mut self, header: &TcpHeader, body: &Body<'_>, arrival: &Arrival) -> Option<u32> {
        let (index, tracked) = self.table.namesake(arrival.sighting)?;
        let Flow::Tcp(tcp) = &tracked.flow else { return None };
        let side = side(tracked.client_is_low, arrival.sighting.from_low);
        if !tcp.began_with(side, header) {
            return None;
        }
        self.table.add_alias(index, arrival.sighting, body.domain);
        Some(index)
    }

    fn begin_tcp(&mut self, header: &TcpHeader, domain: u32, packet: &Packet<'_>, arrival: &Arrival) -> u32 {
        let ports = [header.source_port, header.destination_port];
        let (sender_is_client, orientation) = match (header.has(SYN), header.has(ACK)) {
            (true, false) => (true, Orientation::Syn),
            (true, true) => (false, Orientation::SynAck),
            (false, _) => orientation::guess(ports[0], ports[1]),
        };
        let client_isn = match orientation {
            Orientation::Syn => Some(header.sequence),
            Orientation::SynAck => Some(header.acknowledgement.wrapping_sub(1)),
            _ => None,
        };
        let key = match client_isn {
            Some(isn) => handshake_key(isn),
            None => tuple_key(&arrival.sighting.key, domain),
        };
        let client_is_low = sender_is_client == arrival.sighting.from_low;
        self.make_room(arrival.moment);
        let claim = client_isn.is_none().then(|| self.claim_tuple(arrival, domain));
        let ends = ends(&arrival.sighting.key, client_is_low);
        let interface = packet.interface.cloned();
        let waiting = if claim.is_some() { Waiting::Tcp } else { Waiting::Handshake };
        let index =
            self.table.insert(arrival.sighting, domain, waiting, arrival.moment.now, |slot, tuple| {
                let head = Head {
                    slot,
                    id: claim.map(|claim| claim.id),
                    key,
                    transport: Transport::Tcp,
                    client: ends.0,
                    server: ends.1,
                    orientation,
                    interface,
                };
                let channel = Channel { head, run: Run::default() };
                Tracked {
                    flow: Flow::Tcp(Box::new(TcpConnection::new(channel, tuple, claim))),
                    client_is_low,
                }
            });
        self.began(waiting, arrival.moment.now);
        let kind = if claim.is_some() { ChunkKind::MidStream } else { ChunkKind::Open };
        let mut context = self.shared.context(arrival.moment);
        if let Some(Tracked { flow: Flow::Tcp(tcp), .. }) = self.table.get_mut(index) {
            tcp.open(usize::from(!sender_is_client), kind, &mut context);
        }
        index
    }

    fn handle_udp(&mut self, ports: [u16; 2], body: &Body<'_>, packet: &Packet<'_>, arrival: Arrival) {
        let index = match self.table.find(arrival.sighting, body.domain) {
            Some(index) => index,
            None => self.begin_udp(ports, body.domain, packet, &arrival),
        };
        let mut context = self.shared.context(arrival.moment);
        let Some(Tracked { flow: Flow::Udp(udp), client_is_low }) = self.table.get_mut(index) else { return };
        let side = side(*client_is_low, arrival.sighting.from_low);
        udp.handle(side, body, arrival.packets, &mut context);
        self.touch(index, Waiting::Udp, arrival.moment.now);
    }

    fn begin_udp(&mut self, ports: [u16; 2], domain: u32, packet: &Packet<'_>, arrival: &Arrival) -> u32 {
        let (sender_is_client, orientation) = orientation::guess(ports[0], ports[1]);
        let client_is_low = sender_is_client == arrival.sighting.from_low;
        self.make_room(arrival.moment);
        let claim = self.claim_tuple(arrival, domain);
        let key = tuple_key(&arrival.sighting.key, domain);
        let ends = ends(&arrival.sighting.key, client_is_low);
        let interface = packet.interface.cloned();
        let index =
            self.table.insert(arrival.sighting, domain, Waiting::Udp, arrival.moment.now, |slot, _| {
                let head = Head {
                    slot,
                    id: Some(claim.id),
                    key,
                    transport: Transport::Udp,
                    client: ends.0,
                    server: ends.1,
                    orientation,
                    interface,
                };
                let channel = Channel { head, run: Run::default() };
                Tracked { flow: Flow::Udp(Box::new(UdpFlow::new(channel, claim))), client_is_low }
            });
        self.began(Waiting::Udp, arrival.moment.now);
        let mut context = self.shared.context(arrival.moment);
        if let Some(Tracked { flow: Flow::Udp(udp), .. }) = self.table.get_mut(index) {
            udp.open(usize::from(!sender_is_client), &mut context);
        }
        index
    }

    fn claim_tuple(&mut self, arrival: &Arrival, domain: u32) -> crate::flow::identity::Claim {
        let key = arrival.sighting.key;
        let unsalted = tuple_id(&key, domain, arrival.moment.time);
        let bound = self.shared.limits.recent_ids;
        self.shared.identities.claim(unsalted, key, None, bound, &mut self.shared.stats)
    }

    fn began(&mut self, waiting: Waiting, now: i64) {
        self.open += 1;
        self.shared.stats.connections += 1;
        self.next_sweep = self.next_sweep.min(now.saturating_add(self.idle_time(waiting)));
    }

    fn touch(&mut self, index: u32, waiting: Waiting, now: i64) {
        if self.table.touch(index, waiting, now) {
            while let Some(oldest) = self.table.surplus(Waiting::Linger, self.shared.limits.ended_connections)
            {
                self.shared.stats.reach(Limit::EndedConnections);
                self.table.remove(oldest);
            }
            self.next_sweep = self.next_sweep.min(now.saturating_add(self.idle_time(waiting)));
        }
    }

    const fn idle_time(&self, waiting: Waiting) -> i64 {
        let limits = &self.shared.limits;
        match waiting {
            Waiting::Linger => limits.linger_time,
            Waiting::Handshake => limits.handshake_time,
            Waiting::Udp => limits.udp_idle_time,
            Waiting::Tcp => limits.tcp_idle_time,
        }
    }

    /// Closes the least useful connections while the table is full.
    fn make_room(&mut self, moment: Moment) {
        while self.table.len() >= self.shared.limits.connections.max(1) {
            let Some(index) = self.table.least_useful() else { return };
            if self.close(index, ChunkCause::Evicted, moment) {
                self.shared.stats.reach(Limit::Connections);
            }
            self.table.remove(index);
        }
    }

    /// Publishes a connection's end; false if it had ended before.
    fn close(&mut self, index: u32, cause: ChunkCause, moment: Moment) -> bool {
        let mut context = self.shared.context(moment);
        match self.table.get_mut(index).map(|tracked| &mut tracked.flow) {
            Some(Flow::Tcp(tcp)) => tcp.close((0, cause), &mut context),
            Some(Flow::Udp(udp)) => udp.close(cause, &mut context),
            Some(Flow::Ended(_)) | None => return false,
        }
        self.open -= 1;
        true
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Capture")
            .field("open", &self.open)
            .field("stats", &self.shared.stats)
            .finish_non_exhaustive()
    }
}

/// 0 when the client sent the packet, 1 when the server did.
fn side(client_is_low: bool, from_low: bool) -> usize {
    usize::from(client_is_low != from_low)
}

/// Client and server of a key.
fn ends(key: &FlowKey, client_is_low: bool) -> (wirecall_schemas::Endpoint, wirecall_schemas::Endpoint) {
    if client_is_low { (key.low(), key.high()) } else { (key.high(), key.low()) }
}
