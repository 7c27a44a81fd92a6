//! Begin and end of connections: who is the client, which id, when it is over.

use wirecall_schemas::{ChunkCause, ChunkKind, Direction, Orientation};

use crate::packet::{ACK, FIN, RST, SYN};
use crate::testing::{Harness, Part, bytes, join, udp};
use crate::{CaptureConfig, LinkType, Reason};

#[test]
fn a_connection_from_syn_to_fin() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK, 0, 0, b"ping");
    talk.send(1, ACK, 0, 4, b"pong");
    talk.send(0, ACK | FIN, 4, 4, b"");
    talk.send(1, ACK | FIN, 4, 5, b"");
    assert_eq!(talk.capture.open_connections(), 1);
    talk.send(0, ACK, 5, 5, b"");
    assert_eq!(talk.capture.open_connections(), 0);
    let segment = talk.segments.last().unwrap();
    assert_eq!(segment.orientation, Orientation::Syn);
    assert_eq!((segment.client.port, segment.server.port), (40_000, 80));
    assert_eq!(segment.totals.map(|totals| (totals.client_packets, totals.server_bytes)), Some((5, 4)));
    let kinds: Vec<_> = talk.chunks().iter().map(|chunk| chunk.kind).collect();
    assert_eq!(kinds, [ChunkKind::Open, ChunkKind::Data, ChunkKind::Data, ChunkKind::Close]);
    let close = *talk.chunks().last().unwrap();
    assert_eq!((close.cause, close.direction), (ChunkCause::Fin, Direction::ClientToServer));
    talk.send(0, ACK, 5, 5, b"");
    assert_eq!(talk.capture.stats().reason(Reason::AfterClose).packets, 1);
    talk.finish();
    assert_eq!((talk.stream(0), talk.stream(1)), (vec![bytes("ping")], vec![bytes("pong")]));
}

#[test]
fn the_id_does_not_depend_on_what_part_of_the_handshake_was_seen() {
    let see = |packets: [bool; 3]| {
        let mut talk = Harness::new();
        for (packet, seen) in [(0, SYN, -1), (1, SYN | ACK, -1), (0, ACK, 0)].into_iter().zip(packets) {
            if seen {
                talk.send(packet.0, packet.1, packet.2, 0, b"");
            }
        }
        talk.send(0, ACK, 0, 0, b"data");
        talk.finish();
        assert_eq!(talk.stream(0), [bytes("data")]);
        (
            talk.ids(),
            talk.segments[0].connection_key,
            talk.segments[0].partition,
            talk.segments[0].orientation,
        )
    };
    let whole = see([true; 3]);
    for (packets, orientation) in [
        ([true, true, false], Orientation::Syn),
        ([true, false, true], Orientation::Syn),
        ([true, false, false], Orientation::Syn),
        ([false, true, true], Orientation::SynAck),
        ([false, true, false], Orientation::SynAck),
    ] {
        let part = see(packets);
        assert_eq!(
            (&part.0, part.1, part.2, part.3),
            (&whole.0, whole.1, whole.2, orientation),
            "{packets:?}"
        );
    }
    let mid_stream = see([false; 3]);
    assert_ne!(mid_stream.0, whole.0);
    assert_eq!(mid_stream.3, Orientation::Port);
}

#[test]
fn translation_changes_neither_key_nor_id() {
    let run = |hosts, ports| {
        let mut talk = Harness::new();
        (talk.hosts, talk.ports) = (hosts, ports);
        talk.handshake();
        talk.finish();
        (talk.ids(), talk.segments[0].connection_key)
    };
    assert_eq!(
        run([[10, 0, 0, 1], [10, 0, 0, 2]], [40_000, 80]),
        run([[9, 9, 9, 9], [10, 0, 7, 7]], [61_000, 8080])
    );
}

