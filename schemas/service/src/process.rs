//! What the operating system knows of this process, under the names that Prometheus' own clients use, so that common
//! dashboards work.

use std::fs;

use opentelemetry::metrics::Meter;

use crate::metrics::Metrics;

/// Clock ticks of `/proc`, per second: `USER_HZ`, which Linux fixes at 100 for every architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Registers the metrics of the process; where `/proc` is absent they export nothing.
pub(crate) fn register(metrics: &Metrics) {
    let meter = metrics.meter();
    gauge(meter, "process_resident_memory_bytes", "Memory of the process that is in RAM.", resident_bytes);
    gauge(meter, "process_open_fds", "Open file descriptors.", open_files);
    let _registered = meter
        .f64_observable_counter("process_cpu_seconds")
        .with_description("CPU time of the process, in user and kernel mode.")
        .with_callback(|observer| {
            if let Some(seconds) = cpu_seconds() {
                observer.observe(seconds, &[]);
            }
        })
        .build();
}

fn gauge(meter: &Meter, name: &'static str, description: &'static str, read: fn() -> Option<u64>) {
    let _registered = meter
        .u64_observable_gauge(name)
        .with_description(description)
        .with_callback(move |observer| {
            if let Some(value) = read() {
                observer.observe(value, &[]);
            }
        })
        .build();
}

/// `VmRSS` of `/proc/self/status`, which unlike `statm` does not need the page size.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn open_files() -> Option<u64> {
    u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

/// Fields 14 and 15 of `/proc/self/stat` (proc(5)); the program's name before them may hold spaces and parentheses.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let kernel: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(kernel)) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_itself() {
        assert!(resident_bytes().unwrap() > 100_000);
        assert!(open_files().unwrap() >= 3);
        assert!(cpu_seconds().unwrap() >= 0.0);
    }
}
