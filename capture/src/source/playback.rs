//! Capture files played as one capture: one after another, several times over, flat out or with their own timing.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use wirecall_schemas::{ByteString, Timestamp};

use super::{
    Batch, LinkType, Packet, Source,
    pace::Pacer,
    pcap::{Offset, PcapError, Reader},
    repeat::Repeat,
};

/// Packets handed out before the caller gets its turn.
const PACKETS_A_BATCH: usize = 256;

/// A file that cannot be played, or not to its end.
#[derive(Debug, thiserror::Error)]
#[error("{}", file.display())]
pub struct FileError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, and where.
    #[source]
    pub cause: PcapError,
}

/// See the module. [`Source::read_batch`] gives [`Batch::End`] only when every file was read to its end every time.
pub struct Playback {
    files: Vec<PathBuf>,
    loops: u32,
    /// The file that is read, or comes next.
    file: usize,
    pass: u32,
    reader: Option<Reader>,
    repeat: Repeat,
    pacer: Pacer,
    /// A packet that was read before it was due.
    early: Option<Early>,
}

/// A packet that waits for its time.
struct Early {
    time: Timestamp,
    link_type: LinkType,
    data: Vec<u8>,
    original_length: u32,
    interface: Option<ByteString>,
}

/// How one step went.
enum Step {
    Packet,
    NotDue,
    EndOfPass,
}

impl Playback {
    /// Plays `files` (`-` is standard input) `loops` times, at this multiple of the original timing; 0 is flat out.
    /// Opens nothing yet.
    #[must_use]
    pub fn new(files: Vec<PathBuf>, loops: u32, speed: f64) -> Self {
        Self {
            files,
            loops,
            file: 0,
            pass: 0,
            reader: None,
            repeat: Repeat::new(),
            pacer: Pacer::new(speed),
            early: None,
        }
    }

    /// The file under way and where its next record starts.
    #[must_use]
    pub fn position(&self) -> Option<(&Path, Offset)> {
        let reader = self.reader.as_ref()?;
        Some((self.files.get(self.file)?, reader.offset()))
    }

    /// The reader of the file under way; for progress.
    #[must_use]
    pub const fn reader(&self) -> Option<&Reader> {
        self.reader.as_ref()
    }

    fn step(&mut self, deadline: Instant, handle: &mut dyn FnMut(Packet<'_>)) -> Result<Step, FileError> {
        if self.early.is_some() {
            return Ok(self.play_early(deadline, handle));
        }
        while let Some(path) = self.files.get(self.file) {
            let wrong = |cause| FileError { file: path.clone(), cause };
            let reader = match &mut self.reader {
                Some(reader) => reader,
                closed => closed.insert(Reader::open(path).map_err(wrong)?),
            };
            let Some(packet) = reader.next_packet().map_err(wrong)? else {
                self.reader = None;
                self.file += 1;
                continue;
            };
            let packet = self.repeat.packet(packet);
            if self.pacer.left(packet.time).is_zero() {
                handle(packet);
                return Ok(Step::Packet);
            }
            self.early = Some(Early::of(&packet));
            return Ok(self.play_early(deadline, handle));
        }
        Ok(Step::EndOfPass)
    }

    /// Waits for the packet that is held, until `deadline`.
    fn play_early(&mut self, deadline: Instant, handle: &mut dyn FnMut(Packet<'_>)) -> Step {
        let Some(early) = &self.early else { return Step::NotDue };
        if !self.pacer.wait_until(early.time, deadline) {
            return Step::NotDue;
        }
        handle(early.packet());
        self.early = None;
        Step::Packet
    }

    fn end_pass(&mut self) -> Batch {
        self.pass += 1;
        if self.pass >= self.loops {
            return Batch::End;
        }
        self.file = 0;
        self.repeat.next_pass();
        Batch::EndOfPass
    }
}

impl Source for Playback {
    type Error = FileError;

    fn read_batch(&mut self, wait: Duration, handle: &mut dyn FnMut(Packet<'_>)) -> Result<Batch, FileError> {
        let deadline = Instant::now() + wait;
        for read in 0..PACKETS_A_BATCH {
            match self.step(deadline, handle)? {
                Step::Packet => {}
                Step::EndOfPass if read == 0 => return Ok(self.end_pass()),
                Step::NotDue if read == 0 => return Ok(Batch::Idle),
                Step::NotDue | Step::EndOfPass => return Ok(Batch::Packets(read)),
            }
        }
        Ok(Batch::Packets(PACKETS_A_BATCH))
    }

    fn position(&self) -> Option<String> {
        let (file, offset) = self.position()?;
        Some(format!("{offset} of {}", file.display()))
    }
}

impl Early {
    fn of(packet: &Packet<'_>) -> Self {
        Self {
            time: packet.time,
            link_type: packet.link_type,
            data: packet.data.to_vec(),
            original_length: packet.original_length,
            interface: packet.interface.cloned(),
        }
    }

    fn packet(&self) -> Packet<'_> {
        Packet {
            time: self.time,
            link_type: self.link_type,
            data: &self.data,
            original_length: self.original_length,
            interface: self.interface.as_ref(),
            vlan: None,
        }
    }
}
