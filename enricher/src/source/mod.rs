//! Where identities come from: a file, the topic, the API server.

pub mod file;
pub mod kafka;
pub mod kubernetes;
