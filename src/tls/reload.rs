//! What was made of files, made anew when they change, and swapped whole.
//!
//! One looks at the files every [`EVERY`]: what they look like from outside, wherever their links lead by then, which
//! also finds a Kubernetes secret's swapped directory. Changed files are read once they have rested for a look, since
//! a certificate and its key are most often written one after the other. What then cannot be used changes nothing:
//! it is logged with its place and reason, counted, and shown until the files are good again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::TlsError;
use super::certificate::Certificate;
use super::files::Files;
use crate::stamp::Stamp;
use crate::telemetry::tls::{CertificateFigures, TlsFigures};

/// How often one looks.
pub const EVERY: Duration = Duration::from_secs(1);

/// What can be made of files.
pub trait OfFiles: Send + Sync + 'static {
    /// Our own certificates in it, each with the file that it is from.
    fn certificates(&self) -> Vec<(String, &Certificate)>;
}

/// Makes it; the one that is live is given where there is one. All files are read through [`Files`].
type Make<T> = Box<dyn Fn(&mut Files, Option<&T>) -> Result<T, TlsError> + Send + Sync>;

/// Holds what is live.
pub struct Cell<T> {
    /// In the configuration, for those who read of it.
    place: String,
    make: Make<T>,
    live: ArcSwap<T>,
    state: Mutex<State>,
}

struct State {
    /// What `live` is made of. Other files are tried until they are good: one that is not yet valid will be.
    used_files: Files,
    used: Vec<Option<[u8; 32]>>,
    /// How the files looked when they were found changed.
    changed: Option<Vec<Option<Stamp>>>,
    error: Option<TlsError>,
}

impl<T: OfFiles> Cell<T> {
    fn new(place: String, make: Make<T>) -> Result<Self, TlsError> {
        let mut files = Files::default();
        let live = ArcSwap::from_pointee(make(&mut files, None)?);
        let state = State { used: files.digests(), used_files: files, changed: None, error: None };
        Ok(Self { place, make, live, state: Mutex::new(state) })
    }

    /// What is used just now.
    pub fn load(&self) -> Guard<Arc<T>> {
        self.live.load()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cell, whatever it holds.
trait Watched: Send + Sync {
    fn look(&self) -> Looked;
    fn status(&self) -> Status;
}

/// How a look ended.
#[derive(Debug, PartialEq, Eq)]
enum Looked {
    Same,
    Renewed,
    Refused(TlsError),
}

/// What is to be known of a cell.
#[derive(Clone, Debug)]
pub struct Status {
    pub place: String,
    pub certificates: Vec<(String, Certificate)>,
    /// Why the files as they are now are not used.
    pub error: Option<TlsError>,
}

impl<T: OfFiles> Watched for Cell<T> {
    fn look(&self) -> Looked {
        let mut state = self.state();
        let look = state.used_files.look();
        if look == state.used_files.seen() {
            (state.changed, state.error) = (None, None);
            return Looked::Same;
        }
        if state.changed.as_ref() != Some(&look) {
            state.changed = Some(look);
            return Looked::Same;
        }
        let mut files = Files::default();
        let made = (self.make)(&mut files, Some(&self.live.load()));
        state.changed = None;
        let same = files.digests() == state.used && state.error.is_none();
        match made {
            Ok(_) if same => {
                state.used_files = files;
                Looked::Same
            }
            Ok(made) => {
                self.live.store(Arc::new(made));
                (state.used, state.used_files, state.error) = (files.digests(), files, None);
                Looked::Renewed
            }
            Err(error) if state.error.as_ref() == Some(&error) => Looked::Same,
            Err(error) => {
                state.error = Some(error.clone());
                Looked::Refused(error)
            }
        }
    }

    fn status(&self) -> Status {
        let live = self.load();
        let certificates = live.certificates().into_iter().map(|(file, own)| (file, own.clone())).collect();
        Status { place: self.place.clone(), certificates, error: self.state().error.clone() }
    }
}

/// All that is kept up to date. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Cells(Arc<Registry>);

#[derive(Default)]
struct Registry {
    /// Those that nobody holds any more are let go of at a look.
    cells: Mutex<Vec<Weak<dyn Watched>>>,
    renewed: AtomicU64,
    refused: AtomicU64,
}

impl Cells {
    /// Makes something of files for the first time, and keeps it up to date while it is held.
    pub fn make<T: OfFiles>(
        &self,
        place: impl Into<String>,
        make: impl Fn(&mut Files, Option<&T>) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Arc<Cell<T>>, TlsError> {
        let cell = Arc::new(Cell::new(place.into(), Box::new(make))?);
        let watched: Arc<dyn Watched> = cell.clone();
        self.cells().push(Arc::downgrade(&watched));
        Ok(cell)
    }

    fn cells(&self) -> MutexGuard<'_, Vec<Weak<dyn Watched>>> {
        self.0.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> Vec<Arc<dyn Watched>> {
        let mut cells = self.cells();
        cells.retain(|cell| cell.strong_count() > 0);
        cells.iter().filter_map(Weak::upgrade).collect()
    }

    /// Looks at all files once.
    pub fn look(&self) {
        for cell in self.held() {
            match cell.look() {
                Looked::Same => {}
                Looked::Renewed => {
                    self.0.renewed.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(place = cell.status().place, "certificates renewed");
                }
                Looked::Refused(error) => {
                    self.0.refused.fetch_add(1, Ordering::Relaxed);
                    let place = cell.status().place;
                    tracing::error!(place, %error, "certificates not renewed; those before stay in use");
                }
            }
        }
    }

    /// Looks again and again, until stopped.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let stopped = stop.wait_for(|stop| *stop);
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                () = tokio::time::sleep(EVERY) => self.look(),
            }
        }
    }

    pub fn status(&self) -> Vec<Status> {
        self.held().iter().map(|cell| cell.status()).collect()
    }

    /// For the scrape: each certificate file once.
    pub fn figures(&self) -> TlsFigures {
        let status = self.status();
        let failing = status.iter().filter(|status| status.error.is_some()).count();
        let of_file = |(file, own): (String, Certificate)| CertificateFigures { file, not_after: own.not_after };
        let mut certificates: Vec<_> = status.into_iter().flat_map(|status| status.certificates).map(of_file).collect();
        certificates.sort_by(|a, b| (&a.file, a.not_after).cmp(&(&b.file, b.not_after)));
        certificates.dedup_by(|later, earlier| later.file == earlier.file);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TlsFigures { certificates, renewed: count(&self.0.renewed), refused: count(&self.0.refused), failing }
    }
}

#[cfg(test)]
mod tests;