#[test]
fn one_connection_seen_on_both_sides_of_a_translation_has_one_id() {
    for (timestamp, ids) in [(Some(77), 1), (None, 2)] {
        let mut talk = Harness::new();
        talk.timestamp = timestamp;
        for (side, flags, at) in [(0, SYN, -1), (1, SYN | ACK, -1), (0, ACK, 0)] {
            for hosts in [[[10, 0, 0, 1], [10, 0, 0, 2]], [[10, 0, 0, 1], [10, 9, 9, 9]]] {
                talk.hosts = hosts;
                talk.send(side, flags, at, 0, b"");
            }
        }
        talk.finish();
        assert_eq!(talk.ids().len(), ids);
    }
}

#[test]
fn nothing_is_published_before_the_id_is_known() {
    let mut talk = Harness::new();
    talk.send(0, SYN, -1, 0, b"early");
    talk.wait(1_000_000);
    talk.send(1, SYN | ACK, -1, 5, b"");
    talk.wait(1_000_000);
    assert!(talk.segments.is_empty());
    talk.send(0, ACK, 5, 0, b"");
    talk.wait(20_000);
    assert_eq!(talk.stream(0), [bytes("early")]);
}

#[test]
fn a_refused_connection_is_a_record_of_its_own() {
    let mut talk = Harness::new();
    talk.send(0, SYN, -1, 0, b"");
    talk.initial[1] = 0_u32.wrapping_sub(0);
    talk.send(1, RST | ACK, -1, 0, b"");
    assert_eq!(talk.causes(ChunkKind::Close), [ChunkCause::Reset]);
    // The same SYN again, as some systems do: another attempt, another id.
    talk.send(0, SYN, -1, 0, b"");
    talk.send(1, RST | ACK, -1, 0, b"");
    talk.finish();
    assert_eq!(talk.ids().len(), 2);
    assert_eq!(talk.causes(ChunkKind::Open).len(), 2);
}

#[test]
fn the_clients_answer_decides_between_two_syn_acks() {
    let mut talk = Harness::new();
    talk.send(0, SYN, -1, 0, b"");
    talk.send(1, SYN | ACK, -1, 0, b"");
    talk.initial[1] = 900_000_000;
    talk.send(1, SYN | ACK, -1, 0, b"");
    talk.send(0, ACK, 0, 0, b"hello");
    talk.initial[1] = 5_000;
    talk.send(1, SYN | ACK, -1, 0, b"");
    talk.initial[1] = 900_000_000;
    talk.send(1, ACK, 0, 5, b"hi");
    talk.finish();
    assert_eq!((talk.ids().len(), talk.stream(1)), (1, vec![bytes("hi")]));
}

#[test]
fn both_sides_may_open_at_once() {
    let mut talk = Harness::new();
    talk.send(0, SYN, -1, 0, b"");
    talk.send(1, SYN, -1, 0, b"");
    talk.send(0, SYN | ACK, -1, 0, b"");
    talk.send(1, SYN | ACK, -1, 0, b"");
    talk.send(0, ACK, 0, 0, b"a");
    talk.send(1, ACK, 0, 1, b"b");
    talk.finish();
    assert_eq!((talk.ids().len(), talk.stream(0), talk.stream(1)), (1, vec![bytes("a")], vec![bytes("b")]));
}

#[test]
fn a_new_syn_takes_over_the_ports() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK, 0, 0, b"old");
    talk.initial = [70_000, 80_000];
    talk.handshake();
    talk.send(0, ACK, 0, 0, b"new");
    talk.finish();
    assert_eq!(talk.causes(ChunkKind::Close), [ChunkCause::PortReuse, ChunkCause::EndOfCapture]);
    assert_eq!(talk.ids().len(), 2);
    let first = talk.ids()[0];
    assert_eq!(talk.stream_of(0, |segment| segment.connection_id == first), [bytes("old")]);
    assert_eq!(talk.stream_of(0, |segment| segment.connection_id != first), [bytes("new")]);
}

#[test]
fn a_repeated_handshake_is_the_same_connection() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.handshake();
    talk.send(0, ACK, 0, 0, b"data");
    talk.handshake();
    talk.finish();
    assert_eq!((talk.ids().len(), talk.stream(0)), (1, vec![bytes("data")]));
}

