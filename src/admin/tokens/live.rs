//! The tokens as the running instance knows them: each request asks whether the file has changed since.
//!
//! The file is looked at on a thread that may wait for a disk, so that a stalled one delays the request that
//! asks and nothing else. A file that cannot be read admits nobody: the last good one may hold what was revoked.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::Token;
use super::file::TokenFile;

/// `None`: there is no file, and there are no tokens.
type Known = Result<Option<Arc<[Token]>>, Unreadable>;

/// The reason is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

#[derive(Clone)]
pub struct LiveTokens(Arc<Inner>);

struct Inner {
    file: TokenFile,
    seen: Mutex<Option<(Stamp, Known)>>,
}

/// A file that was replaced differs in at least one of these.
#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl LiveTokens {
    pub fn new(file: TokenFile) -> Self {
        Self(Arc::new(Inner { file, seen: Mutex::default() }))
    }

    pub async fn current(&self) -> Known {
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || inner.current()).await.unwrap_or(Err(Unreadable))
    }
}

impl Inner {
    fn current(&self) -> Known {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = File::open(self.file.path()).and_then(|file| Ok((Stamp::of(&file)?, file)));
        let (stamp, file) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *seen = None;
                return Ok(None);
            }
            Err(error) => {
                *seen = None;
                tracing::error!(file = %self.file.path().display(), %error, "the tokens cannot be read");
                return Err(Unreadable);
            }
        };
        if let Some((_, known)) = seen.as_ref().filter(|(at, _)| *at == stamp) {
            return known.clone();
        }
        let known = self.file.read_from(file).map(|tokens| Some(tokens.into())).map_err(|error| {
            tracing::error!(error = format!("{error:#}"), "the tokens cannot be read");
            Unreadable
        });
        *seen = Some((stamp, known.clone()));
        known
    }
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let data = file.metadata()?;
        Ok(Self { inode: data.ino(), length: data.len(), changed: (data.ctime(), data.ctime_nsec()) })
    }
}
