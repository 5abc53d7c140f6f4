//! How the configuration's last reload went, and what TLS is spoken with.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::Serialize;

use super::wall_time;
use crate::telemetry::reload::Reloads;
use crate::tls::certificate::Certificate;
use crate::tls::reload::Status;

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// Of the live file.
    pub config_hash: String,
    pub reloads_succeeded: u64,
    pub reloads_failed: u64,
    pub last_success_at: Option<String>,
    /// Of the newest reload, if it failed: the live configuration is then an older one.
    pub error: Option<ReloadError>,
    /// Where TLS is spoken, and with which certificates.
    pub tls: Vec<TlsStatus>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsStatus {
    /// In the configuration, such as `listeners[0].tls`.
    pub place: String,
    /// Those in use.
    pub certificates: Vec<CertificateView>,
    /// Why the files as they are now are not used.
    pub error: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateView {
    pub file: String,
    pub subject: String,
    /// The DNS names that it is for.
    pub names: Vec<String>,
    pub not_after: String,
    /// Negative where it has ended.
    pub days_left: i64,
}

impl TlsStatus {
    fn new(status: Status, now: SystemTime) -> Self {
        let view = |(file, certificate): (String, Certificate)| CertificateView {
            file,
            days_left: certificate.days_left(now),
            not_after: wall_time(certificate.not_after),
            subject: certificate.subject,
            names: certificate.dns,
        };
        let certificates = status.certificates.into_iter().map(view).collect();
        Self { place: status.place, certificates, error: status.error.map(|error| error.to_string()) }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReloadError {
    pub at: String,
    pub text: String,
}

impl ConfigStatus {
    pub fn new(reloads: Reloads, tls: Vec<Status>, now: SystemTime) -> Self {
        Self {
            config_hash: reloads.hash,
            reloads_succeeded: reloads.succeeded,
            reloads_failed: reloads.failed,
            last_success_at: reloads.last_success.map(wall_time),
            error: reloads.error.map(|(at, text)| ReloadError { at: wall_time(at), text }),
            tls: tls.into_iter().map(|status| TlsStatus::new(status, now)).collect(),
        }
    }
}
