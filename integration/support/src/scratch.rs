//! Temporary folders of running components, swept when the process that made them is gone.
//!
//! A component kept in a `static` is never dropped, and a killed test drops nothing; so the owner's process id is
//! part of the folder's name, and the next test process removes what dead ones left behind.

use std::path::Path;
use std::sync::Once;

use anyhow::{Context, Result};
use tempfile::TempDir;

const PREFIX: &str = "wirecall-test-";

/// A new folder below the system's temporary folder, removed on drop.
///
/// # Errors
///
/// If the temporary folder (`TMPDIR`, else `/tmp`) cannot be written.
pub fn folder(purpose: &str) -> Result<TempDir> {
    static SWEEP: Once = Once::new();
    let parent = std::env::temp_dir();
    SWEEP.call_once(|| sweep(&parent));
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-{purpose}-", std::process::id()))
        .tempdir_in(&parent)
        .with_context(|| {
            format!("make a folder in {} (set TMPDIR to one that can be written)", parent.display())
        })
}

/// Whether a process of this id exists. Without `/proc` the answer is yes: nothing gets swept.
pub(crate) fn is_alive(process_id: u32) -> bool {
    !Path::new("/proc/self").exists() || Path::new(&format!("/proc/{process_id}")).exists()
}

fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if owner(&name.to_string_lossy()).is_some_and(|process_id| !is_alive(process_id)) {
            // Another process may sweep the same folder at the same time; either may win.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_only_what_dead_processes_left() {
        let parent = tempfile::tempdir().unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let dead = parent.path().join(format!("{PREFIX}{}-kafka-x", ended.id()));
        let own = parent.path().join(format!("{PREFIX}{}-kafka-x", std::process::id()));
        let other = parent.path().join("somebody-else");
        for folder in [&dead, &own, &other] {
            std::fs::create_dir(folder).unwrap();
        }
        ended.wait().unwrap();
        sweep(parent.path());
        assert!(!dead.exists());
        assert!(own.exists());
        assert!(other.exists());
    }
}