#[test]
fn a_copy_of_the_syn_after_the_end_begins_nothing() {
    for (timestamp, connections) in [(Some(5), 1), (None, 2)] {
        let mut talk = Harness::new();
        talk.timestamp = timestamp;
        talk.handshake();
        talk.send(0, ACK | FIN, 0, 0, b"");
        talk.send(1, ACK | FIN, 0, 1, b"");
        talk.send(0, ACK, 1, 1, b"");
        talk.send(0, SYN, -1, 0, b"");
        talk.finish();
        assert_eq!(talk.ids().len(), connections);
    }
}

#[test]
fn a_half_closed_connection_goes_on() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK | FIN, 0, 0, b"request");
    talk.send(1, ACK, 0, 8, b"long ");
    talk.send(1, ACK, 5, 8, b"answer");
    assert_eq!(talk.capture.open_connections(), 1);
    talk.send(1, ACK | FIN, 11, 8, b"");
    talk.send(0, ACK, 8, 12, b"");
    assert_eq!(talk.capture.open_connections(), 0);
    assert_eq!((talk.stream(0), talk.stream(1)), (vec![bytes("request")], vec![bytes("long answer")]));
}

#[test]
fn bytes_behind_a_fin_are_not_the_streams() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK | FIN, 0, 0, b"end");
    talk.send(0, ACK, 4, 0, b"more");
    assert_eq!(talk.capture.stats().reason(Reason::AfterFin).bytes, 4);
    talk.finish();
    assert_eq!(talk.stream(0), [bytes("end")]);
}

#[test]
fn a_fin_drops_what_was_buffered_behind_it() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK, 2, 0, b"cdef");
    talk.send(0, ACK, 10, 0, b"xyz");
    talk.send(0, ACK | FIN, 4, 0, b"");
    talk.send(0, ACK, 0, 0, b"ab");
    assert_eq!(talk.capture.stats().reason(Reason::AfterFin).bytes, 5);
    talk.finish();
    assert_eq!(talk.stream(0), [bytes("abcd")]);
}

#[test]
fn a_fin_before_its_last_bytes_waits_for_them() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(1, ACK | FIN, 4, 0, b"");
    talk.send(0, ACK | FIN, 0, 0, b"");
    assert_eq!(talk.capture.open_connections(), 1);
    talk.send(1, ACK, 0, 1, b"late");
    talk.send(0, ACK, 1, 5, b"");
    assert_eq!((talk.capture.open_connections(), talk.stream(1)), (0, vec![bytes("late")]));
}

#[test]
fn a_last_acknowledgement_that_never_comes_is_not_waited_for_long() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK | FIN, 0, 0, b"");
    talk.send(1, ACK | FIN, 0, 1, b"");
    assert_eq!(talk.capture.open_connections(), 1);
    talk.wait(500_000);
    assert_eq!(talk.causes(ChunkKind::Close), [ChunkCause::Fin]);
}

#[test]
fn a_reset_in_the_place_of_the_last_acknowledgement_changes_nothing() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(0, ACK | FIN, 0, 0, b"");
    talk.send(1, ACK | FIN, 0, 1, b"");
    talk.send(0, RST, 1, 0, b"");
    assert_eq!(talk.causes(ChunkKind::Close), [ChunkCause::Fin]);
}

#[test]
fn a_reset_waits_for_the_bytes_before_it() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(1, RST, 4, 0, b"");
    assert_eq!(talk.capture.open_connections(), 1);
    talk.send(1, ACK, 0, 0, b"data");
    assert_eq!(
        (talk.causes(ChunkKind::Close), talk.stream(1)),
        (vec![ChunkCause::Reset], vec![bytes("data")])
    );
}

#[test]
fn a_reset_whose_bytes_never_come_ends_after_the_wait() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(1, RST, 4, 0, b"");
    talk.wait(499_000);
    assert_eq!(talk.capture.open_connections(), 1);
    talk.wait(2_000);
    assert_eq!(talk.causes(ChunkKind::Close), [ChunkCause::Reset]);
}

#[test]
fn a_blind_reset_is_ignored() {
    let mut talk = Harness::new();
    talk.handshake();
    talk.send(1, RST, 90_000_000, 0, b"");
    talk.send(0, ACK, 0, 0, b"alive");
    assert_eq!(talk.capture.stats().reason(Reason::OutOfWindow).packets, 1);
    talk.finish();
    assert_eq!(
        (talk.causes(ChunkKind::Close), talk.stream(0)),
        (vec![ChunkCause::EndOfCapture], vec![bytes("alive")])
    );
}

