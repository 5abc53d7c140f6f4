//! The whole way of a file: bad ones against their golden errors, the examples, the schema.
//!
//! `POINTSMAN_BLESS=1` writes what is golden anew; look at the difference before you commit it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::control::health::CheckKind;
use crate::control::model::{OnBreach, Strategy};
use crate::control::prometheus::QueryLimit;
use crate::judge::{GuardTest, Limit};
use crate::routing::ids::Weight;
use crate::routing::spec::{
    Attribute, Dialect, EjectionSpec, Encoded, EndpointAddress, HostPolicy, PinPolicy, ResponseId, Scheme, StreamSpec,
    TokenPlace,
};
use crate::telemetry::stats::Usage;

mod examples;
mod fuzz;
mod golden;
mod meaning;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The variables that files of the tests may use.
fn env(name: &str) -> Option<String> {
    let set = BTreeMap::from([("PORT", "8080"), ("WORKERS", "3"), ("TOKEN", "a-secret"), ("VERSION", "1.5.0")]);
    set.get(name).map(|value| (*value).to_owned())
}

fn parse(text: &str) -> Config {
    Config::parse("t.yaml", text, &env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> String {
    Config::parse("t.yaml", text, &env).expect_err("there are errors").to_string()
}

/// Compares with the file at `path`, or writes it where one asks for that.
fn compare_golden(path: &Path, got: &str) {
    if std::env::var_os("POINTSMAN_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(path, got).unwrap();
        return;
    }
    let want = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(got, want, "{} is not current; POINTSMAN_BLESS=1 writes it anew", path.display());
}

fn files_in(directory: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join(directory)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    paths.sort();
    paths
}
