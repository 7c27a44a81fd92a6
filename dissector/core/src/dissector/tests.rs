use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use bytestring::ByteString;
use wirecall_schemas::{
    Call, CaptureMethod, Cause, Chunk, ChunkCause, ChunkKind, Completeness, ConnectionId, ConnectionKey,
    Direction, Endpoint, Orientation, Segment, Timestamp, Totals, Transport, VantageKind,
};

use super::*;
use crate::protocol::echo::Echo;
use crate::protocol::testing::Scripted;
use crate::protocol::{Opening, Verdict};

const CLIENT: Direction = Direction::ClientToServer;
const SERVER: Direction = Direction::ServerToClient;

/// Writes the records of one connection.
struct Agent {
    record: Segment,
    ends: [i64; 2],
    time: i64,
}

impl Agent {
    fn new(id: u8) -> Self {
        let end = |last, port| Endpoint { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port };
        let record = Segment {
            connection_id: ConnectionId::new([id; 16]),
            connection_key: ConnectionKey::new([id; 8]),
            transport: Transport::Tcp,
            client: end(1, 40_000),
            server: end(2, 9_999),
            orientation: Orientation::Syn,
            vantage: VantageKind::Server,
            capture_method: CaptureMethod::Pcap,
            agent_id: ByteString::from_static("node-a"),
            agent_epoch: 0,
            partition: 3,
            sequence: 0,
            interface: None,
            process: None,
            chunks: Vec::new(),
            totals: None,
            payload: Bytes::new(),
        };
        Self { record, ends: [0; 2], time: 1_000_000 }
    }

    fn udp(id: u8) -> Self {
        let mut agent = Self::new(id);
        agent.record.transport = Transport::Udp;
        agent
    }

    fn chunk(
        &mut self,
        direction: Direction,
        kind: ChunkKind,
        cause: ChunkCause,
        length: usize,
    ) -> &mut Self {
        let end = &mut self.ends[usize::from(direction == SERVER)];
        self.time += 10;
        let length = length as i64;
        let time = Timestamp::from_micros(self.time);
        self.record.chunks.push(Chunk { direction, kind, cause, offset: *end, length, time });
        *end += length;
        self
    }

    fn open(&mut self) -> &mut Self {
        self.chunk(CLIENT, ChunkKind::Open, ChunkCause::None, 0)
    }

    fn data(&mut self, direction: Direction, data: &[u8]) -> &mut Self {
        self.record.payload = [&self.record.payload[..], data].concat().into();
        self.chunk(direction, ChunkKind::Data, ChunkCause::None, data.len())
    }

    fn lost(&mut self, direction: Direction, length: usize) -> &mut Self {
        self.ends[usize::from(direction == SERVER)] += length as i64;
        self
    }

    fn close(&mut self, reason: ChunkCause) -> &mut Self {
        self.chunk(CLIENT, ChunkKind::Close, reason, 0)
    }

    /// The record as it stands; the next one begins empty.
    fn record(&mut self) -> Segment {
        let record = self.record.clone();
        self.record.sequence += 1;
        self.record.chunks.clear();
        self.record.totals = None;
        self.record.payload = Bytes::new();
        record
    }
}

fn dissector(limits: Limits) -> Dissector {
    Dissector::new(Registry::empty().with(Echo), limits)
}

fn calls(dissector: &mut Dissector) -> Vec<Call> {
    std::iter::from_fn(|| dissector.poll_call()).collect()
}

fn play(dissector: &mut Dissector, records: &[Segment]) -> Vec<Call> {
    for record in records {
        dissector.handle_segment(record, None).unwrap();
    }
    calls(dissector)
}

fn targets(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|call| call.target.as_deref().unwrap_or("-")).collect()
}

