//! Each header, and every cut of it.

use super::*;
use crate::testing::{SAMPLE, ethernet, ipv4, ipv4_part, ipv6, join, sample_tcp, samples, tcp, udp};

fn packet(link_type: LinkType, data: &[u8], original_length: usize) -> Packet<'_> {
    Packet {
        time: Timestamp::from_micros(0),
        link_type,
        data,
        original_length: original_length as u32,
        interface: None,
        vlan: None,
    }
}

fn read(link_type: LinkType, data: &[u8]) -> Result<Decoded<'_>, Reason> {
    decode(&packet(link_type, data, data.len()), 24)
}

fn body(decoded: Decoded<'_>) -> Body<'_> {
    match decoded {
        Decoded::Tcp { body, .. } | Decoded::Udp { body, .. } => body,
        Decoded::Fragment(_) => panic!("a fragment"),
    }
}

#[test]
fn every_header_leads_to_the_segment() {
    for (name, link_type, frame) in samples() {
        match read(link_type, &frame) {
            Ok(Decoded::Tcp { header, body, .. }) => {
                assert_eq!(body.data, SAMPLE, "{name}");
                assert_eq!(
                    (header.source_port, header.sequence, header.flags),
                    (40_000, 1_001, ACK),
                    "{name}"
                );
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn every_cut_is_truncated_or_misses_exactly_the_rest() {
    for (name, link_type, frame) in samples() {
        for length in 0..frame.len() {
            match decode(&packet(link_type, &frame[..length], frame.len()), 24) {
                // The frame check sequence of the radiotap sample can only be told apart in a whole frame.
                Ok(Decoded::Tcp { .. }) if name == "radiotap" => {}
                Ok(Decoded::Tcp { body, .. }) => {
                    assert_eq!(body.data.len() + body.missing, SAMPLE.len(), "{name} at {length}");
                    assert!(SAMPLE.starts_with(body.data), "{name} at {length}");
                }
                // A tunnel whose own header is cut is not known to be one.
                Ok(Decoded::Udp { body, .. }) => assert!(body.missing > 0, "{name} at {length}"),
                Ok(Decoded::Fragment(_)) => panic!("{name} at {length}: a fragment"),
                Err(reason) => assert_eq!(reason, Reason::Truncated, "{name} at {length}"),
            }
        }
    }
}

#[test]
fn a_short_frame_that_was_not_cut_is_never_accepted_as_whole() {
    for (name, link_type, frame) in samples() {
        for length in 0..frame.len() {
            if let Ok(Decoded::Tcp { body, .. }) = read(link_type, &frame[..length]) {
                assert!(name == "radiotap" || body.missing > 0, "{name} at {length}");
            }
        }
    }
}

#[test]
fn ethernet_padding_is_not_payload() {
    let frame = join(&[&ethernet(0x0800, &ipv4(6, &tcp([1, 2], [3, 4], ACK, &[], b"hi"))), &[0; 9]]);
    let body = body(read(LinkType::ETHERNET, &frame).unwrap());
    assert_eq!((body.data, body.padding), (&b"hi"[..], 9));
}

#[test]
fn an_offloaded_segment_without_a_length_reaches_to_the_end() {
    let mut packet = ipv4(6, &tcp([1, 2], [3, 4], ACK, &[], &[7; 40_000]));
    packet[2..4].fill(0);
    assert_eq!(body(read(LinkType::RAW, &packet).unwrap()).data.len(), 40_000);
    let mut packet = ipv6(6, &tcp([1, 2], [3, 4], ACK, &[], &[7; 100]));
    packet[4..6].fill(0);
    assert_eq!(body(read(LinkType::RAW, &packet).unwrap()).data.len(), 100);
}

#[test]
fn udp_keeps_its_own_length() {
    let mut datagram = udp([53, 9], b"answer");
    datagram.extend([0; 4]);
    let frame = ipv4(17, &datagram);
    let body = body(read(LinkType::RAW, &frame).unwrap());
    assert_eq!((body.data, body.padding), (&b"answer"[..], 4));
}

#[test]
fn other_traffic_on_a_tunnel_port_stays_udp() {
    for (port, payload) in [
        (4789, &b"not a tunnel at all..."[..]),
        (6081, &[0x7f; 20]),
        (8472, &[8, 0]),
        (2152, &[0x30, 1, 0, 0]),
    ] {
        let frame = ipv4(17, &udp([9, port], payload));
        match read(LinkType::RAW, &frame) {
            Ok(Decoded::Udp { body, .. }) => assert_eq!(body.data, payload),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn address_spaces_differ() {
    let domain = |name: &str| {
        let (_, link_type, frame) = samples().into_iter().find(|(sample, ..)| *sample == name).unwrap();
        body(read(link_type, &frame).unwrap()).domain
    };
    assert_eq!(domain("ethernet"), 0);
    assert_eq!(domain("mpls"), 0);
    let tagged = ["vlan", "qinq", "vxlan", "geneve", "gre key", "backbone"].map(domain);
    for (index, one) in tagged.iter().enumerate() {
        assert_ne!(*one, 0);
        assert!(!tagged[index + 1..].contains(one));
    }
}

#[test]
fn a_tag_that_the_card_took_off_counts_like_one_in_the_frame() {
    let plain = ethernet(0x0800, &ipv4(6, &sample_tcp()));
    let tagged = ethernet(0x8100, &join(&[&[0x20, 5, 8, 0], &ipv4(6, &sample_tcp())]));
    let taken = Packet { vlan: Some(5), ..packet(LinkType::ETHERNET, &plain, plain.len()) };
    let inside = packet(LinkType::ETHERNET, &tagged, tagged.len());
    assert_eq!(body(decode(&taken, 24).unwrap()).domain, body(decode(&inside, 24).unwrap()).domain);
}

#[test]
fn what_is_not_tcp_or_udp_has_its_reason() {
    for (reason, frame) in [
        (Reason::Arp, ethernet(0x0806, &[0; 28])),
        (Reason::OtherNetwork, ethernet(0x88cc, &[0; 28])),
        (Reason::OtherNetwork, ethernet(38, &[0x42; 38])),
        (Reason::Icmp, ethernet(0x0800, &ipv4(1, &[8; 8]))),
        (Reason::Icmp, ethernet(0x86dd, &ipv6(58, &[8; 8]))),
        (Reason::Sctp, ethernet(0x0800, &ipv4(132, &[0; 12]))),
        (Reason::OtherTransport, ethernet(0x0800, &ipv4(50, &[0; 12]))),
        (Reason::Malformed, ethernet(0x0800, &[0x65; 40])),
        (Reason::Malformed, ethernet(0x0800, &ipv4(6, &[0; 20]))),
        (Reason::Malformed, ethernet(0x0800, &ipv4(17, &[0, 1, 0, 2, 0, 7, 0, 0]))),
    ] {
        assert_eq!(read(LinkType::ETHERNET, &frame).err(), Some(reason), "{frame:02x?}");
    }
    assert_eq!(read(LinkType(9_999), &[0; 60]).err(), Some(Reason::UnknownLink));
}

#[test]
fn limit_headers_is_reached() {
    let mut nested = ipv4(6, &sample_tcp());
    for _ in 0..40 {
        nested = ipv4(4, &nested);
    }
    assert_eq!(read(LinkType::RAW, &nested).err(), Some(Reason::NestingLimit));
    let labels = [0, 1, 0, 64].repeat(100);
    assert_eq!(read(LinkType::ETHERNET, &ethernet(0x8847, &labels)).err(), Some(Reason::NestingLimit));
    let options = [60, 0, 0, 0, 0, 0, 0, 0].repeat(40);
    assert_eq!(read(LinkType::RAW, &ipv6(60, &options)).err(), Some(Reason::NestingLimit));
}

#[test]
fn fragments_are_told_from_whole_datagrams() {
    let ends = [[1; 4], [2; 4]];
    let is_fragment = |frame: &[u8]| matches!(read(LinkType::RAW, frame), Ok(Decoded::Fragment(_)));
    assert!(is_fragment(&ipv4_part(ends, 17, 1, 0x2000, &[0; 16])));
    assert!(is_fragment(&ipv4_part(ends, 17, 1, 0x0002, &[0; 3])));
    // "Do not fragment" is no fragment, nor is an atomic one (RFC 6946).
    assert!(!is_fragment(&ipv4_part(ends, 6, 1, 0x4000, &sample_tcp())));
    let atomic = join(&[&[6, 0, 0, 0, 0, 0, 0, 1], &sample_tcp()]);
    assert_eq!(body(read(LinkType::RAW, &ipv6(44, &atomic)).unwrap()).data, SAMPLE);
    assert!(is_fragment(&ipv6(44, &join(&[&[6, 0, 0, 1, 0, 0, 0, 1], &[0; 16]]))));
    // All but the last end on eight bytes, and nothing ends behind the largest datagram.
    assert!(!is_fragment(&ipv4_part(ends, 17, 1, 0x2000, &[0; 15])));
    assert!(!is_fragment(&ipv4_part(ends, 17, 1, 0x1fff, &[0; 16])));
}
