//! A finished exchange, as the hot path hands it over to be counted.

use std::time::Duration;

use super::{Outcome, StatusClass, StreamEnd};

#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub outcome: Outcome,
    pub class: StatusClass,
    /// To the last byte.
    pub latency: Duration,
    /// To the response head; `None` where none came.
    pub first_byte: Option<Duration>,
    /// `None`: the answer was no stream and spoke no known dialect.
    pub stream: Option<StreamEnd>,
    /// To the first event with content; `None` where none came.
    pub first_token: Option<Duration>,
    pub usage: Usage,
    /// In 1e-9 of the price table's currency; `None` where the usage or the model's price is unknown.
    pub cost_nanos: Option<u64>,
}

/// The tokens that an answer says it took, for the whole exchange. `None`: it did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
}

impl Usage {
    pub fn is_known(&self) -> bool {
        self.input_tokens.is_some() || self.output_tokens.is_some()
    }
}

impl Exchange {
    /// One whose answer was no stream and told no usage.
    pub fn plain(outcome: Outcome, class: StatusClass, latency: Duration, first_byte: Option<Duration>) -> Self {
        let usage = Usage::default();
        Self { outcome, class, latency, first_byte, stream: None, first_token: None, usage, cost_nanos: None }
    }
}
