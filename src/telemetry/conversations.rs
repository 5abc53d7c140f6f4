//! What the proxy counts about tokens, overrides and conversation ids; the pins themselves are counted by their
//! table. Closed lists of ends, so that the labels are bounded.

use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::add;

macro_rules! ends {
    ($(#[$doc:meta])* $name:ident { $($(#[$end_doc:meta])* $end:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($(#[$end_doc])* $end),+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$end),+];

            /// The value of the metric's label.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$end => $text),+ }
            }
        }
    };
}

ends! {
    /// What became of a token that a request brought; `Issued` of one that a response took along.
    TokenEnd {
        Issued = "issued",
        Accepted = "accepted",
        Malformed = "malformed",
        UnknownKey = "unknown_key",
        Forged = "forged",
        Expired = "expired",
        Foreign = "foreign",
        /// Its version is gone, or was rolled back.
        Gone = "gone",
    }
}

ends! {
    /// What became of a request's word that asks for a version.
    OverrideEnd {
        Accepted = "accepted",
        Unsigned = "unsigned",
        Malformed = "malformed",
        UnknownKey = "unknown_key",
        Forged = "forged",
        Expired = "expired",
        Foreign = "foreign",
        OtherVersion = "other_version",
        UnknownVersion = "unknown_version",
    }
}

ends! {
    /// Why a conversation could not be told from others.
    IdFault {
        /// Longer than what may be pinned.
        TooLong = "too_long",
        /// The response's body is encoded.
        Encoded = "encoded",
        /// Not in as much of the response's body as is looked at.
        NotFound = "not_found",
    }
}

/// One worker's counts.
#[derive(Default)]
pub struct ConversationCounters {
    tokens: [AtomicU64; TokenEnd::ALL.len()],
    overrides: [AtomicU64; OverrideEnd::ALL.len()],
    ids: [AtomicU64; IdFault::ALL.len()],
}

impl ConversationCounters {
    pub fn token(&self, end: TokenEnd) {
        add(&self.tokens[end as usize]);
    }
    pub fn r#override(&self, end: OverrideEnd) {
        add(&self.overrides[end as usize]);
    }
    pub fn id(&self, fault: IdFault) {
        add(&self.ids[fault as usize]);
    }

    pub fn tokens(&self, end: TokenEnd) -> u64 {
        self.tokens[end as usize].load(Ordering::Relaxed)
    }
    pub fn overrides(&self, end: OverrideEnd) -> u64 {
        self.overrides[end as usize].load(Ordering::Relaxed)
    }
    pub fn ids(&self, fault: IdFault) -> u64 {
        self.ids[fault as usize].load(Ordering::Relaxed)
    }
}