#[test]
fn a_handshake_goes_on_after_a_forged_refusal() {
    let mut talk = Harness::new();
    talk.send(0, SYN, -1, 0, b"");
    talk.send(1, RST | ACK, 0, 0, b"");
    assert_eq!(talk.causes(ChunkKind::Close), [ChunkCause::Reset]);
    talk.send(1, SYN | ACK, -1, 0, b"");
    talk.send(0, ACK, 0, 0, b"");
    talk.send(0, ACK, 0, 0, b"ping");
    talk.send(1, ACK, 0, 4, b"pong");
    talk.finish();
    assert_eq!((talk.stream(0), talk.stream(1)), (vec![bytes("ping")], vec![bytes("pong")]));
    assert_eq!(talk.segments.last().unwrap().orientation, Orientation::SynAck);
}

#[test]
fn a_keep_alive_probe_begins_no_stream() {
    let mut talk = Harness::new();
    talk.send(0, ACK, 49, 100, b"\0");
    talk.send(1, ACK, 100, 50, b"");
    talk.send(0, ACK, 50, 100, b"next");
    assert_eq!(talk.capture.stats().reason(Reason::BeforeStart).bytes, 1);
    talk.finish();
    assert_eq!(talk.stream(0), [bytes("next")]);
}

#[test]
fn a_reset_of_nothing_is_stray() {
    let mut talk = Harness::new();
    talk.send(0, RST, 0, 0, b"");
    assert_eq!(talk.capture.stats().reason(Reason::Stray).packets, 1);
    talk.finish();
    assert!(talk.segments.is_empty());
}

#[test]
fn a_server_heard_first_is_still_the_server() {
    let mut talk = Harness::new();
    talk.send(1, ACK, 100, 50, b"answer");
    talk.send(0, ACK, 50, 106, b"next");
    talk.finish();
    assert_eq!((talk.segments[0].client.port, talk.segments[0].orientation), (40_000, Orientation::Port));
    assert_eq!(talk.chunks()[0].kind, ChunkKind::MidStream);
    assert_eq!((talk.stream(0), talk.stream(1)), (vec![bytes("next")], vec![bytes("answer")]));
}

#[test]
fn bytes_before_a_mid_stream_start_are_put_in_front_while_they_can() {
    let mut talk = Harness::new();
    talk.send(0, ACK, 100, 0, b"world");
    talk.send(0, ACK, 94, 0, b"hello ");
    talk.send(0, ACK, 90, 0, b"oh");
    talk.wait(20_000);
    talk.send(0, ACK, 80, 0, b"too late");
    assert_eq!(talk.capture.stats().reason(Reason::BeforeStart).bytes, 8);
    talk.finish();
    assert_eq!(talk.stream(0), [bytes("oh"), Part::Gap(2), bytes("hello world")]);
}

#[test]
fn a_syn_captured_late_does_not_begin_another_connection() {
    let mut talk = Harness::new();
    talk.send(0, ACK, 0, 0, b"first");
    talk.send(0, SYN, -1, 0, b"");
    talk.send(0, ACK, 5, 0, b" second");
    talk.finish();
    assert_eq!((talk.ids().len(), talk.stream(0)), (1, vec![bytes("first second")]));
}

#[test]
fn one_tuple_in_two_vlans_is_two_connections() {
    let mut talk = Harness::new();
    for (side, flags, at) in [(0, SYN, -1), (1, SYN | ACK, -1), (0, ACK, 0)] {
        for vlan in [None, Some(7)] {
            talk.vlan = vlan;
            talk.send(side, flags, at, 0, b"");
        }
    }
    talk.vlan = None;
    talk.send(0, ACK, 0, 0, b"one");
    talk.vlan = Some(7);
    talk.send(0, ACK, 0, 0, b"two");
    talk.finish();
    let first = talk.ids()[0];
    assert_eq!(talk.ids().len(), 2);
    assert_eq!(talk.stream_of(0, |segment| segment.connection_id == first), [bytes("one")]);
    assert_eq!(talk.stream_of(0, |segment| segment.connection_id != first), [bytes("two")]);
}

