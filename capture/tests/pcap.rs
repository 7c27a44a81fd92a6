//! Capture files of every variant, whole, cut and damaged.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{self, Cursor, Read, Write};

use common::capture_file::{ETHERNET, Order, Pcap, PcapNg};
use wirecall_capture::source::{
    Packet,
    pcap::{PcapError, Reader},
};

/// What a packet came to: time in microseconds, interface, link type, original length, bytes.
type Seen = (i64, &'static str, u16, u32, Vec<u8>);

/// The name of the packet's interface, for names that the tests use.
fn name(packet: &Packet<'_>) -> &'static str {
    let name = packet.interface.map_or("", |name| name);
    ["", "eth0", "any"].into_iter().find(|known| *known == name).unwrap_or("another")
}

fn read(input: impl Read + Send + 'static) -> (Vec<Seen>, Result<(), PcapError>) {
    let mut seen = Vec::new();
    let mut reader = match Reader::new(input) {
        Ok(reader) => reader,
        Err(error) => return (seen, Err(error)),
    };
    loop {
        match reader.next_packet() {
            Ok(Some(packet)) => seen.push((
                packet.time.as_micros(),
                name(&packet),
                u16::try_from(packet.link_type.0).unwrap(),
                packet.original_length,
                packet.data.to_vec(),
            )),
            Ok(None) => return (seen, Ok(())),
            Err(error) => {
                assert!(matches!(reader.next_packet(), Ok(None)), "nothing comes after an error");
                return (seen, Err(error));
            }
        }
    }
}

fn read_bytes(bytes: &[u8]) -> (Vec<Seen>, Result<(), PcapError>) {
    read(Cursor::new(bytes.to_vec()))
}

fn read_whole(bytes: &[u8]) -> Vec<Seen> {
    let (seen, result) = read_bytes(bytes);
    result.unwrap();
    seen
}

/// Gives its bytes one at a time, interrupted before each.
struct Trickle(Cursor<Vec<u8>>, bool);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn classic_sample(order: Order, magic: u32) -> Vec<u8> {
    let mut file = Pcap::new(order, magic);
    file.packet(1_700_000_000, 123_456, b"first", 5);
    file.packet(1_700_000_001, 999_999, b"", 60);
    file.packet(u32::MAX, 0, &[7; 100], 1_500);
    file.bytes
}

fn next_generation_sample(order: Order) -> Vec<u8> {
    let mut file = PcapNg::new(order);
    file.interface(ETHERNET, 0, &[(2, b"eth0\0"), (9, &[9])]);
    file.enhanced(0, 1_700_000_000_123_456_789, b"first", 5);
    file.block(0x0bad, &[1; 9]);
    file.interface(101, 96, &[(14, &order.u64(3_600_u64.wrapping_neg()))]);
    file.obsolete(1, 1_700_000_000_000_001, b"second packet", 20);
    file.simple(6, b"simple\0\0");
    file.bytes
}

#[test]
fn classic_in_every_byte_order_and_resolution() {
    for order in Order::BOTH {
        let expected = vec![
            (1_700_000_000_123_456, "", ETHERNET, 5, b"first".to_vec()),
            (1_700_000_001_999_999, "", ETHERNET, 60, vec![]),
            (4_294_967_295_000_000, "", ETHERNET, 1_500, vec![7; 100]),
        ];
        assert_eq!(read_whole(&classic_sample(order, 0xa1b2_c3d4)), expected, "{order:?}");

        let mut nanoseconds = Pcap::new(order, 0xa1b2_3c4d);
        nanoseconds.packet(1, 123_456_789, b"x", 1);
        assert_eq!(read_whole(&nanoseconds.bytes), [(1_123_456, "", ETHERNET, 1, b"x".to_vec())]);
    }
}

#[test]
fn modified_pcap_has_eight_more_bytes_a_record() {
    for order in Order::BOTH {
        let mut file = Pcap::new(order, 0xa1b2_cd34);
        for index in 0..3_u32 {
            let mut data = [0xee_u8; 8].to_vec();
            data.extend(b"packet");
            file.record(index, 0, 6, 6, &data);
        }
        let seen = read_whole(&file.bytes);
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|packet| packet.4 == b"packet"));
    }
}

