use wirecall_schemas::{
    ByteString, CaptureMethod, ConnectionKey, Direction, Endpoint, Orientation, Timestamp, Totals, Transport,
    VantageKind,
};

use super::*;

const LIMIT: usize = 20_000;

/// A segment of a connection with its chunks: direction, kind, offset, length.
fn segment(connection: u8, chunks: &[(Direction, ChunkKind, i64, i64)]) -> Segment {
    let end = Endpoint { address: std::net::Ipv4Addr::LOCALHOST.into(), port: 1 };
    let bytes: i64 = chunks.iter().filter(|chunk| chunk.1 == ChunkKind::Data).map(|chunk| chunk.3).sum();
    Segment {
        connection_id: ConnectionId::new([connection; 16]),
        connection_key: ConnectionKey::new([connection; 8]),
        transport: Transport::Tcp,
        client: end,
        server: end,
        orientation: Orientation::Syn,
        vantage: VantageKind::Unknown,
        capture_method: CaptureMethod::AfPacket,
        agent_id: ByteString::from_static("test"),
        agent_epoch: 1,
        partition: 0,
        sequence: 0,
        interface: None,
        process: None,
        chunks: chunks
            .iter()
            .map(|(direction, kind, offset, length)| Chunk {
                direction: *direction,
                kind: *kind,
                cause: ChunkCause::None,
                offset: *offset,
                length: *length,
                time: Timestamp::from_micros(*offset),
            })
            .collect(),
        totals: None,
        payload: vec![7; usize::try_from(bytes).unwrap()].into(),
    }
}

fn data(connection: u8, offset: i64, length: i64) -> Segment {
    segment(connection, &[(Direction::ClientToServer, ChunkKind::Data, offset, length)])
}

/// A backlog that takes no more bytes.
fn full() -> Backlog {
    let mut backlog = Backlog::new(LIMIT);
    while backlog.has_room(&data(0, 0, 1_000)) {
        assert_eq!(backlog.push(data(0, 0, 1_000)), Admission::Whole);
    }
    backlog
}

fn drain(backlog: &mut Backlog) -> Vec<Segment> {
    let all: Vec<_> = std::iter::from_fn(|| backlog.pop()).collect();
    assert_eq!((backlog.bytes(), backlog.len()), (0, 0));
    assert!(backlog.hollow.is_empty());
    all
}

fn gaps(segment: &Segment) -> Vec<(Direction, i64, i64)> {
    let is_gap = |chunk: &&Chunk| chunk.kind == ChunkKind::Gap && chunk.cause == ChunkCause::BackPressure;
    segment.chunks.iter().filter(is_gap).map(|chunk| (chunk.direction, chunk.offset, chunk.length)).collect()
}

#[test]
fn what_was_accepted_stays_and_the_new_bytes_become_a_gap() {
    let mut backlog = full();
    let accepted = backlog.len();
    let chunks = [
        (Direction::Unknown, ChunkKind::Open, 0, 0),
        (Direction::ClientToServer, ChunkKind::Data, 0, 700),
        (Direction::ServerToClient, ChunkKind::Data, 0, 900),
        (Direction::ClientToServer, ChunkKind::Data, 700, 100),
        (Direction::Unknown, ChunkKind::Close, 0, 0),
    ];
    assert_eq!(backlog.push(segment(1, &chunks)), Admission::WithoutBytes(1_700));
    let all = drain(&mut backlog);
    assert_eq!(all.len(), accepted + 1);
    assert!(all[..accepted].iter().all(|segment| segment.payload.len() == 1_000));
    let last = &all[accepted];
    assert_eq!(gaps(last), [(Direction::ClientToServer, 0, 800), (Direction::ServerToClient, 0, 900)]);
    let kinds: Vec<_> = last.chunks.iter().map(|chunk| chunk.kind).collect();
    assert_eq!(kinds, [ChunkKind::Open, ChunkKind::Gap, ChunkKind::Gap, ChunkKind::Close]);
    assert!(last.check().is_ok() && last.payload.is_empty());
}

