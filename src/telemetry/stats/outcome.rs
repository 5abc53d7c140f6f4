//! How an exchange and its stream ended, and the class of its status: closed lists, each a metric label.

/// How an exchange ended, seen from the version. Also the metric label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// The whole answer was delivered, with a status under 500.
    Success,
    /// The whole answer was delivered; its status is 5xx.
    ServerError,
    /// No connection to any endpoint.
    ConnectFailed,
    /// The version has no endpoint.
    NoEndpoint,
    /// Its circuit breaker let it have no request. The version's error: it is why its clients got none of its answers.
    CircuitOpen,
    /// No response head in time.
    ResponseTimeout,
    /// The connection ended before a whole response head.
    Reset,
    /// Not HTTP, or HTTP that must not be passed on.
    BadResponse,
    /// The body ended before its announced end.
    Truncated,
    /// The body stood still for longer than allowed.
    IdleTimeout,
    /// The answer is a stream and said itself that it failed: an error event within it.
    StreamError,
    /// The answer is a stream and no event of it came within the agent's `stall_timeout`.
    Stalled,
    /// The client went away first. Not the version's fault.
    ClientCancel,
    /// The client's own request broke: a bad or too large body. Not the version's fault.
    ClientError,
}

impl Outcome {
    pub const ALL: [Self; 14] = [
        Self::Success,
        Self::ServerError,
        Self::ConnectFailed,
        Self::NoEndpoint,
        Self::CircuitOpen,
        Self::ResponseTimeout,
        Self::Reset,
        Self::BadResponse,
        Self::Truncated,
        Self::IdleTimeout,
        Self::StreamError,
        Self::Stalled,
        Self::ClientCancel,
        Self::ClientError,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ServerError => "server_error",
            Self::ConnectFailed => "connect_failed",
            Self::NoEndpoint => "no_endpoint",
            Self::CircuitOpen => "circuit_open",
            Self::ResponseTimeout => "response_timeout",
            Self::Reset => "reset",
            Self::BadResponse => "bad_response",
            Self::Truncated => "truncated",
            Self::IdleTimeout => "idle_timeout",
            Self::StreamError => "stream_error",
            Self::Stalled => "stalled",
            Self::ClientCancel => "client_cancel",
            Self::ClientError => "client_error",
        }
    }

    /// Whether the version is to blame.
    pub fn is_error(self) -> bool {
        !matches!(self, Self::Success | Self::ClientCancel | Self::ClientError)
    }

    /// Whether it says anything of the version at all: what the client broke is no evidence.
    pub fn counts(self) -> bool {
        !matches!(self, Self::ClientCancel | Self::ClientError)
    }
}

/// `1xx` … `5xx`, or none where no response head came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StatusClass {
    None,
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
}

impl StatusClass {
    pub const ALL: [Self; 6] =
        [Self::None, Self::Informational, Self::Success, Self::Redirection, Self::ClientError, Self::ServerError];

    pub fn of(status: u16) -> Self {
        match status / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            5 => Self::ServerError,
            _ => Self::None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

/// How an answer ended that is a stream, or that speaks a known dialect. Also the metric label `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StreamEnd {
    /// Its terminal event was seen, or it ended cleanly where its dialect has none.
    Complete,
    /// It said itself that it failed.
    Error,
    /// It ended before its terminal event.
    Truncated,
    /// No event of it came for the set time.
    Stalled,
    /// The client went away first. Not the version's fault.
    Cancelled,
    /// Its content is encoded and was not read.
    Opaque,
}

impl StreamEnd {
    pub const ALL: [Self; 6] =
        [Self::Complete, Self::Error, Self::Truncated, Self::Stalled, Self::Cancelled, Self::Opaque];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Truncated => "truncated",
            Self::Stalled => "stalled",
            Self::Cancelled => "cancelled",
            Self::Opaque => "opaque",
        }
    }

    /// Whether the version is to blame.
    pub fn is_error(self) -> bool {
        matches!(self, Self::Error | Self::Truncated | Self::Stalled)
    }

    /// Whether it says anything of the version: not what the client broke off or what nobody could read.
    pub fn counts(self) -> bool {
        self.is_error() || self == Self::Complete
    }
}
