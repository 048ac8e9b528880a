//! Records of the OpenTelemetry protocol in its JSON encoding: ids in hex, 64-bit integers and times as
//! text, enums as integers. Only what is written here, and nothing that is read.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer, ser::SerializeSeq as _};
use serde_json::Value;
use stella_domain::{ids::LedgerId, time::Timestamp};

/// Severities as the protocol counts them.
pub(super) const INFO: u8 = 9;
pub(super) const WARN: u8 = 13;
pub(super) const ERROR: u8 = 17;
/// `SPAN_KIND_INTERNAL`.
pub(super) const INTERNAL: u8 = 1;
/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: u8 = 2;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u8 = 2;

/// A kind of telemetry, each with a file and an endpoint of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// What happened, event by event.
    Logs,
    /// Counters.
    Metrics,
    /// Runs and the attempts of their steps.
    Traces,
}

impl Signal {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 3] = [Self::Logs, Self::Metrics, Self::Traces];

    /// The signal's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Traces => "traces",
        }
    }

    /// Names of the three levels around its records.
    fn levels(self) -> [&'static str; 3] {
        match self {
            Self::Logs => ["resourceLogs", "scopeLogs", "logRecords"],
            Self::Metrics => ["resourceMetrics", "scopeMetrics", "metrics"],
            Self::Traces => ["resourceSpans", "scopeSpans", "spans"],
        }
    }
}

/// Records of one signal on their way into one line, or one request.
#[derive(Debug, Clone)]
pub struct Batch {
    opening: String,
    text: String,
    records: usize,
}

impl Batch {
    /// Nothing yet of this signal of this ledger.
    pub fn new(signal: Signal, ledger: &LedgerId) -> Self {
        let [resource, scope, records] = signal.levels();
        let mut attributes = Attributes::default();
        attributes.put("service.name", "stella-orchestrator");
        attributes.put("stella.ledger", ledger.to_string());
        let opening = format!(
            "{{\"{resource}\":[{{\"resource\":{{\"attributes\":{}}},\"{scope}\":[{{\"scope\":\
             {{\"name\":\"stella.ledger\",\"version\":\"1\"}},\"{records}\":[",
            json(&attributes),
        );
        Self { opening, text: String::new(), records: 0 }
    }

    /// Add a record.
    pub fn push(&mut self, record: &impl Serialize) {
        if self.records > 0 {
            self.text.push(',');
        }
        self.text.push_str(&json(record));
        self.records += 1;
    }

    /// How many records it holds.
    pub fn records(&self) -> usize {
        self.records
    }

    /// How many bytes they have.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The export request of what it holds, one line without its line feed, and how many records that
    /// are; `None` when it is empty. It is empty afterwards.
    pub fn take(&mut self) -> Option<(String, usize)> {
        let records = std::mem::take(&mut self.records);
        let text = std::mem::take(&mut self.text);
        (records > 0).then(|| (format!("{}{text}]}}]}}]}}", self.opening), records))
    }
}

/// How many records an export request of this signal holds.
pub(super) fn records_of(signal: Signal, line: &[u8]) -> Result<u64, String> {
    let [resource, scope, records] = signal.levels();
    let request: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let mut count = 0;
    for resource in list(&request, resource)? {
        for scope in list(resource, scope)? {
            count += list(scope, records)?.len() as u64;
        }
    }
    Ok(count)
}

fn list<'a>(level: &'a Value, name: &str) -> Result<&'a [Value], String> {
    let list = level.get(name).and_then(Value::as_array);
    list.map(Vec::as_slice).ok_or_else(|| format!("it has no list {name:?}, as such a request has"))
}

fn json(value: &impl Serialize) -> String {
    // Plain structs of text and numbers: serialising them cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// What is known of a record, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(BTreeMap<String, AnyValue>);

/// A value of the protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AnyValue {
    /// Text.
    StringValue(String),
    /// A 64-bit integer, as text.
    IntValue(String),
    /// A number.
    DoubleValue(f64),
    /// Yes or no.
    BoolValue(bool),
}

impl From<&str> for AnyValue {
    fn from(text: &str) -> Self {
        Self::StringValue(text.to_owned())
    }
}

impl From<String> for AnyValue {
    fn from(text: String) -> Self {
        Self::StringValue(text)
    }
}

impl From<u64> for AnyValue {
    fn from(number: u64) -> Self {
        Self::IntValue(number.to_string())
    }
}

impl From<bool> for AnyValue {
    fn from(yes: bool) -> Self {
        Self::BoolValue(yes)
    }
}