#[test]
fn drops_of_one_connection_become_one_record() {
    let mut backlog = full();
    let accepted = backlog.len();
    for index in 0..100_u8 {
        let connection = 1 + index % 2;
        let offset = i64::from(index / 2) * 1_000;
        assert_eq!(backlog.push(data(connection, offset, 1_000)), Admission::WithoutBytes(1_000));
    }
    let mut last = data(2, 50_000, 10);
    last.totals = Some(Totals { client_bytes: 50_010, ..Totals::default() });
    assert_eq!(backlog.push(last), Admission::WithoutBytes(10));
    let all = drain(&mut backlog);
    assert_eq!(all.len(), accepted + 2);
    assert_eq!(gaps(&all[accepted]), [(Direction::ClientToServer, 0, 50_000)]);
    assert_eq!(gaps(&all[accepted + 1]), [(Direction::ClientToServer, 0, 50_010)]);
    assert_eq!(all[accepted + 1].totals.unwrap().client_bytes, 50_010);
}

#[test]
fn a_gap_is_not_moved_before_bytes_that_came_between() {
    let mut backlog = full();
    backlog.push(data(1, 0, 1_000));
    for _ in 0..3 {
        backlog.pop();
    }
    assert_eq!(backlog.push(data(1, 1_000, 500)), Admission::Whole);
    while backlog.push(data(0, 0, 1_000)) == Admission::Whole {}
    backlog.push(data(1, 1_500, 1_000));
    let of_one: Vec<_> =
        drain(&mut backlog).into_iter().filter(|s| s.connection_id == ConnectionId::new([1; 16])).collect();
    assert_eq!(of_one.len(), 3);
    assert_eq!(gaps(&of_one[0]), [(Direction::ClientToServer, 0, 1_000)]);
    assert_eq!(of_one[1].payload.len(), 500);
    assert_eq!(gaps(&of_one[2]), [(Direction::ClientToServer, 1_500, 1_000)]);
}

#[test]
fn a_record_that_left_is_not_joined() {
    let mut backlog = full();
    backlog.push(data(1, 0, 1_000));
    while backlog.len() > 1 {
        backlog.pop();
    }
    assert_eq!(backlog.pop().unwrap().connection_id, ConnectionId::new([1; 16]));
    assert_eq!(backlog.push(data(1, 1_000, 1_000)), Admission::Whole);
}

/// Whatever comes, memory stays within a quarter above the limit, and every byte pushed is in a record, in a gap, or
/// told as dropped.
#[test]
fn memory_is_bounded_and_every_byte_is_accounted_for() {
    let mut backlog = Backlog::new(LIMIT);
    let (mut pushed, mut without, mut dropped, mut dropped_records) = (0, 0, 0, 0);
    for round in 0..2_000_u32 {
        let connection = (round % 97) as u8;
        let segment = data(connection, i64::from(round / 97) * 300, 300);
        pushed += 300;
        match backlog.push(segment) {
            Admission::Whole => {}
            Admission::WithoutBytes(bytes) => without += bytes,
            Admission::Dropped(bytes) => {
                dropped += bytes;
                dropped_records += 1;
            }
        }
        assert!(backlog.bytes() <= LIMIT + LIMIT / 4);
    }
    assert!(dropped_records > 0, "the last resort was not reached");
    let all = drain(&mut backlog);
    let whole: u64 = all.iter().map(|segment| segment.payload.len() as u64).sum();
    let missing: i64 = all.iter().flat_map(gaps).map(|gap| gap.2).sum();
    assert_eq!(without, missing.cast_unsigned());
    assert_eq!(whole + without + dropped, pushed);
}

#[test]
fn an_empty_backlog_takes_a_record_above_its_limit() {
    let mut backlog = Backlog::new(100);
    assert_eq!(backlog.push(data(1, 0, 1_000)), Admission::Whole);
    assert!(matches!(backlog.push(data(1, 1_000, 1_000)), Admission::Dropped(1_000)));
}

#[test]
fn joined_records_stop_growing_at_a_number_of_chunks() {
    let mut backlog = Backlog::new(1 << 20);
    while backlog.push(data(0, 0, 1_000)) == Admission::Whole {}
    let before = backlog.len();
    // Gaps that do not touch each other cannot become one.
    for index in 0..5_000 {
        backlog.push(data(1, index * 10, 1));
    }
    assert_eq!(backlog.len(), before + 2);
}