#[test]
fn lengths_of_old_versions_are_swapped_back() {
    for (version, first, second) in [((2, 2), 60, 4), ((2, 3), 60, 4), ((2, 3), 4, 60), ((543, 0), 60, 4)] {
        let mut file = Pcap::with_header(Order::Big, 0xa1b2_c3d4, version, 65_535, 1);
        file.record(1, 0, first, second, b"data");
        assert_eq!(read_whole(&file.bytes), [(1_000_000, "", ETHERNET, 60, b"data".to_vec())], "{version:?}");
    }
}

#[test]
fn frame_check_bits_do_not_change_the_link_type() {
    let mut file = Pcap::with_header(Order::Little, 0xa1b2_c3d4, (2, 4), 65_535, 0x2400_0000 | 113);
    file.packet(0, 0, b"x", 1);
    assert_eq!(read_whole(&file.bytes)[0].2, 113);
}

#[test]
fn next_generation_in_both_byte_orders() {
    for order in Order::BOTH {
        let expected = vec![
            (1_700_000_000_123_456, "eth0", ETHERNET, 5, b"first".to_vec()),
            (1_699_996_400_000_001, "", 101, 20, b"second packet".to_vec()),
            (1_699_996_400_000_001, "eth0", ETHERNET, 6, b"simple".to_vec()),
        ];
        assert_eq!(read_whole(&next_generation_sample(order)), expected, "{order:?}");
    }
}

#[test]
fn every_time_resolution_comes_to_microseconds() {
    let cases: [(&[u8], u64, i64); 9] = [
        (&[6], 1_234_567, 1_234_567),
        (&[9], 1_234_567_890, 1_234_567),
        (&[3], 1_234, 1_234_000),
        (&[0], 12, 12_000_000),
        (&[12], 1_234_567_890_123, 1_234_567),
        (&[0x80 | 10], 1_536, 1_500_000),
        (&[0x80 | 63], 3 << 62, 1_500_000),
        (&[38], u64::MAX, 0),
        (&[127], u64::MAX, 0),
    ];
    for (resolution, ticks, micros) in cases {
        for order in Order::BOTH {
            let mut file = PcapNg::new(order);
            file.interface(ETHERNET, 0, &[(9, resolution)]).enhanced(0, ticks, b"x", 1);
            assert_eq!(read_whole(&file.bytes)[0].0, micros, "{resolution:?}");
        }
    }
}

#[test]
fn a_time_out_of_range_saturates() {
    let mut file = PcapNg::new(Order::Little);
    let offset = i64::MAX.to_le_bytes();
    file.interface(ETHERNET, 0, &[(9, &[0]), (14, &offset)]).enhanced(0, u64::MAX, b"x", 1);
    assert_eq!(read_whole(&file.bytes)[0].0, i64::MAX);
}

#[test]
fn sections_have_their_own_byte_order_and_interfaces() {
    let mut file = PcapNg::new(Order::Little);
    file.interface(ETHERNET, 0, &[(2, b"eth0")]).enhanced(0, 1, b"a", 1);
    file.section(Order::Big).interface(113, 0, &[(2, b"any")]).enhanced(0, 2, b"b", 1);
    let mut reader = Reader::new(Cursor::new(file.bytes.clone())).unwrap();
    while reader.next_packet().unwrap().is_some() {}
    let names: Vec<_> = reader.interfaces().iter().map(|interface| interface.name.clone().unwrap()).collect();
    assert_eq!(names, ["eth0", "any"]);
    let links: Vec<_> = read_whole(&file.bytes).iter().map(|packet| (packet.1, packet.2)).collect();
    assert_eq!(links, [("eth0", ETHERNET), ("any", 113)]);
}

#[test]
fn a_section_does_not_see_the_interfaces_of_another() {
    let mut file = PcapNg::new(Order::Little);
    file.interface(ETHERNET, 0, &[]).section(Order::Little);
    let start = file.bytes.len() as u64;
    file.enhanced(0, 1, b"a", 1);
    let (_, result) = read_bytes(&file.bytes);
    let error = result.unwrap_err();
    assert!(
        matches!(error, PcapError::UnknownInterface { at, known: 0, .. } if at.bytes == start),
        "{error}"
    );
}

