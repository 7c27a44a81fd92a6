//! Files played as one capture: in order, in loops, in time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use common::capture_file::{Order, Pcap};
use wirecall_capture::source::{Batch, Source, pcap::PcapError, playback::Playback};

/// A file with packets at these milliseconds, each with its number as content.
fn file(folder: &Path, name: &str, milliseconds: &[u32]) -> PathBuf {
    let mut pcap = Pcap::new(Order::Little, 0xa1b2_c3d4);
    for (number, time) in (0..=u8::MAX).cycle().zip(milliseconds) {
        pcap.packet(time / 1_000, time % 1_000 * 1_000, &[number], 1);
    }
    let path = folder.join(name);
    fs::write(&path, pcap.bytes).unwrap();
    path
}

/// Plays to the end: times in milliseconds, with a mark at each end of a pass.
fn play(playback: &mut Playback) -> Vec<i64> {
    let mut times = Vec::new();
    loop {
        let batch = playback.read_batch(Duration::from_millis(1), &mut |packet| {
            times.push(packet.time.as_micros() / 1_000);
        });
        match batch.unwrap() {
            Batch::EndOfPass => times.push(-1),
            Batch::End => return times,
            Batch::Packets(_) | Batch::Idle => {}
        }
    }
}

#[test]
fn files_follow_one_another_and_passes_follow_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let files = vec![file(folder.path(), "a", &[1_000, 1_010]), file(folder.path(), "b", &[1_020])];
    assert_eq!(play(&mut Playback::new(files.clone(), 1, 0.0)), [1_000, 1_010, 1_020]);
    let twice = [1_000, 1_010, 1_020, -1, 2_020, 2_030, 2_040];
    assert_eq!(play(&mut Playback::new(files, 2, 0.0)), twice);
}

#[test]
fn a_batch_ends_so_that_the_caller_gets_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let times: Vec<u32> = (0..1_000).collect();
    let mut playback = Playback::new(vec![file(folder.path(), "a", &times)], 1, 0.0);
    let mut read = 0;
    while let Batch::Packets(packets) = playback.read_batch(Duration::ZERO, &mut |_| read += 1).unwrap() {
        assert!(packets <= 256);
    }
    assert_eq!(read, 1_000);
}

#[test]
fn a_packet_that_is_not_due_is_kept_whole() {
    let folder = tempfile::tempdir().unwrap();
    let files = vec![file(folder.path(), "a", &[0, 20, 40, 3_600_000])];
    let mut playback = Playback::new(files, 1, 1.0);
    let (mut seen, started) = (Vec::new(), Instant::now());
    while seen.len() < 3 {
        let due = started.elapsed();
        playback
            .read_batch(Duration::from_millis(5), &mut |packet| {
                seen.push(packet.data.to_vec());
            })
            .unwrap();
        // Never early; how late is the machine's business.
        assert!(seen.len() < 2 || started.elapsed() >= Duration::from_millis(20), "{due:?}");
    }
    assert_eq!(seen, [[0], [1], [2]]);
    assert!(started.elapsed() >= Duration::from_millis(40));
    // An hour before the next.
    assert_eq!(playback.read_batch(Duration::from_millis(5), &mut |_| unreachable!()).unwrap(), Batch::Idle);
}

#[test]
fn an_error_names_the_file_and_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), "good", &[1, 2]);
    let cut = file(folder.path(), "cut", &[3, 4]);
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    let mut playback = Playback::new(vec![good, cut.clone(), PathBuf::from("/no/such/file")], 1, 0.0);
    let mut times = Vec::new();
    let error = playback.read_batch(Duration::ZERO, &mut |packet| times.push(packet.time.as_micros()));
    let error = error.unwrap_err();
    assert_eq!(times, [1_000, 2_000, 3_000]);
    assert_eq!(error.file, cut);
    assert!(matches!(error.cause, PcapError::Truncated { at, .. } if at.bytes == 24 + 17));
}

#[test]
fn a_position_is_told_in_the_middle_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let times: Vec<u32> = (0..300).collect();
    let path = file(folder.path(), "a", &times);
    let mut playback = Playback::new(vec![path.clone()], 1, 0.0);
    assert!(playback.position().is_none());
    playback.read_batch(Duration::ZERO, &mut |_| {}).unwrap();
    let (file, offset) = playback.position().unwrap();
    assert_eq!((file, offset.bytes), (path.as_path(), 24 + 256 * 17));
    let reader = playback.reader().unwrap();
    assert_eq!((reader.input_read(), reader.input_length()), (24 + 300 * 17, Some(24 + 300 * 17)));
}
