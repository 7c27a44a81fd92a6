//! Free TCP ports on 127.0.0.1 that stay ours.
//!
//! Binding to port 0 and closing again gives a port that any client connection may take before the server binds
//! it: those ports come from the range that the kernel hands out to clients. Ports here come from below that range,
//! and a lock file holds each until this process ends, so parallel test processes cannot take the same one.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// Below 32768, where Linux starts to take ports for outgoing connections.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// The locks are held, never released: a port is not given out twice by one process either.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port on which nobody listens and that no other process of this module gets while this one lives.
///
/// # Errors
///
/// If the lock folder cannot be written, or if no port is free.
pub fn free() -> Result<u16> {
    // Each user has a folder: one user cannot open another's locks.
    let user = rustix::process::geteuid().as_raw();
    let folder = std::env::temp_dir().join(format!("wirecall-ports-{user}"));
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    // Start at a different place in each process, so that locks are seldom contended.
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for step in 0..COUNT {
        let port = FIRST + (start + step) % COUNT;
        if let Some(lock) = reserve(&folder, port)? {
            HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(lock);
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}: end what listens there", FIRST + COUNT - 1)
}

fn reserve(folder: &Path, port: u16) -> Result<Option<File>> {
    let path = folder.join(port.to_string());
    let lock = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("lock {}", path.display()));
        }
    }
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(lock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_can_be_bound() {
        let ports: Vec<_> = (0..20).map(|_| free().unwrap()).collect();
        let distinct: std::collections::HashSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), ports.len());
        let _listeners: Vec<_> =
            ports.iter().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).unwrap()).collect();
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert!(reserve(folder.path(), taken.local_addr().unwrap().port()).unwrap().is_none());
    }
}