#[test]
fn a_connection_seen_inside_and_outside_of_a_tunnel_is_one() {
    let mut talk = Harness::new();
    talk.timestamp = Some(99);
    let twice = [None, Some(7)];
    for (side, flags, at) in [(0, SYN, -1), (1, SYN | ACK, -1), (0, ACK, 0)] {
        for vlan in twice {
            talk.vlan = vlan;
            talk.send(side, flags, at, 0, b"");
        }
    }
    for vlan in twice {
        talk.vlan = vlan;
        talk.send(0, ACK, 0, 0, b"once");
    }
    // What one sighting misses, the other one has.
    talk.send(1, ACK, 0, 4, b"answer");
    assert_eq!(talk.capture.stats().reason(Reason::Duplicate).bytes, 4);
    assert_eq!(talk.capture.open_connections(), 1);
    talk.finish();
    assert_eq!(
        (talk.ids().len(), talk.stream(0), talk.stream(1)),
        (1, vec![bytes("once")], vec![bytes("answer")])
    );
    // Its names are free again.
    talk.vlan = Some(7);
    talk.initial = [7, 8];
    talk.handshake();
    assert_eq!(talk.capture.open_connections(), 1);
}

#[test]
fn a_tag_on_one_direction_only_is_one_connection() {
    let mut talk = Harness::new();
    talk.send(0, SYN, -1, 0, b"");
    talk.vlan = Some(7);
    talk.send(1, SYN | ACK, -1, 0, b"");
    talk.vlan = None;
    talk.send(0, ACK, 0, 0, b"there");
    talk.vlan = Some(7);
    talk.send(1, ACK, 0, 5, b"back");
    talk.finish();
    assert_eq!((talk.ids().len(), talk.stream(1)), (1, vec![bytes("back")]));
}

#[test]
fn a_datagram_is_a_chunk() {
    let mut talk = Harness::new();
    let ends = [[10, 0, 0, 1], [10, 0, 0, 53]];
    let send = |talk: &mut Harness, ends, ports, data: &[u8]| {
        let frame = crate::testing::ipv4_part(ends, 17, 0, 0, &udp(ports, data));
        talk.frame(LinkType::RAW, &frame);
    };
    send(&mut talk, ends, [40_000, 53], b"one");
    send(&mut talk, ends, [40_000, 53], b"two");
    send(&mut talk, ends, [40_000, 53], b"");
    send(&mut talk, [ends[1], ends[0]], [53, 40_000], b"answer");
    talk.finish();
    let data: Vec<_> = talk
        .chunks()
        .iter()
        .filter(|chunk| chunk.kind == ChunkKind::Data)
        .map(|chunk| (chunk.direction, chunk.offset, chunk.length))
        .collect();
    let (there, back) = (Direction::ClientToServer, Direction::ServerToClient);
    assert_eq!(data, [(there, 0, 3), (there, 3, 3), (back, 0, 6)]);
    let totals = talk.segments.last().unwrap().totals.unwrap();
    assert_eq!((totals.client_packets, totals.server_packets), (3, 1));
}

#[test]
fn the_interface_and_the_agent_are_on_the_record() {
    let config = CaptureConfig { agent_id: "node-1".into(), agent_epoch: 42, ..CaptureConfig::default() };
    let mut talk = Harness::with(config);
    let frame = talk.segment(0, ACK, 0, 0, b"x");
    let name = bytestring::ByteString::from_static("eth0");
    talk.capture.handle_packet(crate::Packet {
        time: wirecall_schemas::Timestamp::from_micros(1),
        link_type: LinkType::RAW,
        data: &frame,
        original_length: frame.len() as u32,
        interface: Some(&name),
        vlan: None,
    });
    talk.finish();
    let segment = &talk.segments[0];
    assert_eq!(
        (&*segment.agent_id, segment.agent_epoch, segment.interface.as_deref()),
        ("node-1", 42, Some("eth0"))
    );
    assert_eq!(join(&[&segment.payload]), b"x");
}