#[test]
fn an_undissected_connection_gives_one_record() {
    let mut agent = Agent::new(1);
    agent.open().data(CLIENT, b"\x16\x03\x01").data(SERVER, b"\x16\x03\x03\x00").lost(SERVER, 7);
    agent.data(SERVER, b"\0").chunk(CLIENT, ChunkKind::Gap, ChunkCause::Loss, 9).close(ChunkCause::Fin);
    agent.record.totals = Some(Totals { client_packets: 5, server_packets: 4, ..Totals::default() });
    let calls = play(&mut dissector(Limits::default()), &[agent.record()]);
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(
        (&*call.protocol, call.completeness, call.completeness_cause),
        ("tcp", Completeness::Complete, None)
    );
    assert_eq!((&call.operation, &call.target, &call.status), (&None, &None, &None));
    assert!(call.request.is_none() && call.response.is_none() && !call.ledger.mid_stream);
    let summary = call.connection.as_ref().unwrap();
    assert_eq!((summary.open_time, summary.close_time), (call.start_time, call.end_time));
    assert_eq!(call.start_time.unwrap().as_micros(), 1_000_010);
    assert_eq!(call.end_time.unwrap().as_micros(), 1_000_060);
    assert_eq!((summary.client_stream_bytes, summary.server_stream_bytes), (3, 5));
    assert_eq!((call.ledger.request_gap_bytes, call.ledger.response_gap_bytes), (9, 7));
    assert_eq!((summary.totals.client_packets, summary.close_reason), (5, ChunkCause::Fin));
    assert_eq!((call.provenance.partition, &call.provenance.topic), (Some(3), &None));
    assert_eq!((call.provenance.first_sequence, call.provenance.last_sequence), (Some(0), Some(0)));
    assert!(!call.ledger.one_sided && !call.ledger.orientation_guessed);
}

#[test]
fn a_connection_without_bytes_gives_a_record_too() {
    let mut agent = Agent::new(1);
    let calls = play(&mut dissector(Limits::default()), &[agent.open().close(ChunkCause::Reset).record()]);
    assert_eq!((calls.len(), calls[0].completeness), (1, Completeness::Complete));
    assert!(calls[0].ledger.one_sided);
}

#[test]
fn a_datagram_flow_gives_one_record() {
    let mut agent = Agent::udp(1);
    agent
        .open()
        .data(CLIENT, b"\x01")
        .data(SERVER, b"\x02")
        .data(CLIENT, b"\x03\x04")
        .close(ChunkCause::Idle);
    let calls = play(&mut dissector(Limits::default()), &[agent.record()]);
    assert_eq!((calls.len(), &*calls[0].protocol), (1, "udp"));
    assert_eq!(calls[0].completeness, Completeness::Complete, "silence is how a flow ends");
    assert_eq!(calls[0].connection.as_ref().unwrap().client_stream_bytes, 3);
}

#[test]
fn what_was_not_seen_of_a_connection_is_said() {
    let mut late = Agent::new(1);
    let mut cut = Agent::new(2);
    let mut dissector = dissector(Limits::default());
    let mut all = play(
        &mut dissector,
        &[late.data(CLIENT, b"\0\0").close(ChunkCause::Fin).record(), cut.open().record()],
    );
    dissector.finish();
    all.extend(calls(&mut dissector));
    assert_eq!(
        all.iter().map(|call| call.completeness_cause).collect::<Vec<_>>(),
        [Some(Cause::MidStream), Some(Cause::EndOfCapture)]
    );
    assert!(all.iter().all(|call| call.completeness == Completeness::Partial));
    assert_eq!((all[0].start_time, all[0].ledger.mid_stream), (None, true));
    assert_eq!(dissector.stats().sum(Counter::ConnectionsMidStream), 1);
    assert_eq!(all[1].connection.as_ref().unwrap().close_time, None);
}