#[test]
fn simple_packets_are_cut_at_the_interface_snapshot_length() {
    let mut file = PcapNg::new(Order::Big);
    file.interface(ETHERNET, 10, &[]).simple(500, b"0123456789\0\0");
    assert_eq!(read_whole(&file.bytes), [(0, "", ETHERNET, 500, b"0123456789".to_vec())]);
}

#[test]
fn gzip_is_read_through_and_so_are_its_members() {
    let plain = classic_sample(Order::Little, 0xa1b2_c3d4);
    assert_eq!(read_whole(&gzip(&plain)), read_whole(&plain));
    let mut members = gzip(&plain[..50]);
    members.extend(gzip(&plain[50..]));
    assert_eq!(read_whole(&members), read_whole(&plain));
}

#[test]
fn one_byte_at_a_time_gives_the_same() {
    let samples = [classic_sample(Order::Big, 0xa1b2_c3d4), next_generation_sample(Order::Little)];
    for sample in samples {
        for bytes in [gzip(&sample), sample.clone()] {
            let (seen, result) = read(Trickle(Cursor::new(bytes), false));
            result.unwrap();
            assert_eq!(seen, read_whole(&sample));
        }
    }
}

/// Every cut either falls between two records, or is an error; and all packets before it come out.
#[test]
fn a_file_cut_at_any_byte_gives_its_packets_and_says_where_it_ends() {
    for sample in [
        classic_sample(Order::Little, 0xa1b2_c3d4),
        classic_sample(Order::Big, 0xa1b2_3c4d),
        next_generation_sample(Order::Little),
        next_generation_sample(Order::Big),
    ] {
        let whole = read_whole(&sample);
        let mut clean = 0;
        for cut in 0..sample.len() {
            let (seen, result) = read_bytes(&sample[..cut]);
            assert!(whole.starts_with(&seen), "cut at {cut}");
            match result {
                Ok(()) => clean += 1,
                Err(PcapError::Empty) => assert_eq!(cut, 0),
                Err(PcapError::ShortHeader { length }) => assert_eq!(length, cut),
                Err(PcapError::Truncated { at, needed, available }) => {
                    assert_eq!(at.bytes + available, cut as u64);
                    assert!(needed > available && at.bytes + needed <= sample.len() as u64);
                }
                Err(error) => panic!("cut at {cut}: {error}"),
            }
        }
        // Between records only: behind the file header and behind each record but the last.
        assert!((3..=7).contains(&clean), "{clean} clean cuts");
    }
}

#[test]
fn a_compressed_file_cut_at_any_byte_is_never_taken_for_whole() {
    let sample = next_generation_sample(Order::Little);
    let (whole, compressed) = (read_whole(&sample), gzip(&sample));
    for cut in 1..compressed.len() {
        let (seen, result) = read_bytes(&compressed[..cut]);
        assert!(whole.starts_with(&seen), "cut at {cut}");
        assert!(result.is_err(), "cut at {cut}");
    }
}

#[test]
fn damaged_bytes_never_panic_and_never_invent_packets() {
    let sample = next_generation_sample(Order::Little);
    let records = read_whole(&sample).len();
    for position in 0..sample.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = sample.clone();
            damaged[position] = value;
            assert!(read_bytes(&damaged).0.len() <= records, "byte {position} set to {value}");
        }
    }
}

#[test]
fn what_is_no_capture_is_named() {
    let error = |bytes: &[u8]| read_bytes(bytes).1.unwrap_err().to_string();
    assert!(error(b"").contains("empty"));
    assert!(error(b"\xd4\xc3").contains("2 bytes"));
    assert!(error(b"GET / HTTP/1.1\r\n").contains("47455420"));
    assert!(error(b"\x28\xb5\x2f\xfd....").contains("zstd -dc"));
    assert!(error(&gzip(b"")).contains("empty"));
    let old = Pcap::with_header(Order::Little, 0xa1b2_c3d4, (3, 0), 0, 1);
    assert!(error(&old.bytes).contains("version 3.0"));
    let mut new = PcapNg { order: Order::Little, bytes: Vec::new() };
    new.section_of_version(Order::Little, 1, 1);
    assert!(error(&new.bytes).contains("version 1.1"));
}

