//! Tools and daemons from Debian's packages, installed only if they are missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache;
use crate::process::run;
use crate::skip::{Unavailable, say};

/// Places that daemons and hand-installed tools live in and that a user's `PATH` often lacks.
const MORE_PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/local/bin", "/usr/local/go/bin"];

/// Asked by Debian's maintainer scripts before they start a daemon; exit code 101 means "not allowed".
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# Made by wirecall's test support while it installs packages.\nexit 101\n";

/// The full path of a program, from `PATH` and the usual places of daemons.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_PLACES.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The full path of a program, installing the Debian package that has it if it is missing.
///
/// # Errors
///
/// [`Unavailable`] if it is missing and cannot be installed by this user on this system; the message
/// says how to install it. Other errors if the installation fails.
pub fn tool(program: &str, package: &str) -> Result<PathBuf> {
    if let Some(path) = find(program) {
        return Ok(path);
    }
    packages(&[package], program)?;
    find(program).with_context(|| format!("package {package} is installed and brought no {program}"))
}

/// Whether this process has the rights of root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn packages(names: &[&str], wanted_for: &str) -> Result<()> {
    let remedy = format!("apt-get install -y --no-install-recommends {}", names.join(" "));
    if !is_root() {
        return Err(Unavailable::error(format!("{wanted_for} is missing; as root: {remedy}")));
    }
    if find("apt-get").is_none() {
        return Err(Unavailable::error(format!(
            "{wanted_for} is missing and this is no Debian; install what Debian calls {}",
            names.join(", ")
        )));
    }
    let root = cache::root()?;
    std::fs::create_dir_all(&root).with_context(|| format!("make {}", root.display()))?;
    // One at a time: the policy file below is shared, and a waiting process may find its tool installed.
    let _lock = cache::lock(&root.join("apt.lock"))?;
    say(format_args!("wirecall: installing {} (for {wanted_for})", names.join(" ")));
    let _policy = NoDaemons::declare()?;
    if apt_install(names).is_err() {
        // A fresh image has no package lists, or has lists of files that are gone.
        run(Command::new("apt-get").args(["-q", "update"])).context("update the package lists")?;
        apt_install(names).with_context(|| format!("install by hand: {remedy}"))?;
    }
    Ok(())
}

fn apt_install(names: &[&str]) -> Result<String> {
    run(Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends"])
        .args(names))
}

/// Keeps freshly installed daemons from being started by their packages: tests start their own.
struct NoDaemons {
    ours: bool,
}

impl NoDaemons {
    fn declare() -> Result<Self> {
        // One left by a killed run is ours to remove; one of the machine's owner stays.
        let ours = std::fs::read_to_string(POLICY).map_or(true, |text| text == POLICY_TEXT);
        if ours {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(POLICY, POLICY_TEXT).with_context(|| format!("write {POLICY}"))?;
            std::fs::set_permissions(POLICY, PermissionsExt::from_mode(0o755))
                .with_context(|| format!("make {POLICY} executable"))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.ours {
            // If it stays, the next run removes it: the text is known.
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_and_misses_others() {
        assert!(find("sh").unwrap().is_absolute());
        assert!(find("a-program-that-nobody-wrote").is_none());
    }
}
