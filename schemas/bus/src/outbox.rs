//! Where a transform puts its results: into the open transaction.

use crate::BusError;
use crate::transaction::Transactions;

/// A record to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'r> {
    /// Topic.
    pub topic: &'r str,
    /// Partition; `None` places it by its key, as Java producers do.
    pub partition: Option<i32>,
    /// Key.
    pub key: &'r [u8],
    /// Value; `None` deletes the key from a compacted topic.
    pub value: Option<&'r [u8]>,
    /// Timestamp in milliseconds since the epoch; `None` for now.
    pub timestamp_ms: Option<i64>,
}

impl Outgoing<'_> {
    pub(crate) fn size(&self) -> usize {
        self.key.len() + self.value.map_or(0, <[u8]>::len)
    }
}

/// Takes records into the open transaction; opens one with the first.
pub struct Outbox<'p> {
    transactions: &'p mut Transactions,
    suppressed: bool,
}

impl<'p> Outbox<'p> {
    pub(crate) fn new(transactions: &'p mut Transactions, suppressed: bool) -> Self {
        Self { transactions, suppressed }
    }

    /// Whether sending does nothing, because the record at hand is read only to rebuild state.
    pub fn is_suppressed(&self) -> bool {
        self.suppressed
    }

    /// Sends a record. Waits while the producer's queue is full.
    ///
    /// # Errors
    /// [`BusError::MessageTooLarge`] if the record cannot be sent as it is; the transaction goes on, and the caller may
    /// send something smaller. Any other error is to be handed on.
    pub fn send(&mut self, record: &Outgoing<'_>) -> Result<(), BusError> {
        if self.suppressed { Ok(()) } else { self.transactions.send(record) }
    }

    /// Asks for everything since the last commit to be undone and read again, because something that is needed is not
    /// there at the moment. The error is to be handed on. The pipeline waits longer from time to time.
    pub fn abort(&mut self, cause: impl Into<String>) -> BusError {
        self.transactions.ask_abort(cause.into())
    }

    /// Counts a dead letter.
    pub(crate) fn count_dead_letter(&self) {
        if !self.suppressed {
            self.transactions.metrics().dead_letters.increment();
        }
    }
}
