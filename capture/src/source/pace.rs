//! When to hand out the packets of a file: at once, or with the timing they were captured with.

use std::time::{Duration, Instant};

use wirecall_schemas::Timestamp;

/// The schedule: a pure function from capture times to time since the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    speed: f64,
    first: Option<Timestamp>,
}

impl Schedule {
    /// At this multiple of the original timing; 0 is flat out, 2 twice as fast. What is not a positive number is taken
    /// as 0.
    #[must_use]
    pub const fn new(speed: f64) -> Self {
        Self { speed: if speed > 0.0 && speed.is_finite() { speed } else { 0.0 }, first: None }
    }

    /// How long after the first packet this one is due. A packet that is older than the first is due at once.
    pub fn due(&mut self, time: Timestamp) -> Duration {
        if self.speed == 0.0 {
            return Duration::ZERO;
        }
        let first = *self.first.get_or_insert(time);
        let micros = u64::try_from(time.micros_since(first)).unwrap_or(0);
        // A capture of centuries at a crawl would overflow; it is then never due.
        let seconds = Duration::from_micros(micros).as_secs_f64() / self.speed;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// Holds packets back until they are due.
#[derive(Debug)]
pub struct Pacer {
    schedule: Schedule,
    started: Instant,
}

impl Pacer {
    /// Starts now; the first packet is due at once.
    #[must_use]
    pub fn new(speed: f64) -> Self {
        Self { schedule: Schedule::new(speed), started: Instant::now() }
    }

    /// How long it takes until a packet with this capture time is due.
    pub fn left(&mut self, time: Timestamp) -> Duration {
        // Flat out needs no clock.
        match self.schedule.due(time) {
            Duration::ZERO => Duration::ZERO,
            due => due.saturating_sub(self.started.elapsed()),
        }
    }

    /// Waits until a packet with this capture time is due. `pause` waits for at most the time given, and says whether to
    /// stop waiting.
    pub fn wait(&mut self, time: Timestamp, mut pause: impl FnMut(Duration) -> bool) {
        loop {
            let left = self.left(time);
            if left.is_zero() || pause(left) {
                return;
            }
        }
    }

    /// Waits until a packet with this capture time is due, but not beyond `deadline`; whether it is due.
    pub fn wait_until(&mut self, time: Timestamp, deadline: Instant) -> bool {
        loop {
            let left = self.left(time);
            if left.is_zero() {
                return true;
            }
            let allowed = deadline.saturating_duration_since(Instant::now());
            if allowed.is_zero() {
                return false;
            }
            pause(left.min(allowed));
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this loop paces packets, so it waits for time and for nothing else"
)]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn flat_out_is_always_due() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut schedule = Schedule::new(speed);
            assert_eq!([1, 1_000_000_000].map(|time| schedule.due(at(time))), [Duration::ZERO; 2]);
        }
    }

    #[test]
    fn speed_divides_the_original_distance() {
        for (speed, seconds) in [(1.0, 10.0), (2.0, 5.0), (0.5, 20.0)] {
            let mut schedule = Schedule::new(speed);
            assert_eq!(schedule.due(at(1_700_000_000_000_000)), Duration::ZERO);
            assert_eq!(schedule.due(at(1_700_000_010_000_000)), Duration::from_secs_f64(seconds));
        }
    }

    #[test]
    fn a_packet_older_than_the_first_is_due_at_once() {
        let mut schedule = Schedule::new(1.0);
        schedule.due(at(5_000_000));
        assert_eq!(schedule.due(at(1)), Duration::ZERO);
        assert_eq!(schedule.due(at(6_000_000)), Duration::from_secs(1));
    }

    #[test]
    fn what_cannot_be_expressed_is_never_due() {
        let mut schedule = Schedule::new(1e-9);
        schedule.due(at(i64::MIN));
        assert_eq!(schedule.due(at(i64::MAX)), Duration::MAX);
    }

    #[test]
    fn waiting_ends_at_the_deadline_or_when_the_packet_is_due() {
        let mut pacer = Pacer::new(1.0);
        let past = Instant::now();
        assert!(pacer.wait_until(at(0), past), "the first packet is due at once");
        assert!(!pacer.wait_until(at(3_600_000_000), past));
        assert!(pacer.left(at(3_600_000_000)) > Duration::from_secs(3_000));
        let started = pacer.started;
        assert!(pacer.wait_until(at(30_000), started + Duration::from_secs(3_600)));
        assert!(started.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn waiting_ends_when_the_pause_says_so() {
        let mut pacer = Pacer::new(1.0);
        pacer.wait(at(0), |_| unreachable!("the first packet is due at once"));
        let mut pauses = 0;
        pacer.wait(at(3_600_000_000), |left| {
            pauses += 1;
            assert!(left <= Duration::from_secs(3_600));
            pauses == 3
        });
        assert_eq!(pauses, 3);
    }
}
