//! HTTP requests to components, by curl: enough for readiness and set-up, and it speaks TLS.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::install;

/// Longer than any answer of a healthy component takes, in seconds.
const LIMIT: &str = "60";

/// A request before it is sent.
#[derive(Debug)]
pub struct Request<'a> {
    method: &'a str,
    url: &'a str,
    headers: Vec<String>,
    certificates: Option<&'a Path>,
    body: Option<Vec<u8>>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code as sent.
    pub status: u16,
    /// The body as sent.
    pub body: Vec<u8>,
}

impl<'a> Request<'a> {
    /// A request without headers and body.
    pub fn new(method: &'a str, url: &'a str) -> Self {
        Self { method, url, headers: Vec::new(), certificates: None, body: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(format!("{name}: {value}"));
        self
    }

    /// Trusts the certificates of this PEM file, and no others.
    #[must_use]
    pub fn trust(mut self, certificates: &'a Path) -> Self {
        self.certificates = Some(certificates);
        self
    }

    /// Sets the body and its media type.
    #[must_use]
    pub fn body(self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut request = self.header("Content-Type", media_type);
        request.body = Some(body.into());
        request
    }

    /// Sends the request and waits for the whole response, whatever its status.
    ///
    /// # Errors
    ///
    /// If there is no response: connection refused, broken off, longer than a minute.
    pub fn send(self) -> Result<Response> {
        let mut command = Command::new(install::tool("curl", "curl")?);
        command.args([
            "-sS",
            "--noproxy",
            "*",
            "--max-time",
            LIMIT,
            "-w",
            "\n%{http_code}",
            "-X",
            self.method,
        ]);
        for header in &self.headers {
            command.args(["-H", header]);
        }
        if let Some(certificates) = self.certificates {
            command.arg("--cacert").arg(certificates);
        }
        if self.body.is_some() {
            command.args(["--data-binary", "@-"]);
        }
        command.args(["--", self.url]);
        let place = || format!("{} {}", self.method, self.url);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start curl for {}", place()))?;
        let input = child.stdin.take().context("curl has no standard input")?;
        let body = self.body.unwrap_or_default();
        // From a thread: a body longer than the pipe is written while the response is read.
        let writer = std::thread::spawn(move || { input }.write_all(&body));
        let output = child.wait_with_output().with_context(|| format!("wait for curl, {}", place()))?;
        // curl may have ended without reading all; what it says below tells more.
        let _ = writer.join();
        if !output.status.success() {
            bail!("{} {}: {}", self.method, self.url, String::from_utf8_lossy(&output.stderr).trim());
        }
        parse(&output.stdout).with_context(|| format!("read the status of {} {}", self.method, self.url))
    }
}

impl Response {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, for a status of 2xx.
    ///
    /// # Errors
    ///
    /// If the status is another one, or the body is not JSON; both with the body.
    pub fn json(&self) -> Result<Value> {
        if !self.is_success() {
            bail!("status {}: {}", self.status, self.text());
        }
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }
}

/// Takes the status off the end, where `-w` has put it on a line of its own.
fn parse(output: &[u8]) -> Option<Response> {
    let newline = output.iter().rposition(|byte| *byte == b'\n')?;
    let status = std::str::from_utf8(output.get(newline + 1..)?).ok()?.parse().ok()?;
    Some(Response { status, body: output[..newline].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_taken_off_the_end_of_the_body() {
        let response = parse(b"one\ntwo\n\n404").unwrap();
        assert_eq!(response, Response { status: 404, body: b"one\ntwo\n".to_vec() });
        assert!(response.json().unwrap_err().to_string().contains("404"));
    }
}
