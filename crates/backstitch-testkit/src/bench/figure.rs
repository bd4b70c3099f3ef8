//! How is a measurement told, to people and to programs?

use serde::{Serialize, Serializer};

use super::sample::median;

/// One measurement.
///
/// As JSON, under its key:
/// `{"value": 0.31, "unit": "ratio", "runs": [0.30, 0.31, 0.33], "means": "…"}`, or, when it could not be taken,
/// `{"value": null, "unit": "ratio", "not_measured": "why", "means": "…"}`.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Its name, such as `throughput.ratio_512`: it stays.
    pub key: String,
    /// In what it is counted.
    pub unit: &'static str,
    /// What the number says.
    pub means: &'static str,
    /// The number, or why there is none.
    pub measured: Result<Measured, String>,
}

/// A number, and where it comes from.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// The median of the runs.
    pub value: f64,
    /// In the order in which they ran; one, where it was measured once.
    pub runs: Vec<f64>,
}

impl Figure {
    pub(super) fn new(
        key: impl Into<String>,
        unit: &'static str,
        means: &'static str,
        measured: Result<Vec<f64>, String>,
    ) -> Self {
        let measured = measured.map(|runs| Measured { value: median(&runs), runs });
        Self { key: key.into(), unit, means, measured }
    }

    /// The median of these runs.
    pub(super) fn of(
        key: impl Into<String>,
        unit: &'static str,
        means: &'static str,
        runs: Vec<f64>,
    ) -> Self {
        Self::new(key, unit, means, Ok(runs))
    }

    /// This number.
    pub(super) fn once(key: impl Into<String>, unit: &'static str, means: &'static str, value: f64) -> Self {
        Self::of(key, unit, means, vec![value])
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Told<'a> {
            value: Option<f64>,
            unit: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            runs: Option<&'a [f64]>,
            #[serde(skip_serializing_if = "Option::is_none")]
            not_measured: Option<&'a str>,
            means: &'a str,
        }
        let measured = self.measured.as_ref();
        Told {
            value: measured.ok().map(|measured| measured.value),
            unit: self.unit,
            runs: measured.ok().map(|measured| measured.runs.as_slice()),
            not_measured: measured.err().map(String::as_str),
            means: self.means,
        }
        .serialize(serializer)
    }
}

/// On what it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// The version of the server.
    pub postgres: String,
    /// Whether that is a fresh one of the benchmark's own.
    pub private_server: bool,
    /// Its settings that a commit's price depends on.
    pub fsync: String,
    /// What a commit waits for.
    pub synchronous_commit: String,
    /// How much it keeps in memory.
    pub shared_buffers: String,
    /// How many processors this host has; Postgres, worker and clients share them.
    pub processors: usize,
}
