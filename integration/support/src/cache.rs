//! Where fetched and built components are kept: one folder per component and version, complete or absent.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::skip::say;

/// The cache's root: `$WIRECALL_CACHE`, else `$XDG_CACHE_HOME/wirecall`, else `$HOME/.cache/wirecall`.
///
/// # Errors
///
/// If none of the three variables is set.
pub fn root() -> Result<PathBuf> {
    root_from(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn root_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    variable("WIRECALL_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("wirecall")))
        .or_else(|| Some(variable("HOME")?.join(".cache/wirecall")))
        .context("nowhere to keep fetched components: set WIRECALL_CACHE to a folder")
}

/// The folder of a component, filled by `fill` the first time.
///
/// `fill` works in a temporary folder beside the final place, which is renamed when it is done: an interrupted fill
/// leaves nothing that looks complete. A file lock makes parallel test processes wait for the one that fills.
///
/// # Errors
///
/// Those of `fill`, and those of the file system.
pub fn ensure(component: &str, version: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    ensure_in(&root()?, component, version, fill)
}

fn ensure_in(
    root: &Path,
    component: &str,
    version: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let parent = root.join(component);
    let place = parent.join(version);
    if place.is_dir() {
        return Ok(place);
    }
    std::fs::create_dir_all(&parent)
        .with_context(|| format!("make {} (WIRECALL_CACHE names another place)", parent.display()))?;
    let _lock = lock(&parent.join(format!("{version}.lock")))?;
    if place.is_dir() {
        return Ok(place);
    }
    let unfinished = parent.join(format!("{version}.unfinished"));
    remove(&unfinished)?;
    std::fs::create_dir(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
    fill(&unfinished)
        .with_context(|| format!("prepare {component} {version} in {}", unfinished.display()))?;
    std::fs::rename(&unfinished, &place).with_context(|| format!("rename to {}", place.display()))?;
    say(format_args!("wirecall: {component} {version} is in {}", place.display()));
    Ok(place)
}

/// Takes the lock, held until the file is dropped; the kernel releases it if the process dies.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let lock = File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    lock.lock().with_context(|| format!("lock {}", path.display()))?;
    Ok(lock)
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_root_follows_the_variables_in_order() {
        let only = |wanted: &'static [&'static str]| {
            move |name: &str| wanted.contains(&name).then(|| PathBuf::from(format!("/{name}")))
        };
        let all = root_from(only(&["WIRECALL_CACHE", "XDG_CACHE_HOME", "HOME"])).unwrap();
        assert_eq!(all, Path::new("/WIRECALL_CACHE"));
        assert_eq!(
            root_from(only(&["XDG_CACHE_HOME", "HOME"])).unwrap(),
            Path::new("/XDG_CACHE_HOME/wirecall")
        );
        assert_eq!(root_from(only(&["HOME"])).unwrap(), Path::new("/HOME/.cache/wirecall"));
        assert!(root_from(only(&[])).is_err());
    }

    #[test]
    fn many_threads_fill_once() {
        let root = tempfile::tempdir().unwrap();
        let fills = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let place = ensure_in(root.path(), "thing", "1", |folder| {
                        fills.fetch_add(1, Ordering::Relaxed);
                        Ok(std::fs::write(folder.join("file"), "complete")?)
                    })
                    .unwrap();
                    assert_eq!(std::fs::read_to_string(place.join("file")).unwrap(), "complete");
                });
            }
        });
        assert_eq!(fills.into_inner(), 1);
    }

    #[test]
    fn a_failed_fill_leaves_nothing_that_looks_complete() {
        let root = tempfile::tempdir().unwrap();
        let failed = ensure_in(root.path(), "thing", "1", |folder| {
            std::fs::write(folder.join("half"), "")?;
            anyhow::bail!("the network went away")
        });
        assert!(format!("{:#}", failed.unwrap_err()).contains("the network went away"));
        let place = ensure_in(root.path(), "thing", "1", |_| Ok(())).unwrap();
        assert!(!place.join("half").exists());
    }
}