#[test]
fn connection_records_are_a_choice() {
    let mut agent = Agent::new(1);
    agent.open().data(CLIENT, b"hello\n").data(SERVER, b"hello\n").close(ChunkCause::Fin);
    let record = agent.record();
    for (choice, expected) in [
        (ConnectionRecords::All, &["echo", "tcp"][..]),
        (ConnectionRecords::Undissected, &["echo"]),
        (ConnectionRecords::None, &["echo"]),
    ] {
        let mut dissector = dissector(Limits::default()).with_connection_records(choice);
        let calls = play(&mut dissector, std::slice::from_ref(&record));
        assert_eq!(calls.iter().map(|call| &*call.protocol).collect::<Vec<_>>(), expected, "{choice:?}");
        let dissected =
            calls.last().and_then(|call| call.connection.as_ref()).map(|summary| &summary.dissected_as);
        assert!(dissected.is_none_or(|name| name.as_deref() == Some("echo")));
    }
}

#[test]
fn calls_know_where_their_bytes_lie() {
    let mut agent = Agent::new(1);
    let records = [
        agent.open().data(CLIENT, b"hello\n").record(),
        agent.record(),
        agent.data(SERVER, b"hello\n").record(),
    ];
    let mut dissector = dissector(Limits::default());
    for record in &records {
        let position = LogPosition {
            topic: ByteString::from_static("segments"),
            partition: 5,
            offset: 100 + record.sequence,
        };
        dissector.handle_segment(record, Some(&position)).unwrap();
    }
    let provenance = calls(&mut dissector).remove(0).provenance;
    assert_eq!((provenance.first_offset, provenance.last_offset), (Some(100), Some(102)));
    assert_eq!((provenance.first_sequence, provenance.last_sequence), (Some(0), Some(2)));
    assert_eq!((provenance.topic.as_deref(), provenance.partition), (Some("segments"), Some(5)));
    assert_eq!((&*provenance.parser, provenance.parser_version), ("echo", 1));
}

#[test]
fn vantages_of_one_connection_stay_apart_with_ids_of_their_own() {
    let mut here = Agent::new(1);
    let mut there = Agent::new(1);
    there.record.agent_id = ByteString::from_static("node-b");
    let mut behind = Agent::new(1);
    behind.record.server.port = 8_080;
    let mut dissector = dissector(Limits::default());
    let records: Vec<_> = [&mut here, &mut there, &mut behind]
        .map(|agent| agent.open().data(CLIENT, b"hello\n").data(SERVER, b"hello\n").record())
        .into();
    let calls = play(&mut dissector, &records);
    assert_eq!(targets(&calls), ["hello"; 3]);
    let mut ids: Vec<_> = calls.iter().map(|call| call.call_id).collect();
    ids.dedup();
    assert_eq!((ids.len(), dissector.open_connections()), (3, 3));
}

#[test]
fn the_same_segments_give_the_same_ids_for_ever() {
    let mut agent = Agent::new(1);
    agent.open().data(CLIENT, b"hello\n").data(SERVER, b"hello\n");
    let calls = play(&mut dissector(Limits::default()), &[agent.record()]);
    assert_eq!(calls[0].call_id.to_string(), "506c2217d881a279b505a79a002aa767");
}

#[test]
fn an_agent_may_change_its_mind_who_the_client_is() {
    let mut agent = Agent::new(1);
    let first = agent.open().data(CLIENT, b"hello\n").record();
    let mut second = agent.data(SERVER, b"hello\n").record();
    std::mem::swap(&mut second.client, &mut second.server);
    second.chunks[0].direction = CLIENT;
    let calls = play(&mut dissector(Limits::default()), &[first, second]);
    assert_eq!((targets(&calls), calls[0].client.port), (vec!["hello"], 40_000));
}

