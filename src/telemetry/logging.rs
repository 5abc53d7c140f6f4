//! Where `tracing` events go: standard error, as text for people and as JSON for machines.
//!
//! The level comes from `--log-level`, else from the environment variable [`ENV`], else it is `info`. Both
//! take one level or a list of directives, such as `info,pointsman::control=debug`. Requests are not
//! logged here; that is [`super::access`].

use std::io::IsTerminal;
use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Read where no level is given on the command line.
pub const ENV: &str = "POINTSMAN_LOG";
const DEFAULT_LEVEL: &str = "info";

/// `--log-format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    Text,
    Json,
}

impl FromStr for LogFormat {
    type Err = LoggingError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LoggingError::Format(name.to_owned())),
        }
    }
}

impl std::fmt::Display for LogFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoggingError {
    #[error("log format {0:?}: expected auto, text or json")]
    Format(String),
    #[error("log level {text:?} ({source_name}): {reason}")]
    Level { text: String, source_name: &'static str, reason: String },
    #[error("logging is already set up")]
    AlreadySet,
}

/// Sets the process's logging up; once, before any thread starts.
pub fn init(format: LogFormat, level: Option<&str>) -> Result<(), LoggingError> {
    let environment = std::env::var(ENV).ok();
    let filter = filter(level, environment.as_deref())?;
    let terminal = std::io::stderr().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let style = Style::of(format, terminal, colour);
    tracing::subscriber::set_global_default(subscriber(style, filter, std::io::stderr))
        .map_err(|_| LoggingError::AlreadySet)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Json,
    Text { colour: bool },
}

impl Style {
    fn of(format: LogFormat, terminal: bool, colour: bool) -> Self {
        match format {
            LogFormat::Json => Self::Json,
            LogFormat::Auto if !terminal => Self::Json,
            LogFormat::Auto | LogFormat::Text => Self::Text { colour },
        }
    }
}

/// The command line wins over the environment. An empty text is none.
fn filter(flag: Option<&str>, environment: Option<&str>) -> Result<EnvFilter, LoggingError> {
    let given = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let (text, source_name) = match (given(flag), given(environment)) {
        (Some(text), _) => (text, "--log-level"),
        (None, Some(text)) => (text, ENV),
        (None, None) => (DEFAULT_LEVEL.to_owned(), "default"),
    };
    EnvFilter::builder().parse(&text).map_err(|error| LoggingError::Level {
        reason: error.to_string(),
        text,
        source_name,
    })
}

fn subscriber<W>(style: Style, filter: EnvFilter, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // A log that cannot be written must not end the thread that logs.
        .log_internal_errors(false);
    match style {
        // Flat, so that a log store finds `error` and `agent` beside `message`.
        Style::Json => Box::new(builder.json().flatten_event(true).with_current_span(false).finish()),
        Style::Text { colour } => Box::new(builder.with_ansi(colour).with_target(false).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What a test's subscriber wrote.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic under the lock").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log(style: Style, level: &str, events: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let filter = filter(Some(level), None).expect("a sound level");
        tracing::subscriber::with_default(subscriber(style, filter, move || writer.clone()), events);
        let bytes = written.0.lock().expect("no panic under the lock").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        let text = log(Style::Json, "info", || {
            tracing::warn!(agent = "support-bot", weight = 5, "rolled back:\n\"why\"");
            tracing::debug!("not shown");
            tracing::info!("second");
        });
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["message"], "rolled back:\n\"why\"");
        assert_eq!((&lines[0]["agent"], &lines[0]["weight"]), (&"support-bot".into(), &5.into()));
        assert!(lines[0]["timestamp"].is_string());
    }

    #[test]
    fn text_has_colour_only_where_asked() {
        let event = || tracing::info!(agent = "support-bot", "ready");
        let plain = log(Style::Text { colour: false }, "info", event);
        assert!(plain.contains("INFO") && plain.contains("ready") && plain.contains("support-bot"), "{plain}");
        assert!(!plain.contains('\x1b'), "{plain}");
        assert!(log(Style::Text { colour: true }, "info", event).contains('\x1b'));
    }

    #[test]
    fn directives_reach_single_modules() {
        let text = log(Style::Json, "warn,pointsman::control=debug", || {
            tracing::info!(target: "pointsman::proxy", "quiet");
            tracing::debug!(target: "pointsman::control", "loud");
        });
        assert!(text.contains("loud") && !text.contains("quiet"), "{text}");
    }

    #[test]
    fn the_flag_wins_then_the_environment_then_info() {
        for (flag, environment, expected) in [
            (Some("debug"), Some("error"), "debug"),
            (None, Some("error"), "error"),
            (Some(" "), Some("error"), "error"),
            (Some(""), Some(""), "info"),
            (None, None, "info"),
        ] {
            let found = filter(flag, environment).map(|filter| filter.to_string());
            assert_eq!(found.as_deref(), Ok(expected), "{flag:?} {environment:?}");
        }
    }

    #[test]
    fn a_bad_level_is_an_error_that_names_its_source() {
        for (flag, environment, name) in [(Some("info,x=loud"), None, "--log-level"), (None, Some("a=b=c"), ENV)] {
            let error = filter(flag, environment).expect_err("not a level").to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn the_format_is_chosen_by_flag_and_terminal() {
        let text = Style::Text { colour: false };
        for (format, terminal, style) in [
            (LogFormat::Auto, true, text),
            (LogFormat::Auto, false, Style::Json),
            (LogFormat::Text, false, text),
            (LogFormat::Json, true, Style::Json),
        ] {
            assert_eq!(Style::of(format, terminal, false), style, "{format:?} {terminal}");
        }
        for format in [LogFormat::Auto, LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("xml".parse::<LogFormat>(), Err(LoggingError::Format("xml".to_owned())));
    }
}
