//! Who had an address at a time.
//!
//! [`change`] turns Kubernetes objects into [`Identity`](wirecall_schemas::Identity) records, [`interval`] keeps facts
//! with the time they held, [`history`] makes versions of what a watch tells, and [`index`] answers.

mod answer;
pub mod change;
pub mod history;
pub mod index;
pub mod interval;
mod record;

#[cfg(test)]
mod tests;