#[test]
fn a_record_longer_than_any_packet_is_damage() {
    let mut file = Pcap::new(Order::Little, 0xa1b2_c3d4);
    file.packet(1, 0, b"good", 4);
    let start = file.bytes.len() as u64;
    file.record(2, 0, 262_145, 262_145, &[0; 64]);
    let (seen, result) = read_bytes(&file.bytes);
    assert_eq!(seen.len(), 1);
    let error = result.unwrap_err();
    assert!(
        matches!(error, PcapError::RecordLength { at, claimed: 262_145, .. } if at.bytes == start),
        "{error}"
    );
}

#[test]
fn a_packet_larger_than_the_buffer_is_read_whole() {
    let size = 3 << 20;
    let data: Vec<u8> = (0..size).map(|index: u32| (index % 251) as u8).collect();
    let mut classic = Pcap::with_header(Order::Little, 0xa1b2_c3d4, (2, 4), 8 << 20, 1);
    classic.packet(0, 0, b"small", 5).packet(1, 0, &data, size).packet(2, 0, b"small", 5);
    let mut next_generation = PcapNg::new(Order::Big);
    next_generation.interface(ETHERNET, 0, &[]).block(0x0bad, &data);
    next_generation.enhanced(0, 1, b"small", 5).enhanced(0, 1, &data, size).enhanced(0, 2, b"small", 5);
    for bytes in [classic.bytes, next_generation.bytes] {
        let lengths: Vec<_> = read_whole(&bytes).iter().map(|packet| packet.4.len()).collect();
        assert_eq!(lengths, [5, size as usize, 5]);
        assert_eq!(read_whole(&bytes)[1].4, data);
    }
}

#[test]
fn a_block_must_end_with_the_length_it_began_with() {
    let mut file = PcapNg::new(Order::Little);
    file.interface(ETHERNET, 0, &[]).enhanced(0, 1, b"x", 1);
    let last = file.bytes.len() - 4;
    file.bytes[last] ^= 4;
    assert!(matches!(read_bytes(&file.bytes).1, Err(PcapError::BlockTrailer { .. })));
}

#[test]
fn more_interfaces_than_the_limit_are_refused() {
    let mut file = PcapNg::new(Order::Little);
    for _ in 0..65_536 {
        file.interface(ETHERNET, 0, &[]);
    }
    assert!(read_whole(&file.bytes).is_empty());
    file.interface(ETHERNET, 0, &[]);
    assert!(matches!(read_bytes(&file.bytes).1, Err(PcapError::TooManyInterfaces { limit: 65_536, .. })));
}

#[test]
fn unknown_link_types_are_an_error_only_where_there_is_no_other() {
    let mut file = Pcap::with_header(Order::Little, 0xa1b2_c3d4, (2, 4), 65_535, 147);
    assert!(read_whole(&file.bytes).is_empty());
    file.packet(0, 0, b"x", 1);
    let (seen, result) = read_bytes(&file.bytes);
    assert_eq!(seen.len(), 1);
    assert!(matches!(result, Err(PcapError::UnknownLinkType { link_type: 147, packets: 1, .. })));

    let mut mixed = PcapNg::new(Order::Little);
    mixed.interface(147, 0, &[]).interface(ETHERNET, 0, &[]).enhanced(0, 1, b"x", 1);
    assert_eq!(read_whole(&mixed.bytes).len(), 1);
}

/// Early writers padded a block without counting the padding.
#[test]
fn a_length_that_is_no_multiple_of_four_is_rounded_up() {
    for order in Order::BOTH {
        let mut file = PcapNg::new(order);
        file.interface(ETHERNET, 0, &[]);
        for data in [&b"ab"[..], b"abc"] {
            let start = file.bytes.len();
            file.obsolete(0, 1, data, 60);
            let length = order.u32(u32::try_from(32 + data.len()).unwrap());
            let end = file.bytes.len();
            file.bytes[start + 4..start + 8].copy_from_slice(&length);
            file.bytes[end - 4..].copy_from_slice(&length);
        }
        let data: Vec<_> = read_whole(&file.bytes).into_iter().map(|packet| packet.4).collect();
        assert_eq!(data, [b"ab".to_vec(), b"abc".to_vec()]);
    }
}
