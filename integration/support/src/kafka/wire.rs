//! One question to a broker, spoken directly: which brokers do you know?
//!
//! This is the readiness of a cluster. A broker that accepts connections may not have been admitted by the
//! controller yet, and the command line tools take two seconds to ask.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The Metadata request, <https://kafka.apache.org/protocol#The_Messages_Metadata>.
const METADATA: i16 = 3;
/// The oldest version that Kafka 4 answers is 0; 4 is the last before topic creation became subtle.
const VERSION: i16 = 4;
const CORRELATION: i32 = 1;
const LIMIT: Duration = Duration::from_secs(5);
/// No answer about a handful of brokers comes near this, in bytes.
const LARGEST: usize = 1 << 20;

/// How many brokers the broker at this address knows as alive.
pub(crate) fn known_brokers(address: SocketAddr) -> Result<usize> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).context("connect")?;
    stream.set_read_timeout(Some(LIMIT)).context("set the time limit")?;
    stream.write_all(&request()).context("send")?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).context("read the length")?;
    let length = u32::from_be_bytes(length) as usize;
    ensure!(length <= LARGEST, "a response of {length} bytes");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).context("read the response")?;
    broker_count(&body).context("a response that is too short")
}

fn request() -> Vec<u8> {
    let client = b"wirecall-test";
    let mut body = Vec::new();
    body.extend(METADATA.to_be_bytes());
    body.extend(VERSION.to_be_bytes());
    body.extend(CORRELATION.to_be_bytes());
    body.extend((client.len() as i16).to_be_bytes());
    body.extend(client);
    // No topics, and none to be created.
    body.extend(0_i32.to_be_bytes());
    body.push(0);
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

/// Correlation id and throttle time, four bytes each, come before the array of brokers.
fn broker_count(body: &[u8]) -> Option<usize> {
    let count = body.get(8..12)?.try_into().ok()?;
    usize::try_from(i32::from_be_bytes(count)).ok()
}
