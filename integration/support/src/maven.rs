//! Java artefacts from Maven Central through the ordinary client.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::install;
use crate::process::run;

/// Pinned, so that a fetch today and one next year do the same.
const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1";

/// The Java runtime; installed if missing.
pub(crate) fn java() -> Result<std::path::PathBuf> {
    install::tool("java", "openjdk-17-jre-headless")
}

/// Copies the artefacts `(group, name, version)` and all that they depend on to `folder/libs`.
pub(crate) fn copy_with_dependencies(artifacts: &[(&str, &str, &str)], folder: &Path) -> Result<()> {
    std::fs::write(folder.join("pom.xml"), pom(artifacts)).context("write pom.xml")?;
    run(maven()?
        .arg(format!("{DEPENDENCY_PLUGIN}:copy-dependencies"))
        .arg("-DoutputDirectory=libs")
        .current_dir(folder))?;
    Ok(())
}

/// Copies one artefact, given as Maven spells it (`group:name:version:packaging:classifier`), into `folder`.
pub(crate) fn copy(artifact: &str, folder: &Path) -> Result<()> {
    run(maven()?
        .arg(format!("{DEPENDENCY_PLUGIN}:copy"))
        .arg(format!("-Dartifact={artifact}"))
        .arg("-DoutputDirectory=.")
        .current_dir(folder))?;
    Ok(())
}

fn maven() -> Result<Command> {
    java()?;
    let mut command = Command::new(install::tool("mvn", "maven")?);
    command.args(["-q", "-B"]);
    Ok(command)
}

fn pom(artifacts: &[(&str, &str, &str)]) -> String {
    let mut text = String::from(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>wirecall</groupId>\n  <artifactId>test-components</artifactId>\n  <version>1</version>\n  \
         <packaging>pom</packaging>\n  <dependencies>\n",
    );
    for (group, name, version) in artifacts {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "    <dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>\
             <version>{version}</version></dependency>"
        );
    }
    text.push_str("  </dependencies>\n</project>\n");
    text
}