#[test]
fn bytes_missing_between_records_are_a_gap() {
    let mut agent = Agent::new(1);
    agent.open().data(CLIENT, b"first\n").data(SERVER, b"first\n");
    agent.data(CLIENT, b"sec").lost(CLIENT, 4).data(CLIENT, b"rd\nfourth\n").data(SERVER, b"fourth\n");
    let mut dissector = dissector(Limits::default());
    let calls = play(&mut dissector, &[agent.record()]);
    assert_eq!(targets(&calls), ["first", "fourth"]);
    assert_eq!((calls[1].ledger.request_gap_bytes, calls[1].vantages[0].gap_bytes), (4, 4));
    assert_eq!(dissector.stats().sum(Counter::HoleBytes), 4);
}

#[test]
fn a_hole_at_the_start_of_an_opened_connection_is_a_gap() {
    let mut agent = Agent::new(1);
    agent.open().lost(CLIENT, 3).data(CLIENT, b"st\nsecond\n").lost(SERVER, 2).data(SERVER, b"rst\nsecond\n");
    let mut dissector = dissector(Limits::default());
    let calls = play(&mut dissector, &[agent.record()]);
    assert_eq!(targets(&calls), ["second"]);
    assert_eq!((calls[0].ledger.request_gap_bytes, calls[0].ledger.response_gap_bytes), (3, 2));
    assert!(!calls[0].ledger.mid_stream && calls[0].ledger.resynchronised);
    assert_eq!(dissector.stats().sum(Counter::HoleBytes), 5);
}

#[test]
fn a_connection_that_ended_ignores_what_it_said_before() {
    let mut agent = Agent::new(1);
    let records = [
        agent.open().data(CLIENT, b"hello\n").data(SERVER, b"hello\n").record(),
        agent.close(ChunkCause::Fin).record(),
    ];
    let mut dissector = dissector(Limits::default());
    assert_eq!(play(&mut dissector, &records).len(), 1);
    assert_eq!(play(&mut dissector, &records), [], "delivered again");
    assert_eq!((dissector.stats().sum(Counter::SegmentsAfterClose), dissector.open_connections()), (2, 0));
}

#[test]
fn a_connection_that_goes_on_after_its_end_has_new_ids() {
    let mut agent = Agent::new(1);
    let first =
        agent.open().data(CLIENT, b"hello\n").data(SERVER, b"hello\n").close(ChunkCause::Idle).record();
    let second = agent.data(CLIENT, b"x\nworld\nlater\n").data(SERVER, b"x\nworld\nlater\n").record();
    let calls = play(&mut dissector(Limits::default()), &[first, second]);
    assert_eq!(targets(&calls), ["hello", "world", "later"]);
    assert!(calls[1].ledger.mid_stream && calls[0].call_id != calls[1].call_id);
}

#[test]
fn closed_connections_are_remembered_up_to_the_limit() {
    let mut dissector = dissector(Limits { closed_remembered: 2, ..Limits::default() });
    let records: Vec<_> = (0..4).map(|id| Agent::new(id).open().close(ChunkCause::Fin).record()).collect();
    assert_eq!(play(&mut dissector, &records).len(), 4);
    assert_eq!((dissector.closed.len(), dissector.closed_order.len()), (2, 2));
    assert_eq!(play(&mut dissector, &records[2..]).len(), 0);
    assert_eq!(play(&mut dissector, &records[..1]).len(), 1, "forgotten, so taken for new");
}

#[test]
fn silent_connections_expire_by_the_clock_of_the_log() {
    let limits = Limits { idle_micros: 1_000, ..Limits::default() };
    let (mut quiet, mut lively, mut later) = (Agent::new(1), Agent::new(2), Agent::new(3));
    let mut dissector = dissector(limits);
    assert_eq!(play(&mut dissector, &[quiet.open().record(), lively.open().record()]).len(), 0);
    lively.time += 600;
    assert_eq!(play(&mut dissector, &[lively.data(CLIENT, b"hello").record()]).len(), 0);
    later.time += 1_000;
    let expired = play(&mut dissector, &[later.open().record()]);
    assert_eq!((expired.len(), expired[0].connection_id), (1, ConnectionId::new([1; 16])));
    assert_eq!(expired[0].completeness_cause, Some(Cause::Idle));
    dissector.handle_time(Timestamp::from_micros(1_001_619));
    assert_eq!(calls(&mut dissector).len(), 0);
    dissector.handle_time(Timestamp::from_micros(1_001_620));
    assert_eq!(
        calls(&mut dissector)[0].connection_id,
        ConnectionId::new([2; 16]),
        "exactly after the idle time"
    );
    assert_eq!(dissector.stats().sum(Counter::ConnectionsExpired), 2);
}

