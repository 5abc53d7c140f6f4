//! The kinds of problems. A code, once it was given, keeps its meaning.

use axum::http::StatusCode;

macro_rules! kinds {
    ($($kind:ident $status:ident $code:literal $title:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($kind),* }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            pub fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status),* }
            }

            /// The last part of [`Kind::uri`].
            pub fn code(self) -> &'static str {
                match self { $(Self::$kind => $code),* }
            }

            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title),* }
            }
        }
    };
}

#[rustfmt::skip]
kinds! {
    BadRequest          BAD_REQUEST           "bad_request"             "The request is not understood";
    WhichEnvironment    BAD_REQUEST           "which_environment"       "The agent is in several environments";
    TokenWanted         UNAUTHORIZED          "token_wanted"            "A token is needed";
    WrongToken          UNAUTHORIZED          "wrong_token"             "The token is not known";
    ExpiredToken        UNAUTHORIZED          "expired_token"           "The token has expired";
    RoleTooLow          FORBIDDEN             "role_too_low"            "The token's role is not enough";
    ForeignHost         FORBIDDEN             "foreign_host"            "Not under this host name";
    CrossSite           FORBIDDEN             "cross_site"              "Not from another site";
    NoSuchPath          NOT_FOUND             "no_such_path"            "Nothing is served here";
    UnknownAgent        NOT_FOUND             "unknown_agent"           "There is no such agent";
    UnknownEnvironment  NOT_FOUND             "unknown_environment"     "There is no such environment";
    UnknownDeployment   NOT_FOUND             "unknown_deployment"      "There is no such deployment";
    UnknownRollbackPoint NOT_FOUND            "unknown_rollback_point"  "There is no such rollback point";
    UnknownMigration    NOT_FOUND             "unknown_migration"       "There is no such migration";
    UnknownConversation NOT_FOUND             "unknown_conversation"    "There is no such conversation";
    NoDeployment        NOT_FOUND             "no_deployment"           "The agent has no deployment";
    MethodNotAllowed    METHOD_NOT_ALLOWED    "method_not_allowed"      "Not with this method";
    RequestTimeout      REQUEST_TIMEOUT       "request_timeout"         "The request took too long to arrive";
    Conflict            CONFLICT              "conflict"                "Somebody else was first";
    Refused             CONFLICT              "refused"                 "Not in the state that things are in";
    NothingDeployed     CONFLICT              "nothing_deployed"        "There is nothing to act on";
    IsStable            CONFLICT              "is_stable"               "The version is the stable one";
    AlreadyRolledBack   CONFLICT              "already_rolled_back"     "It was rolled back before";
    MigrationRunning    CONFLICT              "migration_running"       "Another migration is under way";
    IdempotencyKeyInUse CONFLICT              "idempotency_key_in_use"  "The same request is under way";
    BodyTooLarge        PAYLOAD_TOO_LARGE     "body_too_large"          "The body is too large";
    InvalidFields       UNPROCESSABLE_ENTITY  "invalid_fields"          "Some fields are wrong";
    IdempotencyKeyReused UNPROCESSABLE_ENTITY "idempotency_key_reused"  "The key was used for another request";
    Unpublished         INTERNAL_SERVER_ERROR "unpublished"             "The routing table could not be built";
    StoreUnavailable    SERVICE_UNAVAILABLE   "store_unavailable"       "The store cannot be read or written";
    InEffectNotStored   SERVICE_UNAVAILABLE   "in_effect_not_stored"    "In effect, but not yet in the store";
    TooManyFollowers    SERVICE_UNAVAILABLE   "too_many_followers"      "Too many follow the events";
    TokensUnreadable    SERVICE_UNAVAILABLE   "tokens_unreadable"       "Tokens cannot be checked";
}

impl Kind {
    pub fn uri(self) -> String {
        format!("urn:pointsman:problem:{}", self.code())
    }

    /// For `WWW-Authenticate`.
    pub fn challenge(self) -> Option<&'static str> {
        match self {
            Self::TokenWanted => Some("Bearer realm=\"pointsman\""),
            Self::WrongToken | Self::ExpiredToken => Some("Bearer realm=\"pointsman\", error=\"invalid_token\""),
            Self::RoleTooLow => Some("Bearer realm=\"pointsman\", error=\"insufficient_scope\""),
            _ => None,
        }
    }
}