impl Attributes {
    /// Set one; the last word counts.
    pub(super) fn put(&mut self, name: &str, value: impl Into<AnyValue>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Set one, if there is a value.
    pub(super) fn put_some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.put(name, value.to_string());
        }
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct KeyValue<'a> {
            key: &'a str,
            value: &'a AnyValue,
        }
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            list.serialize_element(&KeyValue { key, value })?;
        }
        list.end()
    }
}

/// Something that took time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// 32 hex digits: the run.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// The run's span; none for that itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<String>,
    /// The DAG, or the step.
    pub name: String,
    /// `SPAN_KIND_INTERNAL`.
    pub kind: u8,
    /// When it began.
    #[serde(serialize_with = "as_nanos")]
    pub start_time_unix_nano: Timestamp,
    /// When it ended.
    #[serde(serialize_with = "as_nanos")]
    pub end_time_unix_nano: Timestamp,
    /// What else is known.
    pub attributes: Attributes,
    /// Of a rerun: the first run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Whether it went wrong.
    pub status: Status,
}

/// Another span that this one has to do with.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
}

/// Whether a span went wrong. Empty where it did not: what is well is for readers to say.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Status {
    pub(super) fn error(message: impl ToString) -> Self {
        Self { code: Some(STATUS_ERROR), message: Some(message.to_string()) }
    }
}

/// An event of the ledger as a line of a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRecord {
    /// When it was recorded.
    #[serde(serialize_with = "as_nanos")]
    pub time_unix_nano: Timestamp,
    /// The same: nothing observes it later.
    #[serde(serialize_with = "as_nanos")]
    pub observed_time_unix_nano: Timestamp,
    /// 9, 13 or 17.
    pub severity_number: u8,
    /// The same in a word.
    pub severity_text: &'static str,
    /// The event's type.
    pub event_name: &'static str,
    /// The event's type, too: for readers that show bodies.
    pub body: AnyValue,
    /// What else is known.
    pub attributes: Attributes,
    /// The run's trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The span of the attempt that it is about, else that of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
}

/// A metric and its points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) unit: &'static str,
    #[serde(flatten)]
    pub(super) points: Points,
}

/// The points of a metric, by kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Points {
    Sum(Sum),
    Histogram(Histogram),
    Gauge(Gauge),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sum {
    data_points: Vec<NumberPoint>,
    aggregation_temporality: u8,
    is_monotonic: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Histogram {
    data_points: Vec<HistogramPoint>,
    aggregation_temporality: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Gauge {
    data_points: Vec<NumberPoint>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NumberPoint {
    pub(super) attributes: Attributes,
    #[serde(serialize_with = "as_nanos")]
    pub(super) start_time_unix_nano: Timestamp,
    #[serde(serialize_with = "as_nanos")]
    pub(super) time_unix_nano: Timestamp,
    #[serde(serialize_with = "as_text")]
    pub(super) as_int: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HistogramPoint {
    pub(super) attributes: Attributes,
    #[serde(serialize_with = "as_nanos")]
    pub(super) start_time_unix_nano: Timestamp,
    #[serde(serialize_with = "as_nanos")]
    pub(super) time_unix_nano: Timestamp,
    #[serde(serialize_with = "as_text")]
    pub(super) count: u64,
    pub(super) sum: f64,
    #[serde(serialize_with = "as_texts")]
    pub(super) bucket_counts: Vec<u64>,
    pub(super) explicit_bounds: Vec<f64>,
}

impl Points {
    /// What only grows.
    pub(super) fn sum(data_points: Vec<NumberPoint>) -> Self {
        Self::Sum(Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true })
    }

    pub(super) fn histogram(data_points: Vec<HistogramPoint>) -> Self {
        Self::Histogram(Histogram { data_points, aggregation_temporality: CUMULATIVE })
    }

    pub(super) fn gauge(point: NumberPoint) -> Self {
        Self::Gauge(Gauge { data_points: vec![point] })
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Sum(sum) => sum.data_points.is_empty(),
            Self::Histogram(histogram) => histogram.data_points.is_empty(),
            Self::Gauge(gauge) => gauge.data_points.is_empty(),
        }
    }
}

fn as_nanos<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    // Unsigned in the protocol; the ledger knows nothing before 1970.
    let micros = u64::try_from(time.as_micros()).unwrap_or(0);
    serializer.collect_str(&micros.saturating_mul(1_000))
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn as_text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

fn as_texts<S: Serializer>(numbers: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(numbers.iter().map(ToString::to_string))
}
