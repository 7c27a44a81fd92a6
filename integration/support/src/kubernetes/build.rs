//! kube-apiserver, built once from its module on the Go module proxy.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::run;
use crate::skip::{Unavailable, say};
use crate::{cache, install};

/// The version that is built and run.
pub const VERSION: &str = "1.34.4";
/// The version under which the staging parts of the same release are published.
const STAGING_VERSION: &str = "0.34.4";
const MODULE: &str = "k8s.io/kubernetes";

/// Builds kube-apiserver into the cache if it is not there, and gives the program's path.
///
/// # Errors
///
/// If there is no Go tool chain, or the module proxy cannot be reached.
pub fn fetch() -> Result<PathBuf> {
    let folder = cache::ensure("kube-apiserver", VERSION, |folder| {
        let go = go()?;
        say(format_args!(
            "wirecall: building kube-apiserver {VERSION} with Go (about 5 minutes on two cores, once)"
        ));
        write_module(&go, folder)?;
        compile(&go, folder).context("if Go is older than 1.24: install a newer one")
    })?;
    Ok(folder.join("kube-apiserver"))
}

fn go() -> Result<PathBuf> {
    install::find("go").ok_or_else(|| {
        Unavailable::error("kube-apiserver is built from source and Go is missing; install Go 1.24 or later")
    })
}

/// A module that pins the staging parts, which the release's own go.mod takes from folders beside it.
fn write_module(go: &Path, folder: &Path) -> Result<()> {
    let downloaded = run(Command::new(go)
        .args(["mod", "download", "-json", &format!("{MODULE}@v{VERSION}")])
        .current_dir(folder))?;
    let downloaded: serde_json::Value =
        serde_json::from_str(&downloaded).context("read what Go downloaded")?;
    let original = downloaded["GoMod"].as_str().context("Go names no go.mod")?;
    let original = std::fs::read_to_string(original).with_context(|| format!("read {original}"))?;
    std::fs::write(folder.join("go.mod"), pinned(&original)).context("write go.mod")?;
    // The module needs a package of its own that imports the program, else Go drops the requirement.
    std::fs::write(
        folder.join("components.go"),
        format!("package components\n\nimport _ \"{MODULE}/cmd/kube-apiserver/app\"\n"),
    )
    .context("write components.go")
}

fn pinned(original: &str) -> String {
    let mut text = "module wirecall.invalid/components\n\n".to_owned();
    for line in original.lines().filter(|line| line.starts_with("go ") || line.starts_with("godebug ")) {
        text.push_str(line);
        text.push('\n');
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\nrequire {MODULE} v{VERSION}\n\nreplace (");
    for line in original.lines() {
        if let Some((_, path)) = line.split_once("=> ./staging/src/") {
            let _ = writeln!(text, "\t{path} => {path} v{STAGING_VERSION}");
        }
    }
    text.push_str(")\n");
    text
}

fn compile(go: &Path, folder: &Path) -> Result<()> {
    let flags = format!(
        "-s -w -X k8s.io/component-base/version.gitVersion=v{VERSION} \
         -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34"
    );
    // Behind everything else: whoever runs the tests may want to work meanwhile.
    run(Command::new(install::tool("nice", "coreutils")?)
        .args(["-n", "10"])
        .arg(go)
        .args(["build", "-mod=mod", "-trimpath", "-ldflags", &flags, "-o", "kube-apiserver"])
        .arg(format!("{MODULE}/cmd/kube-apiserver"))
        .env("CGO_ENABLED", "0")
        .current_dir(folder))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_parts_are_pinned_and_the_rest_left() {
        let original = "module k8s.io/kubernetes\n\ngo 1.24.0\n\ngodebug default=go1.24\n\nrequire (\n\tx.y/z v1.0.0\n)\n\n\
                        replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n";
        let text = pinned(original);
        assert!(text.contains("\tk8s.io/api => k8s.io/api v0.34.4\n"), "{text}");
        assert!(text.contains("go 1.24.0\n"));
        assert!(text.contains("godebug default=go1.24\n"));
        assert!(!text.contains("x.y/z"));
    }
}