#[test]
fn one_wild_time_does_not_end_all_connections() {
    let mut dissector = dissector(Limits::default());
    let (mut honest, mut wild) = (Agent::new(1), Agent::new(2));
    wild.time = 1 << 60;
    let records = [honest.open().record(), wild.open().record(), honest.data(CLIENT, b"\0").record()];
    assert_eq!(play(&mut dissector, &records).len(), 0);
    assert_eq!(dissector.open_connections(), 2);
    for step in 0..2_000 {
        dissector.handle_time(Timestamp::from_micros((1 << 60) + step));
    }
    assert_eq!(dissector.open_connections(), 0, "time that goes on ends them");
}

#[test]
fn the_longest_silent_make_room() {
    let mut dissector = dissector(Limits { connections: 3, ..Limits::default() });
    let mut agents: Vec<_> = (0..4).map(Agent::new).collect();
    for (index, agent) in agents.iter_mut().enumerate() {
        agent.time += 100 * index as i64;
    }
    let mut records: Vec<_> = agents[..3].iter_mut().map(|agent| agent.open().record()).collect();
    agents[0].time += 250;
    records.push(agents[0].data(CLIENT, b"\0").record());
    records.push(agents[3].open().record());
    let evicted = play(&mut dissector, &records);
    assert_eq!((evicted.len(), evicted[0].connection_id), (1, ConnectionId::new([1; 16])));
    assert_eq!(evicted[0].completeness_cause, Some(Cause::Evicted));
    assert_eq!((dissector.open_connections(), dissector.stats().sum(Counter::ConnectionsEvicted)), (3, 1));
}

#[test]
fn records_that_contradict_themselves_are_refused_whole() {
    let mut agent = Agent::new(1);
    let mut record = agent.open().data(CLIENT, b"hello\n").record();
    record.payload = Bytes::from_static(b"hell");
    let mut dissector = dissector(Limits::default());
    let refused = dissector.handle_segment(&record, None).unwrap_err();
    assert!(
        refused.to_string().contains("node-a") && refused.to_string().contains("dead letters"),
        "{refused}"
    );
    assert_eq!((dissector.open_connections(), dissector.stats().sum(Counter::SegmentsRefused)), (0, 1));
}

#[test]
fn agents_names_are_shared_up_to_the_limit() {
    let mut dissector = dissector(Limits { agents: 2, ..Limits::default() });
    for id in 0..5 {
        let mut agent = Agent::new(id);
        agent.record.agent_id = ByteString::from(format!("node-{id}"));
        let calls = play(&mut dissector, &[agent.open().close(ChunkCause::Fin).record()]);
        assert_eq!(&*calls[0].provenance.agent_id, format!("node-{id}"));
    }
    assert_eq!(dissector.agents.len(), 2);
}

#[test]
fn a_withdrawn_protocol_gives_its_bytes_to_the_next() {
    let registry = || Registry::empty().with(Scripted::withdrawing()).with(Echo);
    let mut agent = Agent::new(1);
    agent.open().data(CLIENT, b"hel").data(CLIENT, b"lo\n").data(SERVER, b"hello\n").close(ChunkCause::Fin);
    let record = agent.record();
    let mut dissector = Dissector::new(registry(), Limits::default());
    let calls = play(&mut dissector, std::slice::from_ref(&record));
    assert_eq!((targets(&calls), &*calls[0].provenance.parser), (vec!["hello"], "echo"));
    assert_eq!(calls[0].completeness, Completeness::Matched);
    assert_eq!(dissector.stats().sum(Counter::ProtocolsWithdrawn), 1);
    let mut dissector = Dissector::new(registry(), Limits { trial_bytes: 2, ..Limits::default() });
    let calls = play(&mut dissector, &[record]);
    assert_eq!((calls.len(), &*calls[0].protocol), (1, "tcp"), "beyond the trial the first bytes are gone");
}

