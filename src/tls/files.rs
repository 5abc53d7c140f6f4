//! The files that something was made of, so that a change of any of them is seen.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::TlsError;
use crate::stamp::Stamp;

/// A larger file is none of certificates and keys. Bundles of all public authorities have about 250 KB.
pub const MAX_BYTES: u64 = 4 << 20;

/// What was read, as it was then.
#[derive(Default)]
pub struct Files(Vec<Seen>);

struct Seen {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// Of the content; none where it could not be read.
    digest: Option<[u8; 32]>,
}

impl Files {
    /// Reads a whole file, which may be a secret: the memory is wiped when it is dropped.
    pub fn read(&mut self, path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
        // Before the reading, so that no change after it goes unseen.
        let stamp = Stamp::of(path);
        let read = read(path);
        let digest = read.as_ref().ok().map(|bytes| Sha256::digest(bytes.as_slice()).into());
        self.0.push(Seen { path: path.to_owned(), stamp, digest });
        read
    }

    /// How they looked when they were read.
    pub fn seen(&self) -> Vec<Option<Stamp>> {
        self.0.iter().map(|seen| seen.stamp).collect()
    }

    /// How they look now.
    pub fn look(&self) -> Vec<Option<Stamp>> {
        self.0.iter().map(|seen| Stamp::of(&seen.path)).collect()
    }

    /// What they held.
    pub fn digests(&self) -> Vec<Option<[u8; 32]>> {
        self.0.iter().map(|seen| seen.digest).collect()
    }

    /// What the file that was read last held.
    pub fn last_digest(&self) -> Option<[u8; 32]> {
        self.0.last().and_then(|seen| seen.digest)
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unreadable = |error: std::io::Error| TlsError::new(path, format!("cannot be read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(TlsError::new(path, "is not a file; expected one in PEM format"));
    }
    // Large enough at once: a buffer that grows leaves copies of what it held behind.
    let space = usize::try_from(metadata.len().min(MAX_BYTES)).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(space));
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(TlsError::new(path, format!("has more than {MAX_BYTES} bytes; expected certificates or a key")));
    }
    Ok(bytes)
}
