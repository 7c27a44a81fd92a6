//! Metrics that are owned by what they count.
//!
//! A counter is an atomic in the struct that does the counting; OpenTelemetry reads it when somebody asks. So the hot
//! path pays one relaxed addition, and no name or label is looked up there. Label values come from closed sets
//! ([`Label`]), so that no peer on the wire can grow the number of series.
//!
//! Names are `<service>_<what>_<unit>_total` for counters and `<service>_<what>_<unit>` for gauges and histograms; the
//! service comes from [`Metrics`], the rest is written whole at the place of registration, so that a search for an
//! exported name finds its line.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

/// A closed set of label values, as the reasons of a drop.
pub trait Label: Copy + Send + Sync + 'static {
    /// The label's name, as `reason`.
    const NAME: &'static str;
    /// All values.
    const ALL: &'static [Self];

    /// The value as it is exported, in `snake_case`.
    fn value(self) -> &'static str;

    /// Place of the value in [`Label::ALL`].
    fn index(self) -> usize;
}

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets it to the total that another owner counts, as a pure core that hands out its sums. Totals only grow, so a
    /// smaller one is ignored.
    pub fn advance_to(&self, total: u64) {
        self.0.fetch_max(total, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One counter for each value of a label.
#[derive(Clone, Debug)]
pub struct Counters<L> {
    cells: Arc<[AtomicU64]>,
    label: std::marker::PhantomData<fn(L)>,
}

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        Self { cells: L::ALL.iter().map(|_| AtomicU64::new(0)).collect(), label: std::marker::PhantomData }
    }
}

impl<L: Label> Counters<L> {
    /// Adds to the counter of a label value.
    pub fn add(&self, label: L, amount: u64) {
        if let Some(cell) = self.cells.get(label.index()) {
            cell.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// As [`Counter::advance_to`], for one label value.
    pub fn advance_to(&self, label: L, total: u64) {
        if let Some(cell) = self.cells.get(label.index()) {
            cell.fetch_max(total, Ordering::Relaxed);
        }
    }

    /// The sum of one label value.
    pub fn value(&self, label: L) -> u64 {
        self.cells.get(label.index()).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to it; negative takes away.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Its value now.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bounds of a histogram of durations in seconds: from a tenth of a millisecond to a minute.
pub const SECONDS: [f64; 15] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Where the instruments of a service are registered.
#[derive(Clone, Debug)]
pub struct Metrics {
    meter: Meter,
    service: &'static str,
}

impl Metrics {
    /// Registers with a meter; every name gets the service in front.
    pub fn new(meter: Meter, service: &'static str) -> Self {
        Self { meter, service }
    }

    /// The meter, for libraries that name their instruments themselves (the bus).
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The name as OpenTelemetry has it, where a counter has no `_total`: the Prometheus exporter adds that.
    fn name(&self, rest: &str) -> String {
        format!("{}_{}", self.service, rest.strip_suffix("_total").unwrap_or(rest))
    }

    /// A counter; `name` as `read_packets_total`.
    pub fn counter(&self, name: &str, description: &'static str) -> Counter {
        let counter = Counter::default();
        let observed = counter.clone();
        self.observe_total(name, description, move || observed.value());
        counter
    }

    /// A counter for each value of a label. All are exported from the start, at zero: an alert on a rise then sees the
    /// first one.
    pub fn counters<L: Label>(&self, name: &str, description: &'static str) -> Counters<L> {
        let counters = Counters::<L>::default();
        let observed = counters.clone();
        let labels: Vec<(L, [KeyValue; 1])> =
            L::ALL.iter().map(|label| (*label, [KeyValue::new(L::NAME, label.value())])).collect();
        let _registered = self
            .meter
            .u64_observable_counter(self.name(name))
            .with_description(description)
            .with_callback(move |observer| {
                for (label, attributes) in &labels {
                    observer.observe(observed.value(*label), attributes);
                }
            })
            .build();
        counters
    }

    /// A gauge; `name` as `open_connections`.
    pub fn gauge(&self, name: &str, description: &'static str) -> Gauge {
        let gauge = Gauge::default();
        let observed = gauge.clone();
        let _registered = self
            .meter
            .i64_observable_gauge(self.name(name))
            .with_description(description)
            .with_callback(move |observer| observer.observe(observed.value(), &[]))
            .build();
        gauge
    }

    /// A counter whose sum is kept elsewhere; `read` must be quick and must not block.
    pub fn observe_total(
        &self,
        name: &str,
        description: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let _registered = self
            .meter
            .u64_observable_counter(self.name(name))
            .with_description(description)
            .with_callback(move |observer| observer.observe(read(), &[]))
            .build();
    }

    /// A gauge whose value is kept elsewhere; `None` says that there is none now, and exports nothing.
    pub fn observe(
        &self,
        name: &str,
        description: &'static str,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        let _registered = self
            .meter
            .f64_observable_gauge(self.name(name))
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(value) = read() {
                    observer.observe(value, &[]);
                }
            })
            .build();
    }

    /// Gauges by a label that is bounded, but known only while running, as the partitions of an assignment.
    pub fn observe_each(
        &self,
        name: &str,
        description: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(String, f64)> + Send + Sync + 'static,
    ) {
        let _registered = self
            .meter
            .f64_observable_gauge(self.name(name))
            .with_description(description)
            .with_callback(move |observer| {
                for (value_of_label, value) in read() {
                    observer.observe(value, &[KeyValue::new(label, value_of_label)]);
                }
            })
            .build();
    }

    /// A histogram; `name` with its unit, as `commit_seconds`. Record per commit or batch, not per packet.
    pub fn histogram(&self, name: &str, description: &'static str, bounds: &[f64]) -> Histogram<f64> {
        self.meter
            .f64_histogram(self.name(name))
            .with_description(description)
            .with_boundaries(bounds.to_vec())
            .build()
    }

    /// The constant 1 with the version as a label, the usual way to see which versions run.
    pub(crate) fn build_info(&self, version: &'static str) {
        let _registered = self
            .meter
            .u64_observable_gauge(self.name("build_info"))
            .with_description("The version that runs; always 1.")
            .with_callback(move |observer| observer.observe(1, &[KeyValue::new("version", version)]))
            .build();
    }
}

/// Declares a closed set of label values: an enum with its exported words.
///
/// ```
/// wirecall_service::label! {
///     /// Why a run was dropped.
///     pub enum DropReason: "reason" {
///         /// The queue was full.
///         QueueFull = "queue_full",
///         /// The record was larger than the broker takes.
///         Oversize = "oversize",
///     }
/// }
/// use wirecall_service::metrics::Label as _;
/// assert_eq!(DropReason::Oversize.value(), "oversize");
/// ```
#[macro_export]
macro_rules! label {
    ($(#[$about:meta])* $visible:vis enum $name:ident: $label:literal {
        $($(#[$about_value:meta])* $value:ident = $word:literal,)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visible enum $name { $($(#[$about_value])* $value,)+ }

        impl $crate::metrics::Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            fn value(self) -> &'static str {
                match self { $(Self::$value => $word,)+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