#[test]
fn a_handed_over_connection_goes_on_in_the_next_protocol() {
    let mut agent = Agent::new(1);
    agent.open().data(CLIENT, b"!tunnel\n").data(CLIENT, b"hello\n").data(SERVER, b"hello\n");
    let mut dissector =
        Dissector::new(Registry::empty().with(Scripted::handing_over()).with(Echo), Limits::default());
    let calls = play(&mut dissector, &[agent.record()]);
    assert_eq!(targets(&calls), ["!tunnel", "hello"]);
    assert_eq!(calls.iter().map(|call| &*call.provenance.parser).collect::<Vec<_>>(), ["hands_over", "echo"]);
    assert_eq!(calls[1].index, 1);
}

#[test]
fn what_nobody_takes_over_is_opaque_and_its_open_call_is_emitted() {
    let mut agent = Agent::new(1);
    agent
        .open()
        .data(CLIENT, b"!elsewhere\n")
        .data(CLIENT, b"hello\n")
        .data(SERVER, b"hello\n")
        .close(ChunkCause::Fin);
    let mut dissector =
        Dissector::new(Registry::empty().with(Scripted::handing_over()).with(Echo), Limits::default());
    let calls = play(&mut dissector, &[agent.record()]);
    assert_eq!(targets(&calls), ["!elsewhere"]);
    // Once, and once more where the talk turned.
    assert_eq!(dissector.stats().sum(Counter::ConnectionsOpaque), 2);
    assert_eq!(dissector.stats().sum(Counter::OpaqueBytes), 12);
}

#[test]
fn hand_overs_end_at_the_limit() {
    let mut agent = Agent::new(1);
    agent.open();
    for _ in 0..20 {
        agent.data(CLIENT, b"!tunnel\n");
    }
    let limits = Limits { hand_overs: 3, ..Limits::default() };
    let mut dissector = Dissector::new(Registry::empty().with(Scripted::handing_over()), limits);
    let calls = play(&mut dissector, &[agent.record()]);
    assert_eq!((calls.len(), dissector.stats().sum(Counter::HandOversRefused)), (4, 1));
}

#[test]
fn a_session_that_reads_nothing_is_bounded() {
    let limits = Limits { stream_bytes: 10_000, ..Limits::default() };
    let mut dissector = Dissector::new(Registry::empty().with(Scripted::idle()), limits);
    let mut agent = Agent::new(1);
    agent.open();
    for _ in 0..100 {
        play(&mut dissector, &[agent.data(CLIENT, &[b'x'; 1_000]).record()]);
        assert!(dissector.held_bytes() <= 10_000, "{}", dissector.held_bytes());
    }
    let shed = dissector.stats().sum(Counter::StreamBytesShed);
    assert_eq!(shed + dissector.held_bytes() as u64, 100_000);
}

#[test]
fn an_undecided_opening_is_bounded() {
    let limits = Limits { trial_bytes: 2_000, ..Limits::default() };
    let mut dissector = dissector(limits);
    let mut agent = Agent::new(1);
    agent.open();
    for _ in 0..100 {
        play(&mut dissector, &[agent.data(CLIENT, &[b'x'; 1_000]).record()]);
        assert!(dissector.held_bytes() <= 3_000);
    }
    assert_eq!(dissector.stats().sum(Counter::ConnectionsOpaque), 1);
}

