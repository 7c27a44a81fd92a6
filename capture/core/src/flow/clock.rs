//! The capture's own clock: microseconds that never run backwards, driven by capture times.
//!
//! Capture times do run backwards: by a little when several queues or interfaces are merged, by years when one file
//! follows another or a host's clock was set. Deadlines need a clock that does neither, so a step back of more than
//! [`TOLERANCE`] shifts the clock instead of stopping it until the old time is reached again.

use wirecall_schemas::Timestamp;

/// Disorder that is taken for disorder and not for a step of the clock, in microseconds. A guess: merged interfaces
/// differ by milliseconds, hosts without time synchronisation by seconds.
const TOLERANCE: i64 = 10_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    now: i64,
    shift: i64,
    started: bool,
}

impl Clock {
    /// Takes a capture time; gives the clock's time.
    pub(crate) fn advance(&mut self, time: Timestamp) -> i64 {
        let micros = time.as_micros().saturating_add(self.shift);
        if !self.started {
            self.started = true;
            self.now = micros;
        } else if micros < self.now.saturating_sub(TOLERANCE) {
            self.shift = self.shift.saturating_add(self.now.saturating_sub(micros));
        } else {
            self.now = self.now.max(micros);
        }
        self.now
    }

    /// The clock's time.
    pub(crate) const fn now(&self) -> i64 {
        self.now
    }

    /// The capture time that belongs to the clock's time.
    pub(crate) const fn capture_time(&self) -> Timestamp {
        Timestamp::from_micros(self.now.saturating_sub(self.shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disorder_does_not_move_the_clock() {
        let mut clock = Clock::default();
        assert_eq!(clock.advance(Timestamp::from_micros(1_000)), 1_000);
        assert_eq!(clock.advance(Timestamp::from_micros(400)), 1_000);
        assert_eq!(clock.advance(Timestamp::from_micros(1_500)), 1_500);
    }

    #[test]
    fn a_step_back_shifts_the_clock() {
        let mut clock = Clock::default();
        clock.advance(Timestamp::from_micros(100_000_000));
        assert_eq!(clock.advance(Timestamp::from_micros(1_000)), 100_000_000);
        assert_eq!(clock.advance(Timestamp::from_micros(3_000)), 100_002_000);
        assert_eq!(clock.capture_time(), Timestamp::from_micros(3_000));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let mut clock = Clock::default();
        for micros in [i64::MAX, i64::MIN, 0, i64::MAX, i64::MIN] {
            clock.advance(Timestamp::from_micros(micros));
        }
        assert_eq!(clock.now(), i64::MAX);
    }
}