#[test]
fn an_opaque_connection_joined_late_is_looked_at_again_where_it_turns() {
    let mut agent = Agent::new(1);
    agent.data(CLIENT, &[0; 5_000]).data(SERVER, &[0; 5_000]);
    agent.data(CLIENT, b"x\nhello\n").data(SERVER, b"x\nhello\n");
    let mut dissector = dissector(Limits::default());
    assert_eq!(targets(&play(&mut dissector, &[agent.record()])), ["hello"]);
    let mut never = Agent::new(2);
    never.open().data(CLIENT, &[0; 5_000]).data(SERVER, &[0; 5_000]);
    never.data(CLIENT, b"x\nhello\n").data(SERVER, b"x\nhello\n");
    assert_eq!(play(&mut dissector, &[never.record()]).len(), 0, "its whole beginning was looked at");
}

#[test]
fn a_connection_joined_during_a_download_is_found_at_its_next_request() {
    let mut agent = Agent::new(1);
    for part in 0..200 {
        agent.data(SERVER, &[part as u8 | 1; 1_000]);
    }
    agent.data(CLIENT, b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    agent.data(SERVER, b"HTTP/1.1 204 No Content\r\n\r\n").close(ChunkCause::Fin);
    let mut dissector = Dissector::new(Registry::default(), Limits::default());
    let calls = play(&mut dissector, &[agent.record()]);
    assert_eq!((targets(&calls), calls[0].status.as_deref()), (vec!["/next"], Some("204")));
    assert!(calls[0].ledger.mid_stream);
}

#[test]
fn what_a_tunnel_carries_is_dissected() {
    let mut agent = Agent::new(1);
    agent.open().data(CLIENT, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
    agent.data(SERVER, b"HTTP/1.1 200 Connected\r\n\r\n");
    agent.data(CLIENT, b"GET /inside HTTP/1.1\r\nHost: a\r\n\r\n");
    agent.data(SERVER, b"HTTP/1.1 204 No Content\r\n\r\n").close(ChunkCause::Fin);
    let mut dissector = Dissector::new(Registry::default(), Limits::default());
    let calls = play(&mut dissector, &[agent.record()]);
    assert_eq!(targets(&calls), ["a:80", "/inside"]);
    assert_eq!(dissector.stats().sum(Counter::ProtocolsHandedOver), 1);
}

#[test]
fn a_wrong_guess_of_the_sides_is_corrected_in_the_call() {
    let mut agent = Agent::new(1);
    agent.record.orientation = Orientation::FirstPacket;
    agent.data(SERVER, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    agent.data(CLIENT, b"HTTP/1.1 204 No Content\r\n\r\n").close(ChunkCause::Fin);
    let mut dissector = Dissector::new(Registry::default(), Limits::default());
    let calls = play(&mut dissector, &[agent.record()]);
    assert_eq!((calls[0].client.port, calls[0].server.port), (9_999, 40_000));
    assert_eq!((calls[0].completeness, calls[0].ledger.orientation_guessed), (Completeness::Matched, true));
}

#[test]
fn looking_again_ends_at_the_limit() {
    let mut agent = Agent::new(1);
    for _ in 0..50 {
        agent.data(CLIENT, b"\0").data(SERVER, b"\0");
    }
    agent.data(CLIENT, b"x\nhello\n").data(SERVER, b"x\nhello\n").close(ChunkCause::Fin);
    let mut dissector = dissector(Limits { reprobes: 5, ..Limits::default() });
    let calls = play(&mut dissector, &[agent.record()]);
    assert_eq!((calls.len(), &*calls[0].protocol), (1, "tcp"));
    assert_eq!(dissector.stats().sum(Counter::ConnectionsOpaque), 6);
}

#[test]
fn a_quiet_connection_is_small() {
    let mut dissector = dissector(Limits::default());
    let mut agent = Agent::new(1);
    play(&mut dissector, &[agent.open().data(CLIENT, b"hello\n").data(SERVER, b"hello\n").record()]);
    assert_eq!(dissector.held_bytes(), 0);
    let own = size_of::<Connection>() + size_of::<(Key, Entry)>() + size_of::<((i64, u64), Key)>();
    let session = size_of::<crate::protocol::echo::session::EchoSession>();
    assert!(own + session <= 1_024, "connection and its entries {own}, session {session}");
}

#[test]
fn probes_see_the_window_and_no_more() {
    let probe = |opening: &Opening<'_>| {
        assert!(opening.client.data.len() <= 16, "{}", opening.client.data.len());
        if opening.is_final() { Verdict::No } else { Verdict::NotYet }
    };
    let registry = Registry::empty().with(Scripted::saying("looks", &[], probe));
    let mut dissector = Dissector::new(registry, Limits { probe_bytes: 16, ..Limits::default() });
    let mut agent = Agent::new(1);
    play(&mut dissector, &[agent.open().data(CLIENT, &[0; 15]).record()]);
    assert_eq!(dissector.stats().sum(Counter::ConnectionsOpaque), 0);
    play(&mut dissector, &[agent.data(CLIENT, &[0; 15]).record()]);
    assert_eq!(dissector.held_bytes(), 30, "the server may still decide");
    play(&mut dissector, &[agent.data(SERVER, &[0; 16]).record()]);
    assert_eq!((dissector.stats().sum(Counter::ConnectionsOpaque), dissector.held_bytes()), (1, 0));
}

#[test]
fn requests_beyond_the_limit_do_not_wait() {
    let mut dissector = dissector(Limits { open_calls: 3, ..Limits::default() });
    let mut agent = Agent::new(1);
    agent.open().data(CLIENT, b"hello\n").data(SERVER, b"hello\n");
    agent.data(CLIENT, b"one 1\ntwo 2\nthree\nfour\nfive\n").data(SERVER, b"one 1\n");
    let calls = play(&mut dissector, &[agent.record()]);
    assert_eq!(targets(&calls), ["hello", "four", "five", "one 1"]);
    assert_eq!(calls[1].completeness_cause, Some(Cause::Limit));
    assert_eq!(dissector.stats().sum(Counter::OpenCallsLimited), 2);
}

#[test]
fn a_line_beyond_the_limit_is_read_past() {
    let mut dissector = dissector(Limits { head_bytes: 32, ..Limits::default() });
    let mut agent = Agent::new(1);
    agent.open().data(CLIENT, b"hello\n").data(SERVER, b"hello\n");
    agent.data(CLIENT, &[b'x'; 100]).data(CLIENT, b"\nafter\n").data(SERVER, b"after\n");
    let calls = play(&mut dissector, &[agent.record()]);
    assert_eq!(targets(&calls), ["hello", "after"]);
    assert_eq!(dissector.stats().sum(Counter::HeadsLimited), 1);
}

/// An instruction of the fuzzer's program for data of the client.
const CHUNK_OF_DATA: u8 = 0x80;

#[test]
fn fuzzed_records_keep_the_promises() {
    let registry =
        Registry::default().with(Scripted::withdrawing()).with(Scripted::handing_over()).with(Echo);
    let words: [&[u8]; 8] = [
        b"!tunnel\n",
        b"hello\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
    ];
    let mut state = 7_u64;
    for round in 0..300 {
        let mut program = Vec::new();
        while program.len() < 800 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word = words[(state >> 60) as usize % words.len()];
            // Every other round speaks in words, so that protocols say yes.
            if round % 2 == 0 && state >> 40 & 3 == 0 {
                program.extend_from_slice(&[CHUNK_OF_DATA, 9, word.len() as u8, 0]);
                program.extend_from_slice(word);
            } else {
                program.push((state >> 33) as u8);
            }
        }
        fuzz::fuzz(&registry, &program);
    }
}
